"""The ledger's SQLite file: opened, checked, and changed one transaction at a time."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

VERSION = 1
"""The schema's version, kept in SQLite's `user_version`."""

BUSY_SECONDS = 30.0


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class Ledger:
    """One connection to the ledger; a thread that works with it opens its own.

    Writes go through `transaction()`: the states' conditional updates say by their row count who won.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the ledger at `path`, making it unless `read_only`; raises LedgerError."""
        if read_only and not path.is_file():
            raise LedgerError(f"no ledger at {path}: nothing has been dropped yet, or STATE_DIR is another one")
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.row_factory = sqlite3.Row
            self._prepare(path, read_only=read_only)
        except (sqlite3.DatabaseError, OSError) as error:
            raise LedgerError(
                f"the ledger at {path} cannot be opened: {error}; check the disk and the folder's permissions, "
                "or put the file aside together with its -wal and -shm"
            ) from error

    def _prepare(self, path: Path, *, read_only: bool) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL, so that what the ledger says it did survives a power cut.
            self._connection.execute("PRAGMA synchronous = FULL")
            with self.transaction():
                if self._version() == 0:
                    schema = files("sensors.ledger").joinpath("schema.sql").read_text("utf-8")
                    for statement in _statements(schema):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {VERSION}")
        if self._version() > VERSION:
            raise LedgerError(
                f"the ledger at {path} is of version {self._version()}, this program knows {VERSION}: "
                "update the program, or give it another STATE_DIR"
            )

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Do everything inside, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk makes SQLite roll back by itself
                self._connection.execute("ROLLBACK")
            raise

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def change_many(self, statement: str, parameters: Sequence[Sequence[Any]]) -> int:
        """Run one statement for each of the parameters and return how many rows they changed."""
        return self._connection.executemany(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query."""
        return self._connection.execute(statement, parameters).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _statements(script: str) -> list[str]:
    """Return a script's statements; `executescript` would commit the transaction that is open."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def stamp(moment: datetime) -> str:
    """Return a moment as the ledger writes it: UTC, ISO 8601, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment(written: str | None) -> datetime | None:
    """Return what `stamp` wrote, or None."""
    return None if written is None else datetime.fromisoformat(written)
