"""Outbox: an SQLite file of alerts, shared by the server's notification block and the sensor's dispatcher."""

import os
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

SCHEMA = ("outbox.sql", "outbox_2.sql", "outbox_3.sql")
"""The n-th script migrates from version n - 1 to n."""
VERSION = len(SCHEMA)
BUSY_SECONDS = 10.0
ALIVE_SECONDS = 10.0
"""A dispatcher that has not reported for this long does not count as running."""


class OutboxError(Exception):
    """The outbox cannot be used; the message says why."""


class Outbox:
    """One connection to the outbox; every thread opens its own."""

    def __init__(self, path: Path) -> None:
        """Open the outbox; if it does not exist, create it, readable by its owner only. Raises OutboxError."""
        self.path = path
        self._alive = path.with_name(f"{path.name}.alive")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never open a file that is in use: closing it would release SQLite's locks on it in this process, and two
            # connections would write at the same time. So only the process that creates the file opens it here.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            try:
                self._prepare()
                self._file = _identity(path)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"the outbox of alerts at {path} cannot be opened: {error}; check the disk and the folder's "
                "permissions; if it is corrupt, move it away: every alert is in the log of alerts as well"
            ) from error

    def _prepare(self) -> None:
        self._write_ahead()
        # FULL, so that a recorded delivery survives a power cut.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if self._version() < VERSION:
            with self.transaction():
                for script in SCHEMA[self._version() :]:  # another process may have migrated it first
                    for statement in files("automations.delivery").joinpath(script).read_text("utf-8").split(";\n"):
                        self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        elif self._version() > VERSION:
            raise sqlite3.DatabaseError(f"it is of version {self._version()}, this program knows {VERSION}")

    def _write_ahead(self) -> None:
        """Turn on write-ahead logging, so that readers and the writer do not wait for each other.

        SQLite does not wait for the lock that this takes on a new file: it immediately reports that the file is locked.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Run the block in a transaction that is rolled back on any exception."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query."""
        return self._connection.execute(statement, parameters).fetchall()

    def changes_of_others(self) -> int:
        """Return a number that changes when another connection has changed something."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def record_heartbeat(self) -> None:
        """Report that a dispatcher is running and delivers what is posted."""
        descriptor = os.open(self._alive, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def has_dispatcher(self, now: datetime) -> bool:
        """Return whether a dispatcher has reported lately that it is running."""
        try:
            said = self._alive.stat().st_mtime
        except OSError:
            return False
        # A report from the future does not count: the clock was set back, and the dispatcher may have died since.
        return abs(now.timestamp() - said) < ALIVE_SECONDS

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the path is still the one that was opened, not moved away or replaced."""
        try:
            return _identity(self.path) == self._file
        except OSError:
            return False

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def stamp(moment: datetime) -> str:
    """Return a time in the format of the outbox: UTC, ISO 8601, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
