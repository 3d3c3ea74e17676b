"""Errors of a run, by whether a retry can help, and the reason of a rejected file in one line.

DuckDB's messages come with a page of hints and the file's whole path. The reason has what mending the file needs: line,
row, column and value, where the reader gives them.
"""

import csv
import errno
import gzip
import re
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from flows.source_file import SourceFile
from flows.sql_names import pattern


class PipelineError(Exception):
    """The pipeline cannot go on; the message says what was expected, what was got, and what to do."""


class TemporaryError(PipelineError):
    """Trying again may help: a source that does not answer, a warehouse that is in use."""


class StillInUseError(TemporaryError):
    """Something has been in use for as long as a load may wait: a retry would wait as long again."""


class PermanentError(PipelineError):
    """Trying again cannot help: a mistyped parameter, a page that is not JSON."""


class RejectionError(Exception):
    """One file cannot be loaded; the message is the reason, in one line and without the file's name."""


class RefusedError(RejectionError):
    """The database refuses a row; it may say which value of which column it was that it does not take."""

    def __init__(self, reason: str, column: str | None = None, value: str | None = None) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        """As the database quotes it, so it may be cut short; without a column a piece of whatever text holds it."""


def may_help_to_retry(task: object, task_run: object, state: Any) -> bool:
    """Return whether Prefect shall retry a failed task, as a `retry_condition_fn`: not what has waited already."""
    return not isinstance(state.result(raise_on_failure=False), (PermanentError, StillInUseError))


_MACHINES_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
_MACHINES_WORDS = re.compile(
    "No space left|Disk quota exceeded|Read-only file system|Too many open files|max_temp_directory_size"
    "|Could not set lock|Cannot allocate memory"
)
_GZIP = b"\x1f\x8b"
_KEEPING_BOOKS = "while load keys were read or written"
_MACHINES_ERRORS = (duckdb.ConnectionException, duckdb.TransactionException)

_LONGEST = 300
_MEMORY_LIMIT = re.compile(r"/([\d.]+ [KMGT]iB) used")
_CSV_LINE = re.compile(r"CSV Error on Line: (\d+)")
_CSV_PROBLEMS = (
    (re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)"), r"expected \1 columns, got \2"),
    (re.compile(r"Value with unterminated quote found"), "a quote is opened and not closed, or closed too early"),
    (re.compile(r"Invalid unicode"), "not UTF-8 text; save the file as UTF-8"),
    (re.compile(r"Maximum line size of (\d+) bytes exceeded"), r"longer than \1 bytes"),
)
_INVALID_STATE = re.compile("CSV Parser state machine reached an invalid state")
_JSON = re.compile(
    r"Malformed JSON in file .*?, at byte (\d+) in (line|record/value) (\d+): ([^\n]*?)\.? *$", re.MULTILINE
)


def is_machines_fault(error: Exception, written: Sequence[SourceFile] = ()) -> bool:
    """Return whether an error is the machine's fault: the disk, a lock, a connection; trying again may help.

    Everything else that is raised while files are read is the fault of one of them. `written` are the files that were
    being loaded, where the warehouse was written to as well: an IOException that names another file is its own.
    """
    if isinstance(error, (RejectionError, PipelineError)):
        return isinstance(error, PipelineError)
    if _KEEPING_BOOKS in getattr(error, "__notes__", ()):
        return True
    if isinstance(error, OSError):
        return error.errno in _MACHINES_NUMBERS
    if isinstance(error, duckdb.IOException) and written and _is_about_another(error, written):
        return True
    return isinstance(error, _MACHINES_ERRORS) or (
        isinstance(error, duckdb.Error) and _MACHINES_WORDS.search(str(error)) is not None
    )


@contextmanager
def keeping_books() -> Generator[None, None, None]:
    """Mark what is raised in the block, where load keys are read and written, as no fault of a file."""
    try:
        yield
    except Exception as error:
        error.add_note(_KEEPING_BOOKS)
        raise


_PATH = re.compile(r'["\']/[^"\']+["\']')


def _is_about_another(error: duckdb.IOException, files: Sequence[SourceFile]) -> bool:
    """Return whether an error names a file, and none of these; of damaged content DuckDB says not where it is."""
    # After "LINE 1:" it quotes the query, which names all of them.
    message = str(error).partition("\nLINE 1:")[0]
    if any(name in message or pattern(name) in message for name in (one.path.name for one in files)):
        return False
    return _PATH.search(message) is not None


