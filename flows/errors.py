"""The exceptions of a run, classified by whether a retry can help, and one-line reasons for rejected files.

DuckDB's messages contain a page of hints and the file's whole path. The reason contains what is needed to fix the file,
in the project's own wording: line, row, column and value, where the reader reports them. The original message goes to
the run's log.
"""

import errno
import gzip
import re
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from flows.source_file import FileFormat, SourceFile
from flows.sql_names import pattern


class PipelineError(Exception):
    """The pipeline cannot continue; the message says what was expected, what was found, and what to do."""


class TemporaryError(PipelineError):
    """A retry may help: the source does not answer, or the warehouse is in use."""


class StillInUseError(TemporaryError):
    """The warehouse was in use or unreachable for as long as a load may wait: a retry would wait as long again."""


class ColumnsChangedError(TemporaryError):
    """Another session changed the columns of a table during a load: the file has to be planned again."""

    def __init__(self, table: object) -> None:
        super().__init__(f"another session has changed the columns of {table} while a file was loaded")


class PermanentError(PipelineError):
    """A retry cannot help: a mistyped parameter, a page that is not JSON."""


class RejectionError(Exception):
    """A file cannot be loaded; the message is the reason, in one line and without the file's name."""


class RowRejectedError(RejectionError):
    """The database rejects a row; the error may name the column and the value."""

    def __init__(self, reason: str, column: str | None = None, value: str | None = None) -> None:
        super().__init__(reason)
        self.column = column
        self.value = value
        """As the database quotes it, possibly shortened; without a column, a part of any text that contains it."""


def may_help_to_retry(task: object, task_run: object, state: Any) -> bool:
    """Return whether Prefect should retry a failed task; a `retry_condition_fn`.

    Not after a PermanentError, nor after a StillInUseError, which has waited already.
    """
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
REASON_PREFIX = "reason: "
"""The prefix of the reason in an error that a query raises itself."""
_WORDS = tuple(
    (re.compile(pattern, re.DOTALL), said)
    for pattern, said in (
        (r"CSV Parser state machine reached an invalid state", "quotes do not match, or lines end in different ways"),
        (
            r"CSV Error on Line: (\d+).*Expected Number of Columns: (\d+) Found: (\d+)",
            r"line \1: expected \2 columns, got \3",
        ),
        (
            r"CSV Error on Line: (\d+).*Value with unterminated quote found",
            r"line \1: a quote is opened and not closed, or closed too early",
        ),
        (r"CSV Error on Line: (\d+).*Invalid unicode", r"line \1: not UTF-8 text; save the file as UTF-8"),
        (r"CSV Error on Line: (\d+).*Maximum line size of (\d+) bytes exceeded", r"line \1: longer than \2 bytes"),
        (r"CSV Error on Line: (\d+)", r"line \1: cannot be parsed"),
        (
            r'Invalid string encoding found in Parquet file.*?: value "([^\n]*)" is not valid UTF8',
            r'"\1" is not UTF-8 text',
        ),
        (r"Invalid JSON found in Parquet file", "a value of a JSON column is not JSON"),
        (r"Invalid decimal encoding in Parquet file", "a decimal has more digits than its column says"),
        (r"Could not convert Timestamp|timestamp.*out of range|out of range in timestamp", "a moment is out of reach"),
        (r"Invalid TIME value (-?\d+) in Parquet file", r"the time \1 is not within a day"),
        (r"NOT NULL constraint failed: [^\n]*\.([^.\n]+)", r'the table takes no empty value in column "\1"'),
        (
            r"CHECK constraint failed on table [^\n]*? with expression ([^\n]+)",
            r"a check constraint of the table forbids a row: \1",
        ),
        (
            r'Duplicate key "([^\n]*)" violates (primary key|unique) constraint',
            r"the table's \2 forbids a second row of \1",
        ),
        (r"Violates foreign key constraint[^\n]*", "the table's foreign key finds no row for a value"),
    )
)
"""Messages of DuckDB's readers and tables that help to fix a file, and their replacements.

All other messages are about a damaged file, or about DuckDB's own settings.
"""
_FORMAT_NAMES = {
    FileFormat.CSV: "CSV",
    FileFormat.TSV: "text with tabs",
    FileFormat.JSON: "JSON",
    FileFormat.NDJSON: "JSON, one record a line",
    FileFormat.PARQUET: "Parquet",
    FileFormat.FIXED_WIDTH: "text of fixed width",
    FileFormat.EXCEL: "a workbook",
    FileFormat.XML: "XML",
}


