"""The ledger's SQLite file: opened, checked, and changed one transaction at a time."""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

VERSION = 6
"""The schema's version, kept in SQLite's `user_version`; `schema/N.sql` leads from version N - 1 to N."""

BUSY_SECONDS = 30.0
PROGRESS_STEPS = 100_000
"""After so many steps of SQLite's virtual machine a long check reports that it goes on."""


REBUILD = "`just rebuild` puts it aside and makes a new one from the arrivals and from what Prefect knows of them"


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


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
            # Each inbox has a connection: with SQLite's 2 MB each they would hold more than all else together.
            self._connection.execute("PRAGMA cache_size = -512")
            try:
                self._prepare(path, read_only=read_only)
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

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Do everything inside, or nothing of it; inside another one it is a part of that."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            with _corruption_told():
                yield
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk makes SQLite roll back by itself
                self._connection.execute("ROLLBACK")
            raise

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def change_many(self, statement: str, parameters: Iterable[Sequence[Any]]) -> int:
        """Run one statement for each of the parameters and return how many rows they changed."""
        return self._connection.executemany(statement, parameters).rowcount

    def rows(self, statement: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query. Raises LedgerError if the file turns out to be corrupt."""
        with _corruption_told():
            return self._connection.execute(statement, parameters).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
