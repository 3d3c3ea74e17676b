"""Errors of a run, by whether a retry can help, and the reason of a rejected file in one line.

DuckDB's messages come with a page of hints and the file's whole path. The reason has what mending the file needs: line,
row, column and value, where the reader gives them.
"""

import gzip
import re
import zlib
from typing import Any

import duckdb

from flows.source_file import FileFormat, SourceFile
from flows.sql_names import pattern


class PipelineError(Exception):
    """The pipeline cannot go on; the message says what was expected, what was got, and what to do."""


class TemporaryError(PipelineError):
    """Trying again may help: a source that does not answer, a warehouse that is in use."""


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
    """Tell Prefect whether to retry a failed task: everything but a PermanentError (a `retry_condition_fn`)."""
    return not isinstance(state.result(raise_on_failure=False), PermanentError)


UNREADABLE = (
    RejectionError,
    OSError,
    EOFError,
    zlib.error,
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.ProgrammingError,
    duckdb.NotSupportedError,
    duckdb.DependencyException,
)
"""The kinds of errors that are a file's own fault; nearly all others are the machine's: trying again may help."""

_LONGEST = 300
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


def is_files_fault(error: BaseException, file: SourceFile) -> bool:
    """Tell whether an error is a file's own fault, by its kind; duckdb.IOException may be either's."""
    # What a damaged Parquet file does to its reader may come as an error without a kind (DuckDB 2.0).
    is_broken_parquet = type(error) is duckdb.Error and file.format is FileFormat.PARQUET
    return isinstance(error, UNREADABLE) or is_broken_parquet


def is_reading_fault(error: BaseException, file: SourceFile) -> bool:
    """Tell whether an error of reading a file, and of nothing else, is the file's own fault."""
    return is_files_fault(error, file) or isinstance(error, duckdb.IOException)


def reason_of(error: BaseException, file: SourceFile) -> str:
    """Return the reason why a file is rejected, without its name and path."""
    if isinstance(error, gzip.BadGzipFile):
        return "not a gzip file, though its name ends in .gz"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    message = str(error)
    return one_line(_csv_reason(message) or _json_reason(message) or _first_line(message, file))


def one_line(text: str) -> str:
    """Return a text on one line, shortened where it is very long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


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