def is_infrastructure_error(error: Exception, written: Sequence[SourceFile] = ()) -> bool:
    """Return whether the machine is at fault, and not a file: the disk, a lock, a connection. A retry may help.

    Any other exception raised while files are read is the fault of one of them. `written` are the files that were being
    loaded, if the warehouse was written to as well: an IOException that names another file is then about the warehouse.
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
def load_key_errors() -> Generator[None, None, None]:
    """Mark exceptions raised in the block, which reads or writes load keys, as not caused by a file."""
    try:
        yield
    except Exception as error:
        error.add_note(_KEEPING_BOOKS)
        raise


_PATH = re.compile(r'["\']/[^"\']+["\']')


def _is_about_another(error: duckdb.IOException, files: Sequence[SourceFile]) -> bool:
    """Return whether an error names a file, and none of these; for damaged content DuckDB names no file."""
    # After "LINE 1:" the message quotes the query, which names all of the files.
    message = str(error).partition("\nLINE 1:")[0]
    if any(name in message or pattern(name) in message for name in (one.path.name for one in files)):
        return False
    return _PATH.search(message) is not None


@contextmanager
def infrastructure_errors_translated() -> Generator[None, None, None]:
    """Turn DuckDB, OS and memory errors raised in the block, which no file has caused, into a TemporaryError."""
    try:
        yield
    except (duckdb.Error, OSError, MemoryError) as error:
        said = re.sub(r"^[\w ]*Error: ", "", str(error).strip().partition("\n")[0]) or type(error).__name__
        raise TemporaryError(one_line(f"no file is at fault, and the machine or the warehouse is: {said}")) from error


def is_fatal(error: Exception) -> bool:
    """Return whether an error may have invalidated the connection, as DuckDB's INTERNAL and FATAL errors do."""
    return isinstance(error, (duckdb.InternalException, duckdb.FatalException)) or "has been invalidated" in str(error)


def may_be_the_warehouses(error: Exception) -> bool:
    """Return whether the type of an error leaves open whether the file or the warehouse caused it."""
    return is_fatal(error) or isinstance(error, duckdb.IOException)


def reason_of(error: Exception, file: SourceFile) -> str:
    """Return the reason for rejecting a file: one line in the project's wording, without the file's name and path.

    An unknown error becomes one general sentence; `original_of` returns its own message.
    """
    return one_line(_known_reason(error, file) or _unknown_reason(error, file))


def original_of(error: Exception, file: SourceFile) -> str | None:
    """Return an error's own message in one line, for the log, if `reason_of` is less specific; else None."""
    if _known_reason(error, file) is not None:
        return None
    path = str(file.path)
    message = str(error).replace(path, file.name).replace(pattern(path), file.name)
    original = message.rpartition("Original error:")[2].strip().strip('"')
    return one_line(f"{type(error).__name__}: {original.partition('Stack Trace')[0]}")


def _known_reason(error: Exception, file: SourceFile) -> str | None:  # noqa: PLR0911 - one for each kind
    message = str(error)
    match error:
        case RejectionError():
            return message
        case gzip.BadGzipFile() | zlib.error() | EOFError():
            return _gzip_reason(error, file)
        case OSError(strerror=str(problem)):
            return f"cannot be read: {problem}"
        case MemoryError() | duckdb.OutOfMemoryException():
            limit = _MEMORY_LIMIT.search(message)
            has = f"the limit is {limit[1]}; " if limit else ""
            return f"it takes too much memory to load, {has}raise WAREHOUSE_MEMORY_LIMIT, or split the file"
        case RecursionError():
            return "its values are nested too deeply"
        case UnicodeError():
            return "not UTF-8 text; save the file as UTF-8"
        case duckdb.Error() if not is_fatal(error):
            return _translated(message)
        case _:
            return None


def _translated(message: str) -> str | None:
    if REASON_PREFIX in message:
        return message.partition(REASON_PREFIX)[2].partition("\n")[0]
    found = ((pattern.search(message), said) for pattern, said in _WORDS)
    return next((match.expand(said) for match, said in found if match), None)


def _unknown_reason(error: Exception, file: SourceFile) -> str:
    name = _FORMAT_NAMES[file.format]
    if is_fatal(error):
        return f"cannot be read as {name}: the reader fails on it; the file is probably damaged"
    return f"cannot be read as {name}: the file is damaged, or written in a way that is not supported"


def _gzip_reason(error: Exception, file: SourceFile) -> str:
    """Return why a gzipped file cannot be read, from the error of Python's `gzip` or `zlib`."""
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
    """Return a text as one line, truncated to 300 characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
