"""Connection to the ledger's SQLite file: migrations, transactions, integrity check and restore.

The file may be deleted or replaced while it is in use. Writes then raise LedgerMovedError until it is back in place.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from automations.sqlite_file import OtherVersionError, SqliteFault, SqliteFile, fault_of, identity_of, stamp

__all__ = ["REBUILD", "VERSION", "Ledger", "LedgerError", "LedgerMovedError", "moment", "refusal_of", "stamp"]

VERSION = 7
"""Schema version, kept in SQLite's `user_version`; `schema/N.sql` migrates from version N - 1 to N."""

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


def _mend_of(error: Exception) -> str:
    """Return what to do about an error from SQLite or the operating system."""
    match fault_of(error):
        case SqliteFault.CORRUPT:
            return REBUILD
        case SqliteFault.DISK_FULL:
            return "make room on the disk"
        case SqliteFault.LOCKED:
            return "another process has it; try again"
        case SqliteFault.OTHER:
            return "check the disk, the room on it and the folder's permissions"


class Ledger(SqliteFile):
    """One connection to the ledger; each thread opens its own.

    Writes go through `transaction()`. State changes are conditional updates: a row count of 0 means that the row was
    no longer in the expected state.
    """

    PACKAGE = "sensors.ledger"
    VERSION = VERSION
    BUSY_SECONDS = 30.0

    def __init__(self, path: Path, *, read_only: bool = False, make: bool = True) -> None:
        """Open the ledger at `path`; creates it if `make` is set and `read_only` is not. Raises LedgerError.

        Connections that are opened while the sensor runs need `make=False`, or they would put an empty ledger in place
        of a deleted one.
        """
        if read_only and not path.is_file():
            raise LedgerError(f"no ledger at {path}: nothing has been dropped yet, or STATE_DIR is another one")
        super().__init__(path)
        self._log_path = path.with_name(f"{path.name}-wal")
        self._reopen("ro" if read_only else "rwc" if make else "rw")
        self._mode: Literal["ro", "rw"] = "ro" if read_only else "rw"

    def _reopen(self, mode: Literal["ro", "rw", "rwc"]) -> None:
        self._opened_after = _Restored.times
        try:
            self._open(mode)
            self._log: tuple[int, int] | None = None
            """Device and inode of the write-ahead log, which exists from the first statement to the last `close`."""
            _ = self.is_in_place  # records the write-ahead log
        except OtherVersionError as error:
            raise LedgerError(
                f"the ledger at {self.path} is of version {error.found}, this program "
                + (
                    f"knows {VERSION}: update the program, or give it another STATE_DIR"
                    if error.found > VERSION
                    else f"reads {VERSION}: `just up` brings it up to date"
                )
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger at {self.path} cannot be opened: {error}; {_mend_of(error)}") from error

    @classmethod
    @contextmanager
    def at_one_moment(cls, path: Path) -> Generator[Self]:
        """Open the ledger read-only; all queries read the snapshot that the first one takes. Raises LedgerError."""
        with cls(path, read_only=True) as ledger:
            ledger._connection.execute("BEGIN")  # ends with the connection
            yield ledger

    def check(self, progress: Callable[[], None] | None = None) -> None:
        """Read the whole file and raise LedgerError if it is corrupt; a million rows take about a second.

        `progress` is called regularly during the check.
        """
        if found := self.damage(progress):
            raise LedgerError(f"the ledger is corrupt: {found}; {REBUILD}")

    @property
    def is_in_place(self) -> bool:
        """Whether the open file and its write-ahead log are still the ones at the ledger's path."""
        log = identity_of(self._log_path)
        self._log = self._log or log
        return log == self._log and super().is_in_place

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit everything inside the block, or nothing; a nested transaction becomes part of the outer one.

        Raises LedgerMovedError before anything is written to a file that is no longer in place.
        """
        self._follow()
        if self._connection.in_transaction:
            yield
            return
        with _corruption_reported(), super().transaction():
            if not self.is_in_place:
                raise LedgerMovedError(self.path)
            yield

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query. Raises LedgerError if the file turns out to be corrupt."""
        self._follow()
        with _corruption_reported():
            return super().rows(statement, parameters)

    def hold_open(self) -> None:
        """Keep the file and its WAL open from now on."""
        self.rows("SELECT count(*) FROM sqlite_schema")

    def _follow(self) -> None:
        """Reconnect if the ledger was restored since this connection was opened."""
        if self._opened_after != _Restored.times and not self._connection.in_transaction:
            self._connection.close()
            self._reopen(self._mode)

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


@contextmanager
def _corruption_reported() -> Generator[None]:
    """Raise LedgerError, with what to do, when SQLite finds the file corrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if fault_of(error) is not SqliteFault.CORRUPT:
            raise
        raise LedgerError(f"the ledger is corrupt: {error}; {REBUILD}") from error


def moment(written: str | None) -> datetime | None:
    """Parse a time that `stamp` wrote; None stays None."""
    return None if written is None else datetime.fromisoformat(written)
