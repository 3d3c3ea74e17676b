"""The ledger's SQLite file: opened, checked, and changed one transaction at a time."""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

VERSION = 7
"""The schema's version, kept in SQLite's `user_version`; `schema/N.sql` leads from version N - 1 to N."""

BUSY_SECONDS = 30.0
PROGRESS_STEPS = 100_000
"""After so many steps of SQLite's virtual machine a long check reports that it goes on."""


REBUILD = "`just rebuild` puts it aside and makes a new one from the arrivals and from what Prefect knows of them"


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerMovedError(LedgerError):
    """The file that is open is no longer the one at the ledger's path: what is written into it would be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the ledger at {path} was deleted or replaced while it was in use; nothing is written until it is back"
        )


class _Restored:
    """How often the ledger was restored in this process; a connection that is older than that opens it again."""

    times = 0


def refusal_of(error: sqlite3.Error) -> str:
    """Return what SQLite says against the use of the ledger, and what mends it."""
    return f"the ledger refuses: {error}; {_mend_of(error)}"


def _is_corruption(error: Exception) -> bool:
    return _code_of(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code_of(error: Exception) -> int:
    """Return SQLite's primary code of an error, 0 of one that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _mend_of(error: Exception) -> str:
    """Return what mends that SQLite or the system refuses the ledger."""
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
    """One connection to the ledger; a thread that works with it opens its own.

    Writes go through `transaction()`: the states' conditional updates say by their row count who won.
    """

    def __init__(self, path: Path, *, read_only: bool = False, make: bool = True) -> None:
        """Open the ledger at `path`, making it unless `read_only` or it is not to be made; raises LedgerError.

        What is opened while the sensor works never makes one: in the place of a deleted one it would be empty.
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
        """What was opened, each by its device and inode."""
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
            # Each inbox has a connection: with SQLite's 2 MB each they would hold more than all else together.
            self._connection.execute("PRAGMA cache_size = -512")
            try:
                self._prepare(path, read_only=read_only)
                self._files = {path: identity_of(path)}
                _ = self.is_in_place  # notes the log as well
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise LedgerError(f"the ledger at {path} cannot be opened: {error}; {_mend_of(error)}") from error

    @classmethod
    @contextmanager
    def at_one_moment(cls, path: Path) -> Generator[Self]:
        """Open the ledger to read, and read it as it is at the first query, whatever is written meanwhile.

        Raises LedgerError.
        """
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
            # FULL, so that what the ledger says it did survives a power cut.
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
        """Bring an older ledger, or an empty file, to today's version, all in one transaction."""
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

        `progress` is called now and then meanwhile.
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
        """The device and inode of the file that is open."""
        return self._files[self.path]

    @property
    def is_in_place(self) -> bool:
        """Whether what is open is still what is at the path: the file and its write-ahead log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        if log not in self._files and (found := identity_of(log)) is not None:
            self._files[log] = found  # made with the first statement, and there as long as a connection is open
        return all(identity_of(path) == identity for path, identity in self._files.items())

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Do everything inside, or nothing of it; inside another one it is a part of that.

        Raises LedgerMovedError before anything is written into a file that is no longer in place.
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
            if self._connection.in_transaction:  # a full disk makes SQLite roll back by itself
                self._connection.execute("ROLLBACK")
            raise

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement, in a transaction, and return how many rows it changed."""
        with self.transaction():
            return self._connection.execute(statement, parameters).rowcount

    def change_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each of the parameters, in a transaction, and return how many rows they changed."""
        with self.transaction():
            return self._connection.executemany(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query. Raises LedgerError if the file turns out to be corrupt."""
        self._follow()
        with _corruption_told():
            return self._connection.execute(statement, parameters).fetchall()

    def _require_in_place(self) -> None:
        if not self.is_in_place:
            raise LedgerMovedError(self.path)

    def _follow(self) -> None:
        """Open the file at the path again if the ledger was restored since this connection was opened."""
        if self._opened_after != _Restored.times and not self._connection.in_transaction:
            self._connection.close()
            self._open()

    def copy_to(self, path: Path) -> None:
        """Copy everything that the open file has, wherever that is by now, into a new file.

        Raises OSError, sqlite3.Error.

        Once the open file is not in place no connection of this process writes into it any more, and a transaction that
        was under way is waited for. So nothing is missing in the copy.
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
        """Put the ledger back at its path, where none is or one without its log, from the file that is still open.

        Every connection of this process opens it again with its next statement. Raises OSError, sqlite3.Error, and
        LedgerMovedError if another file has taken its place.
        """
        if identity_of(self.path) not in {None, self.identity}:
            raise LedgerMovedError(self.path)
        restored = self.path.with_name(f"{self.path.name}.restored")
        self.copy_to(restored)
        for suffix in ("-wal", "-shm"):  # they belong to the file that is open
            self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)
        restored.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        _Restored.times += 1

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of what is at a path, or None if nothing is there. Raises OSError."""
    try:
        status = os.stat(path)  # noqa: PTH116 - before each transaction
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _corruption_told() -> Generator[None]:
    """Say what to do when a file that could be opened turns out to be corrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not _is_corruption(error):
            raise
        raise LedgerError(f"the ledger is corrupt: {error}; {REBUILD}") from error


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
