"""The files of a `file://` source."""

import os
from pathlib import Path

import pytest

from flows.errors import PermanentError, TemporaryError
from flows.source_file import FileFormat, Rejected, SourceFile
from flows.sources.files import files_of


def test_one_file_is_a_source(tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text("a\n1\n")
    assert files_of(path.as_uri()) == (SourceFile(path, "orders.csv", 4, FileFormat.CSV),)


def test_a_folder_gives_its_files_by_name_and_passes_over_all_that_is_not_a_visible_file(tmp_path: Path):
    for name in ("b.csv", "a.json", ".hidden.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "b.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert [file.name for file in files_of(tmp_path.as_uri())] == ["a.json", "b.csv"]


def test_files_in_subfolders_are_found_under_their_paths_from_the_folder_and_sorted_by_them(tmp_path: Path):
    names = ["a b/1.csv", "a.csv", "a/2.csv", "a/b/c/3.csv", "day=1/[*]/4.csv", "z.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    assert [(file.name, file.path) for file in files_of(tmp_path.as_uri()) if isinstance(file, SourceFile)] == [
        (name, tmp_path / name) for name in names
    ]


def test_one_file_of_a_subfolder_is_called_by_its_plain_name(tmp_path: Path):
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "a.csv").write_text("x")
    assert [file.name for file in files_of((tmp_path / "north" / "a.csv").as_uri())] == ["a.csv"]


def test_neither_hidden_folders_nor_symlinks_are_gone_into(tmp_path: Path):
    for folder in ("arrival/.hidden", "arrival/north/.git", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.csv").write_text("x")
    arrival = tmp_path / "arrival"
    (arrival / "link").symlink_to(tmp_path / "elsewhere")
    (arrival / "north" / "round").symlink_to(arrival)
    (arrival / "north" / "link.csv").symlink_to(tmp_path / "elsewhere" / "a.csv")
    (arrival / "north" / "b.csv").write_text("x")
    assert [file.name for file in files_of(arrival.as_uri())] == ["north/b.csv"]


@pytest.mark.parametrize("name", ["a b.csv", "100%.csv", "ü?#[x]*.csv", "a%20b.csv", 'it\'s "q".csv', "new\nline.csv"])
def test_any_name_is_found_under_its_uri(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_text("a\n")
    (file,) = files_of(path.as_uri())
    assert isinstance(file, SourceFile)
    assert file.path == path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.CSV", (FileFormat.CSV, False)),
        ("a.tsv.GZ", (FileFormat.TSV, True)),
        ("a.json.gz", (FileFormat.JSON, True)),
        ("a.jsonl", (FileFormat.NDJSON, False)),
        ("a.ndjson.gz", (FileFormat.NDJSON, True)),
        ("a.Parquet", (FileFormat.PARQUET, False)),
    ],
)
def test_the_suffix_shows_the_format(tmp_path: Path, name: str, expected: tuple[FileFormat, bool]):
    (tmp_path / name).write_text("x")
    (file,) = files_of(tmp_path.as_uri())
    assert isinstance(file, SourceFile)
    assert (file.format, file.compression is not None) == expected


@pytest.mark.parametrize("name", ["notes.txt", "csv", "a.parquet.gz", "a.gz", "a.csv.zip"])
def test_an_unknown_suffix_is_rejected_and_the_others_are_not(tmp_path: Path, name: str):
    (tmp_path / name).write_text("x")
    (tmp_path / "good.csv").write_text("x")
    found = {file.name: file for file in files_of(tmp_path.as_uri())}
    assert isinstance(found["good.csv"], SourceFile)
    bad = found[name]
    assert isinstance(bad, Rejected)
    assert "unknown suffix" in bad.reason


def test_an_empty_file_is_rejected(tmp_path: Path):
    (tmp_path / "a.csv").touch()
    assert files_of(tmp_path.as_uri()) == (Rejected("a.csv", 0, "empty file"),)


def test_a_name_that_is_not_utf_8_is_rejected_under_a_name_that_can_be_shown(tmp_path: Path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))).write_text("x")
    (file,) = files_of(tmp_path.as_uri())
    assert isinstance(file, Rejected)
    assert file.name.encode() == b"\\xff.csv"


@pytest.mark.parametrize(("name", "whose"), [("a.csv", "its folder's"), ("\udcfe.csv", "the file's")])
def test_a_folders_name_that_is_not_utf_8_rejects_the_files_in_it_and_no_others(tmp_path: Path, name: str, whose: str):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / name).write_text("x")
    (tmp_path / "good.csv").write_text("x")
    good, bad = files_of(tmp_path.as_uri())
    assert good.name == "good.csv"
    assert isinstance(bad, Rejected)
    assert bad.name == f"\\xff/{name}".replace("\udcfe", "\\xfe")
    assert bad.reason == f"{whose} name is not UTF-8; rename it"


@pytest.mark.parametrize("what", ["missing", "empty folder"])
def test_a_source_that_is_not_there_is_worth_trying_again(tmp_path: Path, what: str):
    path = tmp_path / "source"
    if what == "empty folder":
        path.mkdir()
    with pytest.raises(TemporaryError, match="expected"):
        files_of(path.as_uri())


def test_a_pipe_is_no_source(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PermanentError, match="neither"):
        files_of((tmp_path / "pipe.csv").as_uri())