def is_fatal(error: Exception) -> bool:
    """Return whether an error may have invalidated the connection: DuckDB's INTERNAL and FATAL errors do."""
    return isinstance(error, (duckdb.InternalException, duckdb.FatalException)) or "has been invalidated" in str(error)


def may_be_the_warehouses(error: Exception) -> bool:
    """Return whether the kind of an error leaves open if the file or the warehouse is at fault."""
    return is_fatal(error) or isinstance(error, duckdb.IOException)


def reason_of(error: Exception, file: SourceFile) -> str:
    """Return the reason why a file is rejected, without its name and path."""
    message = str(error)
    match error:
        case gzip.BadGzipFile() | zlib.error() | EOFError():
            reason = _gzip_reason(error, file)
        case OSError(strerror=str(problem)):
            reason = f"cannot be read: {problem}"
        case MemoryError() | duckdb.OutOfMemoryException():
            limit = _MEMORY_LIMIT.search(message)
            has = f"the limit is {limit[1]}; " if limit else ""
            reason = f"it takes too much memory to load, {has}raise WAREHOUSE_MEMORY_LIMIT, or split the file"
        case RecursionError():
            reason = "its values are nested too deeply"
        case UnicodeError():
            reason = "not UTF-8 text; save the file as UTF-8"
        case csv.Error():
            reason = f"not a proper CSV file: {message}"
        case _ if is_fatal(error):
            reason = f"DuckDB fails on it with an internal error: {_internal(message)}"
        case duckdb.Error() | RejectionError() | OSError():
            reason = _csv_reason(message) or _json_reason(message) or _first_line(message, file)
        case _:
            reason = f"cannot be read: {type(error).__name__}: {message}"
    return one_line(reason)


def _gzip_reason(error: Exception, file: SourceFile) -> str:
    """Return what is wrong with a gzipped file, by what Python's `gzip` and `zlib` say of it."""
    with suppress(OSError), file.path.open("rb") as opened:
        if opened.read(2) != _GZIP:
            return "not a gzip file, though its name ends in .gz"
    message = str(error)
    match error:
        case EOFError():
            what = "it ends in the middle"
        case zlib.error():
            what = "it cannot be unpacked"
        case _ if message.startswith("CRC"):
            what = "its content does not match its checksum (CRC)"
        case _ if message.startswith("Not a gzipped file"):
            what = "other bytes follow its end"
        case _ if message.startswith("Incorrect length"):
            what = "it does not unpack to as many bytes as it says"
        case _:
            what = message
    return f"the gzip file is damaged: {what}; send it again"


def one_line(text: str) -> str:
    """Return a text on one line, shortened where it is very long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _internal(message: str) -> str:
    """Return what an internal error says, without its stack trace, and what it says of the database."""
    original = message.rpartition("Original error:")[2].strip().strip('"')
    return re.sub(r"^[\w ]*Error: ", "", original.strip().split("\n")[0]) or "it does not say which"


def _csv_reason(message: str) -> str | None:
    if _INVALID_STATE.search(message):
        return "not a proper CSV file: quotes do not match, or lines end in different ways"
    line = _CSV_LINE.search(message)
    if line is None:
        return None
    problems = (found.expand(said) for pattern, said in _CSV_PROBLEMS if (found := pattern.search(message)))
    return f"line {line[1]}: {next(problems, 'cannot be parsed')}"


def _json_reason(message: str) -> str | None:
    found = _JSON.search(message)
    if found is None:
        return None
    byte, place, number, problem = found.groups()
    # DuckDB 2.0 counts the broken record before it names it: the second is called the third (measured).
    return f"{'line' if place == 'line' else 'record'} {int(number) - 1}, byte {byte}: {problem}"


def _first_line(message: str, file: SourceFile) -> str:
    """Return a message's first line, without the kind of error in front and the path within."""
    path = str(file.path)
    line = message.replace(path, file.name).replace(pattern(path), file.name).strip().split("\n")[0]
    return re.sub(r"^[\w ]*Error: ", "", line) or "cannot be read"
