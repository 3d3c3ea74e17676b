"""`just check`: what it prints and writes, its exit status, and what is wrong with a call."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sensors.cli.check import CheckOptions, show_check
from tests.documentation import ROOT

GOOD, BAD = "id,name\n1,x\n2,y\n", "id,name\n1,x\n2,y,z\n"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the state folder of a stack that has never run; the files are in the folder of the call."""
    folder, state = tmp_path / "files", tmp_path / "state"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in {"STATE_DIR": str(state), "ENV_FILE": str(tmp_path / "none.env"), "INBOXES_FILE": ""}.items():
        monkeypatch.setenv(name, value)
    return state


def write(name: str, content: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content)
    return name


def run(*files: str, as_json: bool = False, **options: Any) -> int:
    return show_check(CheckOptions(files, **options), as_json=as_json)


def document(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return json.loads(capsys.readouterr().out)


def test_the_exit_status_says_whether_all_load(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write("good.csv", GOOD), write("bad.csv", BAD)
    assert [run(good), run(good, bad), run("none.csv")] == [0, 1, 2]


def test_the_document_has_an_object_for_each_file_in_their_order(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write("bad.csv", BAD), write("good.csv", GOOD), as_json=True) == 1
    bad, good = document(capsys)
    assert list(bad) == list(good) == ["file", "outcome", "reason", "format", "columns", "rows", "quarantined"]
    assert (bad["file"], bad["outcome"], bad["rows"]) == ("bad.csv", "rejected", 0)
    assert bad["reason"] == "line 3: expected 2 columns, got 3"
    assert (good["file"], good["outcome"], good["reason"], good["rows"]) == ("good.csv", "loads", None, 2)
    assert good["format"]["delimiter"] == ","
    assert [column["name"] for column in good["columns"]] == ["id", "name"]
    assert not state.exists()


def test_files_are_read_by_the_rules_of_a_file_and_rows_put_aside_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = write("rules.yaml", "bad_rows: {quarantine: 1}\nfiles:\n  a.csv: {format: {delimiter: '||'}}\n")
    assert run(write("a.csv", "id||name\n1||x\n"), write("b.csv", BAD), as_json=True, rules=rules) == 0
    first, second = document(capsys)
    assert [(one["outcome"], one["quarantined"]) for one in (first, second)] == [("loads", 0), ("loads", 1)]
    assert run("b.csv", rules=rules) == 0
    assert "1 row put aside" in capsys.readouterr().out
    assert run("b.csv", rules=write("wrong.json", '{"bad_row": 1}')) == 2
    assert capsys.readouterr().err.strip() == "--rules: bad_row: there is no such rule; did you mean bad_rows?"


def test_a_person_sees_format_columns_rows_and_the_line_at_fault(capsys: pytest.CaptureFixture[str]) -> None:
    run(write("bad.csv", BAD), write("good.csv", GOOD))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "bad.csv: rejected: line 3: expected 2 columns, got 3" in lines
    assert "> 3 | 2,y,z" in lines
    assert "good.csv: loads, 2 rows" in lines
    assert "csv; delimiter , (comma), double quotes, UTF-8, names in line 1" in lines
    assert "id BIGINT id BIGINT new" in lines
    assert "1 x" in lines
    assert lines[-1] == "2 files: 1 load, 1 rejected"


def test_of_many_files_one_line_each_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(*(write(f"{at}.csv", GOOD) for at in range(11)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines[:2]] == ["0.csv: loads, 2 rows", "1.csv: loads, 2 rows"]
    assert len(lines) == 12


def test_nothing_in_a_file_or_its_name_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x9b31m\x07\u202e"
    good = write(f"{hostile}.csv", f"id,[red]name\n1,{hostile}\n2,[bold]x\n")
    bad = write("bad.csv", f"id,name\n1,{hostile}\n2,y,{hostile}\n")
    run(good, bad, f"none{hostile}.csv")
    run(good, bad)
    said = capsys.readouterr()
    shown = (said.out + said.err).replace("\n", "")
    assert shown.isprintable()
    assert "[bold]x" in shown
    assert "[red]name" in shown


def test_all_mistakes_of_a_call_are_said_together(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    os.mkfifo("fifo.csv")
    write("occupied", "a file")
    files = ("none.csv", "folder", "fifo.csv")
    assert run(*files, inbox="nope", table="two.parts", out="occupied/in") == 2
    said = capsys.readouterr()
    assert said.out == ""
    for mistake in (
        "--inbox: there is no inbox 'nope'; there are: metrics",
        "none.csv: cannot be read: No such file or directory",
        "folder: expected a file, got a folder",
        "fifo.csv: expected a regular file",
        "--out: expected a folder",
        "--table: expected catalog.schema.table",
    ):
        assert mistake in said.err


def test_a_file_that_may_not_be_read_is_a_mistake_of_the_call() -> None:
    write("secret.csv", GOOD)
    Path("secret.csv").chmod(0)
    Path.cwd().chmod(0o755)
    code = (
        "import os; from sensors.cli.check import _why_no_file\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"
        "print(_why_no_file('secret.csv'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "secret.csv: cannot be read: Permission denied\n"


def test_the_rows_are_written_beside_each_other_under_the_names_of_their_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(write("in/good.csv", "b,a\nx,1\ny,2\n"), write("in/none.csv", "b,a\n"), write("bad.csv", BAD), out="new/out")
    assert sorted(one.name for one in Path("new/out").iterdir()) == ["good.csv.parquet", "none.csv.parquet"]
    got = duckdb.sql("SELECT * FROM 'new/out/good.csv.parquet'")
    assert (got.columns, got.fetchall()) == (["b", "a"], [("x", 1), ("y", 2)])
    none = duckdb.sql("SELECT * FROM 'new/out/none.csv.parquet'")
    assert (none.columns, none.fetchall()) == (["b", "a"], [])
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(Path("new/out/good.csv.parquet").stat().st_mode) == 0o666 & ~umask


def test_the_rows_of_an_earlier_check_are_not_left_beside_a_rejection() -> None:
    run(write("a.csv", GOOD), out="out")
    assert Path("out/a.csv.parquet").exists()
    run(write("a.csv", BAD), out="out")
    assert list(Path("out").iterdir()) == []


def test_two_files_of_one_name_do_not_replace_each_others_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("north/a.csv", GOOD), write("south/a.csv", GOOD), out="out") == 2
    assert "--out: north/a.csv and south/a.csv would both be written to a.csv.parquet" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_rows_do_not_replace_a_file_that_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    duckdb.sql("COPY (SELECT 1 AS id) TO 'a.csv.parquet'")
    assert run("a.csv.parquet", write("a.csv", GOOD), out=".") == 2
    assert "--out: the rows of a.csv would replace a.csv.parquet" in capsys.readouterr().err
    assert duckdb.sql("FROM 'a.csv.parquet'").fetchall() == [(1,)]


def test_an_inbox_holds_files_to_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inboxes.yaml").write_text("inboxes: {small: {patterns: ['*.csv'], max_file_bytes: 20, empty: reject}}")
    monkeypatch.setenv("INBOXES_FILE", str(tmp_path / "inboxes.yaml"))
    files = [write("a.csv", GOOD), write("big.csv", GOOD * 2), write("a.tsv", GOOD), write(".h.csv", GOOD)]
    assert run(*files, write("empty.csv", ""), inbox="small", as_json=True) == 1
    assert [one["reason"] for one in document(capsys)] == [
        None,
        "the file has 32 bytes, inbox 'small' takes at most 20",
        "inbox 'small' takes *.csv, not this kind of file",
        "inbox 'small' leaves it alone: hidden name",
        "the file is empty",
    ]


def test_files_are_checked_against_the_table_of_the_inbox(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.mkdir()
    with duckdb.connect(state / "warehouse.duckdb") as connection:
        connection.execute("CREATE SCHEMA public; CREATE TABLE public.daily_metrics (id BIGINT)")
    file = write("a.csv", "id\n1\nx\n")
    assert run(file, inbox="metrics", as_json=True) == 1
    assert document(capsys)[0]["reason"] == 'line 3, column "id": "x" is not a BIGINT'
    assert run(file, as_json=True) == 0
    assert run(file, table="warehouse.public.other") == 0
    assert run(file, table="Warehouse.Public.Daily_Metrics") == 1
    assert [one.name for one in state.iterdir()] == ["warehouse.duckdb"]


def test_a_table_of_another_catalog_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("a.csv", GOOD), table="sales.public.t", as_json=True) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "expected warehouse.public.t" in said.err


def test_the_modules_that_lie_beside_the_files_are_not_imported() -> None:
    file = write("a.csv", GOOD)
    for name in ("json.py", "duckdb.py", "typer.py"):
        write(name, "raise SystemExit('imported')\n")
    just = [ROOT / ".venv" / "bin" / "just", "--justfile", ROOT / "justfile", "check", "--json", file]
    if not just[0].exists():
        pytest.skip("the command's runner is not installed in .venv")
    done = subprocess.run(just, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])[0]["outcome"]) == (0, "loads"), done.stderr
