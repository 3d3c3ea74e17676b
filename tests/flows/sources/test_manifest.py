"""An arrival's files are loaded as they were when they were staged, or rejected with expected and got."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from flows.document_store import DocumentFolder
from flows.errors import TemporaryError
from flows.loading.file_result import FileResult, Outcome
from flows.loading.insert import Insertion
from flows.source_file import Rejected, SourceFile
from flows.sources.files import files_of, read_manifest
from sensors.arrivals import manifest
from sensors.files.beneath import OpenFolders
from sensors.ledger.arrivals import FileContent
from tests.pipeline import Pipeline

CSV = "id,price\n" + "".join(f"{n},{n}.5\n" for n in range(100))
NDJSON = "".join(f'{{"id": {n}, "price": {n}.5}}\n' for n in range(100))
FILES = {
    "cut.csv": CSV.encode(),
    "cut.tsv": CSV.replace(",", "\t").encode(),
    "cut.ndjson": NDJSON.encode(),
    "cut.csv.gz": gzip.compress(CSV.encode(), mtime=0),
    "north/cut.csv": CSV.encode(),
    "ü 1%.csv": CSV.encode(),
}
GOOD = {f"good-{n}.csv": f"id,price\n{n},{n}.5\n".encode() for n in range(10)}


def staged(pipeline: Pipeline, files: dict[str, bytes], arrival: str = "x") -> Path:
    """Write an arrival as the sensor stages it, with its manifest, and return its folder."""
    for name, content in files.items():
        pipeline.write(name, content, arrival)
    folder = pipeline.folder / arrival
    list_files(folder, arrival, list(files))
    return folder


def list_files(folder: Path, arrival: str, names: list[str]) -> str:
    """Write a manifest of what is there now, and return its digest."""
    with OpenFolders() as folders:
        files = [
            FileContent(name, status.st_size, manifest.content_digest(folders, folder, name), status.st_mtime_ns)
            for name in names
            for status in [(folder / name).stat()]
        ]
    content = manifest.content_of(arrival, files)
    manifest.write(folder, content)
    return manifest.digest_of_content(content)


def by_name(results: list[FileResult]) -> dict[str, FileResult]:
    return {result.file: result for result in results}


def cut_at_a_line(path: Path) -> None:
    content = path.read_bytes()
    half = content.rfind(b"\n", 0, len(content) // 2) + 1 or len(content) // 2
    os.truncate(path, half)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def change_a_digit_and_no_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"99", b"98"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_link(path: Path) -> None:
    path.rename(path.with_name(".moved"))
    path.symlink_to(path.with_name(".moved"))


def replace_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut_at_a_line, empty, lengthen])
def test_a_file_that_is_not_what_was_staged_is_rejected_with_expected_and_got_and_its_neighbours_load(
    pipeline: Pipeline, name: str, damage: Callable[[Path], None]
):
    folder = staged(pipeline, {name: FILES[name], **GOOD})
    damage(folder / name)
    size = (folder / name).stat().st_size
    results = by_name(pipeline.load_in_bulk("x"))
    assert results[name].outcome is Outcome.REJECTED
    said = results[name].reason or ""
    assert said.startswith(f"it is not what it was when it was staged: expected {len(FILES[name]):,} bytes, SHA-256 ")
    assert f", got {size:,} bytes; " in said
    assert "`just retry` the arrival" in said
    assert {one.file: one.outcome for one in results.values() if one.file != name} == dict.fromkeys(
        GOOD, Outcome.LOADED
    )
    assert sorted(pipeline.rows("_file_name")) == [(one,) for one in sorted(GOOD)]


@pytest.mark.parametrize(
    ("damage", "got"),
    [
        (zero, "got 789 bytes, SHA-256 "),
        (change_a_digit_and_no_time, "got 789 bytes, SHA-256 "),
        (remove, "got no file; "),
        (replace_by_a_link, "got a symbolic link; "),
        (replace_by_a_pipe, "got something that is no file; "),
    ],
)
def test_a_file_of_the_same_size_and_one_that_is_gone_are_rejected_as_well(
    pipeline: Pipeline, damage: Callable[[Path], None], got: str
):
    folder = staged(pipeline, {"bad.csv": CSV.encode(), "good.csv": b"id,price\n1,1.5\n"})
    damage(folder / "bad.csv")
    bad, good = pipeline.load_in_bulk("x")
    assert (bad.file, bad.outcome, good.outcome) == ("bad.csv", Outcome.REJECTED, Outcome.LOADED)
    assert "expected 789 bytes, SHA-256 " in (bad.reason or "")
    assert got in (bad.reason or "")
    assert pipeline.rows("_file_name") == [("good.csv",)]


def test_a_parquet_and_a_json_file_are_compared_as_well(make_pipeline: Callable[[Path], Pipeline], tmp_path: Path):
    pipeline = make_pipeline(tmp_path)
    duckdb.sql("SELECT range AS id FROM range(1000)").write_parquet(str(tmp_path / "made.parquet"))
    files = {"a.parquet": (tmp_path / "made.parquet").read_bytes(), "a.json": b'[{"id": 1}, {"id": 2}]'}
    folder = staged(pipeline, files)
    assert [one.outcome for one in pipeline.load_in_bulk("x")] == [Outcome.LOADED] * 2
    folder = staged(pipeline, files, "y")
    for name, content in files.items():
        (folder / name).write_bytes(content.replace(b"1", b"3"))
    assert [one.outcome for one in pipeline.load_in_bulk("y")] == [Outcome.REJECTED] * 2


def test_a_file_that_was_put_into_the_arrival_later_is_not_loaded(pipeline: Pipeline):
    folder = staged(pipeline, dict(GOOD))
    (folder / "later.csv").write_text("id,price\n1,1\n")
    results = by_name(pipeline.load_in_bulk("x"))
    assert results.pop("later.csv").reason == (
        "it was put into the arrival's folder later: the manifest does not list it; drop it into an inbox"
    )
    assert {one.outcome for one in results.values()} == {Outcome.LOADED}


@pytest.mark.parametrize("in_bulk", [True, False])
@pytest.mark.parametrize("damage", [cut_at_a_line, empty, remove])
def test_a_file_that_was_loaded_before_it_was_damaged_counts_as_loaded(
    pipeline: Pipeline, damage: Callable[[Path], None], in_bulk: bool
):
    folder = staged(pipeline, {"a.csv": CSV.encode()})
    assert pipeline.load_in_bulk("x")[0].rows == 100
    damage(folder / "a.csv")
    (again,) = pipeline.load_in_bulk("x") if in_bulk else pipeline.load_arrival("x")
    assert (again.outcome, again.rows) == (Outcome.SKIPPED, 100)
    assert len(pipeline.rows()) == 100


def keeping_its_time(path: Path, damage: Callable[[Path], None]) -> None:
    """Damage a file as a power cut does: its time stays that of its writer."""
    status = path.stat()
    damage(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_that_a_person_has_changed_is_loaded_again_as_it_is_when_its_rows_are_to_be_replaced(pipeline: Pipeline):
    folder = staged(pipeline, {"a.csv": b"id\n1\n", "b.csv": b"id\n2\n"})
    pipeline.load_in_bulk("x")
    (folder / "a.csv").write_text("id\n7\n8\n")
    (folder / "b.csv").write_text("id\n9\n")
    first, second = pipeline.load_in_bulk("x", reload=["a.csv"])
    assert (first.outcome, first.rows, first.replaced, second.outcome) == (Outcome.LOADED, 2, 1, Outcome.SKIPPED)
    assert sorted(pipeline.rows()) == [(2,), (7,), (8,)]


def test_a_rejected_file_that_a_person_has_mended_where_it_is_is_loaded(pipeline: Pipeline):
    folder = staged(pipeline, {"a.csv": b"id\n1\n2,3\n"})
    assert pipeline.load_in_bulk("x")[0].outcome is Outcome.REJECTED
    listed = manifest.read(folder)
    assert listed is not None
    manifest.note_rejected(folder, listed.files)
    (folder / "a.csv").write_text("id\n1\n2\n")
    (file,) = files_of(folder.as_uri(), listed.digest)
    assert isinstance(file, SourceFile)
    assert (file.remark or "").startswith("it was changed after it was staged, and is loaded as it is now: expected 9 ")
    assert pipeline.load_in_bulk("x")[0].rows == 2


def test_a_rejected_file_that_was_damaged_since_is_not_taken_for_a_mended_one(tmp_path: Path):
    folder = staged(Pipeline(tmp_path), {"a.csv": CSV.encode()})
    listed = manifest.read(folder)
    assert listed is not None
    manifest.note_rejected(folder, listed.files)
    keeping_its_time(folder / "a.csv", cut_at_a_line)
    assert isinstance(files_of(folder.as_uri())[0], Rejected)


def test_a_damaged_file_that_is_to_be_loaded_again_is_rejected_and_its_rows_stay(pipeline: Pipeline):
    folder = staged(pipeline, {"a.csv": CSV.encode()})
    pipeline.load_in_bulk("x")
    keeping_its_time(folder / "a.csv", cut_at_a_line)
    (again,) = pipeline.load_in_bulk("x", reload=["*"])
    assert again.outcome is Outcome.REJECTED
    assert len(pipeline.rows()) == 100


def test_one_file_of_an_arrival_is_compared_and_one_beside_it_is_not(tmp_path: Path):
    pipeline = Pipeline(tmp_path)
    folder = staged(pipeline, {"a.csv": CSV.encode(), "b.csv": CSV.encode()})
    (folder / "later.csv").write_text("id\n1\n")
    cut_at_a_line(folder / "a.csv")
    found = {name: files_of((folder / name).as_uri())[0] for name in ("a.csv", "b.csv", "later.csv")}
    assert {name for name, file in found.items() if isinstance(file, Rejected)} == {"a.csv"}


def test_names_of_any_letters_are_found_in_the_manifest(tmp_path: Path):
    names = ["new\nline.csv", "tab\t.csv", 'it\'s "q".csv', "\N{GRINNING FACE}.csv", "a/b c/y.csv"]
    folder = staged(Pipeline(tmp_path), dict.fromkeys(names, b"a\n1\n"))
    found = files_of(folder.as_uri())
    assert [file.name for file in found if not isinstance(file, Rejected)] == sorted(names)
    assert len(found) == len(names)


# -- the manifest itself


def test_an_arrival_from_before_there_were_manifests_loads_as_it_did(pipeline: Pipeline):
    pipeline.write("a.csv", CSV, "x")
    assert pipeline.load_in_bulk("x")[0].outcome is Outcome.LOADED


def without(folder: Path) -> None:
    (folder / manifest.NAME).unlink()


def cut(folder: Path) -> None:
    os.truncate(folder / manifest.NAME, 60)


def emptied(folder: Path) -> None:
    os.truncate(folder / manifest.NAME, 0)


def of_something_else(folder: Path) -> None:
    (folder / manifest.NAME).write_text('{"files": {"a.csv": "1234"}}')


def a_list(folder: Path) -> None:
    (folder / manifest.NAME).write_text("[1]")


def a_folder(folder: Path) -> None:
    without(folder)
    (folder / manifest.NAME).mkdir()


def a_link(folder: Path) -> None:
    (folder / manifest.NAME).rename(folder / ".kept")
    (folder / manifest.NAME).symlink_to(".kept")


@pytest.mark.parametrize("damage", [without, cut, emptied, of_something_else, a_list, a_folder, a_link])
def test_without_the_manifest_that_the_event_says_nothing_is_loaded_unseen(
    tmp_path: Path, damage: Callable[[Path], None]
):
    folder = staged(Pipeline(tmp_path), {"a.csv": CSV.encode()})
    digest = list_files(folder, "x", ["a.csv"])
    assert read_manifest(folder, digest)
    damage(folder)
    with pytest.raises(TemporaryError, match=r"none is loaded: the manifest .* cannot be used, .*`just retry` has"):
        files_of(folder.as_uri(), digest)


def test_a_manifest_that_was_changed_together_with_its_file_is_noticed(tmp_path: Path):
    folder = staged(Pipeline(tmp_path), {"a.csv": CSV.encode()})
    digest = list_files(folder, "x", ["a.csv"])
    lengthen(folder / "a.csv")
    other = list_files(folder, "x", ["a.csv"])
    with pytest.raises(TemporaryError, match=f"expected SHA-256 {digest}, got {other}"):
        files_of(folder.as_uri(), digest)


@pytest.mark.parametrize("damage", [cut, emptied, of_something_else, a_list])
def test_a_damaged_manifest_stops_a_run_by_hand_as_well(tmp_path: Path, damage: Callable[[Path], None]):
    folder = staged(Pipeline(tmp_path), {"a.csv": CSV.encode()})
    damage(folder)
    with pytest.raises(TemporaryError, match="it is damaged"):
        files_of(folder.as_uri())


# -- while it is loaded


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("damage", [cut_at_a_line, lengthen, remove])
def test_a_file_that_changes_between_the_look_and_the_load_is_rejected_with_and_without_a_manifest(
    make_pipeline: Callable[[Path], Pipeline], tmp_path: Path, count: int, damage: Callable[[Path], None]
):
    pipeline = make_pipeline(tmp_path)
    for n in range(count):
        pipeline.write(f"{n}.csv", CSV, "x")
    plans = pipeline.plans("x")
    damage(tmp_path / "x" / "0.csv")
    bad, *good = pipeline.load_plans("x", plans)
    assert (bad.outcome, {one.outcome for one in good}) == (Outcome.REJECTED, {Outcome.LOADED} if good else set())
    assert (bad.reason or "").startswith("it changed while it was being loaded: expected 789 bytes, got ")
    assert count == 1 or sorted({name for (name,) in pipeline.rows("_file_name")}) == sorted(
        f"{n}.csv" for n in range(1, count)
    )


@pytest.mark.parametrize("content", ["id,price\n7,7.5\n", CSV.replace("99", "98")])
def test_a_file_that_changes_during_the_load_is_rolled_back(pipeline: Pipeline, monkeypatch, content: str):
    folder = staged(pipeline, {"a.csv": CSV.encode()})
    insert = Insertion.insert

    def inserted_meanwhile(self: Insertion, *arguments: object, **options: object) -> int:
        rows = insert(self, *arguments, **options)  # pyright: ignore[reportArgumentType]
        (folder / "a.csv").write_text(content)
        return rows

    monkeypatch.setattr(Insertion, "insert", inserted_meanwhile)
    (result,) = pipeline.load_in_bulk("x")
    monkeypatch.undo()
    assert (result.outcome, result.rows) == (Outcome.REJECTED, 0)
    assert "it changed while it was being loaded" in (result.reason or "")
    assert pipeline.execute("SELECT count(*) FROM public._loads") == [(0,)]


def test_a_file_that_only_got_another_mode_meanwhile_is_loaded(pipeline: Pipeline):
    staged(pipeline, {"a.csv": CSV.encode()})
    plans = pipeline.plans("x")
    (pipeline.folder / "x" / "a.csv").chmod(0o640)
    assert pipeline.load_plans("x", plans)[0].outcome is Outcome.LOADED


def test_a_document_is_compared_and_one_that_was_stored_before_stays_stored(tmp_path: Path):
    folder = staged(Pipeline(tmp_path), {"a.json": b'{"a": 1}', "b.json": b'{"b": 1}'})
    with DocumentFolder(tmp_path / "documents") as documents:
        first = documents.store(files_of((folder / "a.json").as_uri())[0], "x")
        (folder / "a.json").write_text("{}")
        (folder / "b.json").write_text("{}")
        again = [documents.store(file, "x") for file in files_of(folder.as_uri())]
    assert first.outcome is Outcome.LOADED
    assert [one.outcome for one in again] == [Outcome.SKIPPED, Outcome.REJECTED]
