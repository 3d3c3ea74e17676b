"""SQLite file with versions: opening, migrations, transactions, integrity check and the kinds of SQLite's errors.

The ledger (`sensors.ledger.database`) and the outbox (`automations.delivery.outbox`) are such files.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

PROGRESS_STEPS = 100_000
"""How many SQLite virtual machine instructions a check runs between two calls of its progress callback."""


class SqliteFault(StrEnum):
    """The kind of an error, as far as it decides what to do about it."""

    LOCKED = "locked"
    CORRUPT = "corrupt"
    DISK_FULL = "disk full"
    OTHER = "other"


def fault_of(error: BaseException) -> SqliteFault:
    """Return the kind of an error; OTHER also if it is not from SQLite."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code, without the details of an extended one
        case sqlite3.SQLITE_BUSY:
            return SqliteFault.LOCKED
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return SqliteFault.CORRUPT
        case sqlite3.SQLITE_FULL:
            return SqliteFault.DISK_FULL
        case _:
            return SqliteFault.OTHER


class OtherVersionError(sqlite3.DatabaseError):
    """The file has a version of the schema that this program cannot use."""

    def __init__(self, found: int, known: int) -> None:
        self.found = found
        super().__init__(f"it is of version {found}, this program knows {known}")


class SqliteFile:
    """One connection to an SQLite file; each thread opens its own.

    Writes go through `transaction()`. A subclass sets the class variables and calls `_open`.
    """

    PACKAGE: ClassVar[str]
    """The package whose folder `schema` has the scripts: `N.sql` migrates from version N - 1 to N."""
    VERSION: ClassVar[int]
    """The version of the schema, kept in SQLite's `user_version`."""
    BUSY_SECONDS: ClassVar[float]
    """How long to wait for another process's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: tuple[int, int] | None = None
        """The device and inode of the open file."""

    def _open(self, mode: Literal["ro", "rw", "rwc"]) -> None:
        """Open the file, and migrate it unless it is read only; `rwc` creates it if it is missing.

        Raises OtherVersionError, sqlite3.Error, OSError.
        """
        if mode == "rwc":
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Readable by its owner only. Never open a file that is in use: closing it would release SQLite's locks on
            # it in this process, and two connections would write at the same time. So only the process that creates
            # the file opens it here.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self.BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        self._connection.row_factory = sqlite3.Row
        try:
            # Each thread has a connection: SQLite's default caches of 2 MB each would be most of the process's memory.
            self._connection.execute("PRAGMA cache_size = -512")
            self._prepare(read_only=mode == "ro")
            self.identity = identity_of(self.path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, *, read_only: bool) -> None:
        found = self._version()
        if found > self.VERSION or (read_only and found < self.VERSION):
            raise OtherVersionError(found, self.VERSION)
        if not read_only:
            self._write_ahead()
            # FULL, so that a committed transaction survives a power cut.
            self._connection.execute("PRAGMA synchronous = FULL")
            if found < self.VERSION:
                self._migrate()
        self._connection.execute("PRAGMA foreign_keys = ON")

    def _write_ahead(self) -> None:
        """Turn on write-ahead logging, so that readers and the writer do not wait for each other.

        SQLite does not wait for the lock that this takes on a new file: it immediately reports that the file is locked.
        """
        deadline = time.monotonic() + self.BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if fault_of(error) is not SqliteFault.LOCKED or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _migrate(self) -> None:
        """Migrate an older file or an empty one to VERSION, in one transaction."""
        with SqliteFile.transaction(self):  # a subclass's own may need the open file
            for version in range(self._version() + 1, self.VERSION + 1):  # another process may have migrated it first
                script = files(self.PACKAGE).joinpath("schema", f"{version}.sql").read_text("utf-8")
                for statement in _statements(script):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {version}")
            if self._connection.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.DatabaseError("rows refer to others that are not there")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def damage(self, progress: Callable[[], None] | None = None) -> str:
        """Read the whole file and return how it is corrupt, or an empty string; a million rows take about a second.

        `progress` is called regularly meanwhile.
        """
        if progress is not None:
            self._connection.set_progress_handler(progress, PROGRESS_STEPS)
        try:
            found = [row[0] for row in self._connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
        return "" if found == ["ok"] else "; ".join(found)

    @property
    def is_in_place(self) -> bool:
        """Whether the file at the path is still the one that was opened. Raises OSError."""
        return identity_of(self.path) == self.identity

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit everything inside the block, or nothing; a nested transaction becomes part of the outer one."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # on a full disk SQLite has already rolled back
                self._connection.execute("ROLLBACK")
            raise

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement in a transaction; return how many rows it changed."""
        with self.transaction():
            return self._connection.execute(statement, parameters).rowcount

    def change_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> int:
        """Run one statement in a transaction for each set of parameters; return how many rows were changed in all."""
        with self.transaction():
            return self._connection.executemany(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._connection.execute(statement, parameters).fetchall()

    def pragma(self, statement: str) -> None:
        """Set how SQLite works on this file, outside a transaction."""
        self._connection.execute(f"PRAGMA {statement}").fetchall()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path, or None if there is none. Raises OSError."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called before each transaction
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _statements(script: str) -> list[str]:
    """Split a script into its statements; `executescript` would commit the open transaction."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements


def stamp(moment: datetime) -> str:
    """Format a time as the files store it: UTC, ISO 8601, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
