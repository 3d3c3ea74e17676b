"""Ledgers of an older version are brought up to date whole or not at all, and broken ones say what to do."""

import sqlite3
from importlib.resources import files as resources
from pathlib import Path

import pytest

from automations import sqlite_file
from sensors.ledger import Ledger, LedgerError, arrivals, database, files
from sensors.ledger.states import ArrivalState
from tests.dropped_arrivals import waiting_files

ARRIVAL_STATES = ("staging", "staged", "announced", "running", "loaded", "failed")
FILE_STATES = ("seen", "settled", "staging", "staged", "loaded", "rejected", "failed", "withdrawn")
TIMES = tuple(f"2026-11-24T09:00:0{second}.000000+00:00" for second in range(6))
WITHOUT_ARRIVAL = ("seen", "settled", "withdrawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of version 1 with an arrival and a file in every state."""
    made = tmp_path / "ledger.db"
    connection = sqlite3.connect(made)
    connection.executescript(resources("sensors.ledger").joinpath("schema", "1.sql").read_text("utf-8"))
    for n, state in enumerate(ARRIVAL_STATES):
        known = (f"a-{state}", "metrics", f"/arrivals/a-{state}", state, n, TIMES[0], "why")
        row = (*known, *TIMES[1:6], "r", "owl")
        connection.execute(f"INSERT INTO arrivals VALUES ({', '.join('?' * len(row))})", row)
        announced = (f"e-{state}", f"a-{state}", n, *TIMES[:2], "why", "r")
        connection.execute("INSERT INTO announcements VALUES (?, ?, ?, ?, ?, ?, ?)", announced)
    for n, state in enumerate(FILE_STATES):
        arrival = None if state in WITHOUT_ARRIVAL else f"a-{state if state in ARRIVAL_STATES else 'failed'}"
        row = (n, "metrics", f"/{n}.csv", f"{n}.csv", str(2**64 - 1), "7", n, n, state, arrival, n, "why", *TIMES[:4])
        connection.execute(f"INSERT INTO files VALUES ({', '.join('?' * len(row))})", row)
    connection.execute(
        "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, reason, seen_at)"
        " VALUES ('metrics', '/in-place.csv', 'in-place.csv', '1', '1', 1, 1, 'rejected', 'too large', '1')"
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    return made


def content(path: Path) -> dict[str, list[dict[str, object]]]:
    """Return every row of the tables that version 1 has, and its version."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = {
            table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]
            for table in ("arrivals", "files", "announcements")
        }
        return {**found, "version": [dict(row) for row in connection.execute("PRAGMA user_version")]}
    finally:
        connection.close()


def test_every_row_of_version_1_is_kept(path):
    old = content(path)
    with Ledger(path) as ledger:
        ledger.check()
        assert ledger.rows("PRAGMA foreign_key_check") == []
    new = content(path)
    assert new["version"] == [{"user_version": database.VERSION}]
    for table in ("arrivals", "files", "announcements"):
        assert len(new[table]) == len(old[table]) > 0
        assert [{name: row[name] for name in old[table][0]} for row in new[table]] == old[table]
    assert all(row["is_duplicate"] == row["given_up"] == 0 and row["reload"] is None for row in new["arrivals"])


def test_what_is_under_way_goes_on_after_the_migration(path):
    with Ledger(path) as ledger:
        assert [one.id for one in arrivals.in_state(ledger, ArrivalState.RUNNING)] == ["a-running"]
        assert [one.name for one in arrivals.files_to_stage(ledger, "a-staging")] == ["2.csv"]
        assert waiting_files(ledger, "metrics", "state = 'seen'")
        assert waiting_files(ledger, "metrics", "state = 'settled'")
        assert [path for path, _ in files.rejected_in_place(ledger, "metrics")] == ["/in-place.csv"]


def test_to_read_an_old_version_it_has_to_be_brought_up_to_date_first(path):
    old = content(path)
    reported = f"is of version 1, this program reads {database.VERSION}: `just up` brings it up to date"
    with pytest.raises(LedgerError, match=reported):
        Ledger(path, read_only=True)
    assert content(path) == old


@pytest.mark.parametrize("statement", range(1, 14, 3))
def test_a_migration_that_is_killed_half_way_leaves_version_1_as_it_was(path, monkeypatch, statement):
    class Killed(BaseException):
        pass

    old = content(path)
    whole = sqlite_file._statements

    def half(script: str):
        yield from whole(script)[:statement]
        raise Killed

    monkeypatch.setattr(sqlite_file, "_statements", half)
    with pytest.raises(Killed):
        Ledger(path)
    assert content(path) == old
    monkeypatch.undo()
    Ledger(path).close()
    assert content(path)["version"] == [{"user_version": database.VERSION}]


def test_a_migration_that_would_lose_what_a_row_refers_to_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM arrivals WHERE id = 'a-loaded'")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="rows refer to others that are not there"):
        Ledger(path)
    assert content(path)["version"] == [{"user_version": 1}]


@pytest.mark.parametrize("pages", ["first of a table", "all but the first"])
def test_overwritten_pages_are_noticed_and_it_is_said_what_to_do(path, pages):
    with Ledger(path) as ledger:
        size = ledger.rows("PRAGMA page_size")[0][0]
        (row,) = ledger.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'files'")
        ledger.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    start = (row["rootpage"] - 1) * size if pages == "first of a table" else size
    with path.open("r+b") as opened:
        opened.seek(start)
        opened.write(b"\xff" * (size if pages == "first of a table" else path.stat().st_size - size))
    reported = "the ledger is corrupt: .*" if pages == "first of a table" else "cannot be opened: .* malformed.*"
    with pytest.raises(LedgerError, match=rf"{reported}`just rebuild`"), Ledger(path) as ledger:
        ledger.check()


def test_what_is_cut_off_is_noticed(path):
    Ledger(path).close()
    size = path.stat().st_size
    with path.open("r+b") as opened:
        opened.truncate(size // 2)
    with pytest.raises(LedgerError, match="`just rebuild`"), Ledger(path) as ledger:
        ledger.check()


def test_a_read_that_meets_a_corrupt_page_says_what_to_do(path):
    Ledger(path).close()
    with path.open("r+b") as file:
        size = 4096
        for page in range(1, path.stat().st_size // size):
            file.seek(page * size)
            file.write(b"\xff" * size)
    with pytest.raises(LedgerError, match="`just rebuild`"), Ledger(path, read_only=True) as ledger:
        ledger.rows("SELECT * FROM files")
