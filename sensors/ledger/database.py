"""Connection to the ledger's SQLite file: migrations, transactions, integrity check and restore.

The file may be deleted or replaced while it is in use. Writes then raise LedgerMovedError until it is back in place.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

VERSION = 8
"""Schema version, kept in SQLite's `user_version`; `schema/N.sql` migrates from version N - 1 to N."""

BUSY_SECONDS = 30.0
PROGRESS_STEPS = 100_000
"""How many SQLite virtual machine instructions a check runs between two calls of its progress callback."""


REBUILD = "`just rebuild` puts it aside and makes a new one from the arrivals and from what Prefect knows of them"


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerMovedError(LedgerError):
    """The open file is no longer the one at the ledger's path, so anything written to it would be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the ledger at {path} was deleted or replaced while it was in use; nothing is written until it is back"
        )


class _Restored:
    """Number of restores in this process; a connection opened before the latest one reconnects."""

    times = 0


def refusal_of(error: sqlite3.Error) -> str:
    """Return a message with SQLite's error and what to do about it."""
    return f"the ledger refuses: {error}; {_mend_of(error)}"


def _is_corruption(error: Exception) -> bool:
    return _code_of(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code_of(error: Exception) -> int:
    """Return the primary SQLite error code, or 0 if the error is not from SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _mend_of(error: Exception) -> str:
    """Return what to do about an error from SQLite or the operating system."""
    if _is_corruption(error):
        return REBUILD
    match _code_of(error):
        case sqlite3.SQLITE_FULL:
            return "make room on the disk"
        case sqlite3.SQLITE_BUSY:
            return "another process has it; try again"
        case _:
            return "check the disk, the room on it and the folder's permissions"


class Ledger:
    """One connection to the ledger; each thread opens its own.

    Writes go through `transaction()`. State changes are conditional updates: a row count of 0 means that the row was
    no longer in the expected state.
    """

    def __init__(self, path: Path, *, read_only: bool = False, make: bool = True) -> None:
        """Open the ledger at `path`; creates it if `make` is set and `read_only` is not. Raises LedgerError.

        Connections that are opened while the sensor runs need `make=False`, or they would put an empty ledger in place
        of a deleted one.
        """
        if read_only and not path.is_file():
            raise LedgerError(f"no ledger at {path}: nothing has been dropped yet, or STATE_DIR is another one")
        self.path = path
        self._read_only = read_only
        self._make = make
        self._open()
        self._make = False

    def _open(self) -> None:
        path, read_only = self.path, self._read_only
        self._opened_after = _Restored.times
        self._files: dict[Path, tuple[int, int] | None] = {}
        """Device and inode of the open database file and its write-ahead log."""
        try:
            if not read_only and self._make:
                path.parent.mkdir(parents=True, exist_ok=True)
            mode = "ro" if read_only else "rwc" if self._make else "rw"
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.row_factory = sqlite3.Row
            # Each inbox has a connection: SQLite's default caches of 2 MB each would be most of the process's memory.
            self._connection.execute("PRAGMA cache_size = -512")
            try:
                self._prepare(path, read_only=read_only)
                self._files = {path: identity_of(path)}
                _ = self.is_in_place  # also records the write-ahead log
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise LedgerError(f"the ledger at {path} cannot be opened: {error}; {_mend_of(error)}") from error

    @classmethod
    @contextmanager
    def at_one_moment(cls, path: Path) -> Generator[Self]:
        """Open the ledger read-only; all queries read the snapshot that the first one takes. Raises LedgerError."""
        with cls(path, read_only=True) as ledger:
            ledger._connection.execute("BEGIN")  # ends with the connection
            yield ledger

    def _prepare(self, path: Path, *, read_only: bool) -> None:
        if self._version() > VERSION:
            raise LedgerError(
                f"the ledger at {path} is of version {self._version()}, this program knows {VERSION}: "
                "update the program, or give it another STATE_DIR"
            )
        if not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL, so that a committed transaction survives a power cut.
            self._connection.execute("PRAGMA synchronous = FULL")
            if self._version() < VERSION:
                self._migrate()
        elif self._version() < VERSION:
            raise LedgerError(
                f"the ledger at {path} is of version {self._version()}, this program reads {VERSION}: "
                "`just up` brings it up to date"
            )
        self._connection.execute("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        """Migrate an older ledger or an empty file to VERSION, in one transaction."""
        with self.transaction():
            for version in range(self._version() + 1, VERSION + 1):
                script = files("sensors.ledger").joinpath("schema", f"{version}.sql").read_text("utf-8")
                for statement in _statements(script):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {version}")
            if self._connection.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.DatabaseError("rows refer to others that are not there")

    def check(self, progress: Callable[[], None] | None = None) -> None:
        """Read the whole file and raise LedgerError if it is corrupt; a million rows take about a second.

        `progress` is called regularly during the check.
        """
        if progress is not None:
            self._connection.set_progress_handler(progress, PROGRESS_STEPS)
        try:
            found = [row[0] for row in self._connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
        if found != ["ok"]:
            raise LedgerError(f"the ledger is corrupt: {'; '.join(found)}; {REBUILD}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @property
    def identity(self) -> tuple[int, int] | None:
        """The device and inode of the open file."""
        return self._files[self.path]

    @property
    def is_in_place(self) -> bool:
        """Whether the open file and its write-ahead log are still the ones at the ledger's path."""
        log = self.path.with_name(f"{self.path.name}-wal")
        if log not in self._files and (found := identity_of(log)) is not None:
            self._files[log] = found  # exists from the first statement until the last connection closes
        return all(identity_of(path) == identity for path, identity in self._files.items())

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit everything inside the block, or nothing; a nested transaction becomes part of the outer one.

        Raises LedgerMovedError before anything is written to a file that is no longer in place.
        """
        self._follow()
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._require_in_place()
            with _corruption_told():
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
        """Return all rows of a query. Raises LedgerError if the file turns out to be corrupt."""
        self._follow()
        with _corruption_told():
            return self._connection.execute(statement, parameters).fetchall()

    def hold_open(self) -> None:
        """Keep the file and its WAL open from now on."""
        self.rows("SELECT count(*) FROM sqlite_schema")

    def pragma(self, statement: str) -> None:
        """Set how SQLite works on this file, outside a transaction."""
        self._connection.execute(f"PRAGMA {statement}").fetchall()

    def _require_in_place(self) -> None:
        if not self.is_in_place:
            raise LedgerMovedError(self.path)

    def _follow(self) -> None:
        """Reconnect if the ledger was restored since this connection was opened."""
        if self._opened_after != _Restored.times and not self._connection.in_transaction:
            self._connection.close()
            self._open()

    def copy_to(self, path: Path) -> None:
        """Copy the open file, even if it was deleted or moved, to a new file. Raises OSError, sqlite3.Error.

        The copy is complete: once the open file is out of place, no connection of this process starts another
        transaction in it, and the copy waits for one that is under way.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("ROLLBACK")
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)
        with path.open("rb") as written:
            os.fsync(written.fileno())

    def restore(self) -> None:
        """Put a deleted ledger, or one whose write-ahead log was deleted, back from the file that is still open.

        Every connection of this process reconnects with its next statement. Raises OSError, sqlite3.Error, and
        LedgerMovedError if another file is at the ledger's path.
        """
        if identity_of(self.path) not in {None, self.identity}:
            raise LedgerMovedError(self.path)
        restored = self.path.with_name(f"{self.path.name}.restored")
        self.copy_to(restored)
        for suffix in ("-wal", "-shm"):  # they belong to the file that is still open
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
        restored.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        _Restored.times += 1

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


@contextmanager
def _corruption_told() -> Generator[None]:
    """Raise LedgerError, with what to do, when SQLite finds the file corrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not _is_corruption(error):
            raise
        raise LedgerError(f"the ledger is corrupt: {error}; {REBUILD}") from error


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
    """Format a time as the ledger stores it: UTC, ISO 8601, microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment(written: str | None) -> datetime | None:
    """Parse a time that `stamp` wrote; None stays None."""
    return None if written is None else datetime.fromisoformat(written)
