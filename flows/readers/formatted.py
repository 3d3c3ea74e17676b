"""Read a file by the rules of its format: its records are written as plain CSV, which DuckDB reads.

Values keep the form in which the file has them; `ValueForm` says how they are converted, so that a reason can quote
them as they are.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile

import duckdb

from flows.errors import RejectionError
from flows.readers.base import (
    NO_BAD,
    BadRecords,
    FileColumn,
    check_names,
    file_column,
    sample_rows,
    selection,
    types_of_texts,
)
from flows.readers.column_types import TEXT, TEXT_TYPES, ValueForm
from flows.readers.compression import opened
from flows.readers.csv_files import second_names, table_names, why_no_names
from flows.readers.guard import Guard
from flows.readers.text_records import BadRecord, Record, Table, Value, delimited, delimiter_in, fixed_width, lines_of
from flows.readers.workbooks import sheet_records, written_form
from flows.readers.xml_files import xml_records
from flows.rules import BadRows, CsvFormat, ExcelFormat, FixedWidthFormat, LoadRules, XmlFormat
from flows.source_file import FileFormat, SourceFile
from flows.sql_names import identifier, literal, path_literal

_LONGEST_LINE = 64_000_000
"""In bytes, of a record as it is written for DuckDB."""
_NAMES_ROWS = 20
"""Number of rows compared with the columns' names."""
LONGEST_RAW = 1_000_000
"""How many characters of a bad row are kept."""
_SPECIAL = frozenset('",\r\n')


@dataclass(frozen=True)
class Places:
    """The lines on which a file's records begin: ranges of records whose lines follow one another."""

    rows: tuple[int, ...]
    """The first record of each range, counted from 1."""
    lines: tuple[int, ...]
    """The line of that record."""

    def line_of(self, row: int) -> int:
        """Return the line of a record, counted from 1."""
        at = bisect_right(self.rows, row) - 1
        return self.lines[at] + row - self.rows[at] if at >= 0 else row


@dataclass(frozen=True)
class FormattedReading:
    """How DuckDB reads a file that was written anew as CSV by its rules."""

    file: SourceFile
    names: tuple[str, ...]
    text: Path
    """The records as CSV without a header."""
    rows: int
    places: Places
    written: ValueForm
    """How values are written in the file."""
    unit: str = "line"
    """What a place is called: `line`, or `row` in a sheet."""
    bad: BadRecords = NO_BAD
    """Rows that were put aside."""
    columns: tuple[FileColumn, ...] = ()
    is_sampled: bool = False
    is_positional: bool = False
    """Whether the columns have no names, and are those of the table by their position."""

    @property
    def empty_is_null(self) -> bool:
        """Whether an empty text is null in a column that does not hold texts."""
        return True

    @property
    def shape(self) -> Hashable:
        """A key of its own: the file is read alone."""
        return ("formatted", str(self.text))

    def read_type(self, column: FileColumn, target_type: str) -> str:
        """Return VARCHAR: the records are texts."""
        return TEXT

    def scan(self, read_types: Sequence[str], together: Sequence[SourceFile] = ()) -> str:
        """Return the query of the rows; see `Reading`."""
        columns = ", ".join(f"{literal(name)}: {literal(TEXT)}" for name in self.names)
        return (
            f"SELECT {selection(map(identifier, self.names), ())} FROM read_csv({path_literal(self.text)},"
            " auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', strict_mode = true,"
            f" nullstr = '', allow_quoted_nulls = false, max_line_size = {_LONGEST_LINE}, hive_partitioning = false,"
            f" columns = {{{columns}}})"
        )

    def place_of(self, row: int) -> str:
        """Return where a row of the scan is in the file, counted from 1."""
        return f"{self.unit} {self.places.line_of(row):,}"

    def with_types(self, connection: duckdb.DuckDBPyConnection, *, whole: bool) -> FormattedReading:
        """Return the reading with the columns' types, from a sample of the rows or from all of them."""
        if not self.rows:
            return replace(self, columns=())
        limit = None if whole else sample_rows(len(self.names))
        candidates = [TEXT_TYPES] * len(self.names)
        rows, types = types_of_texts(
            connection, self.scan(()), candidates, limit, empty_is_null=True, written=self.written
        )
        columns = tuple(file_column(name, type_) for name, type_ in zip(self.names, types, strict=True))
        return replace(self, columns=columns, is_sampled=rows == limit)


FormattedRules = CsvFormat | FixedWidthFormat | ExcelFormat | XmlFormat
"""The formats whose files are written anew."""


def formatted_reading(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, spool: Path, guard: Guard, rules: LoadRules
) -> FormattedReading:
    """Return how to read a file by the rules of its format, with types from a sample of its rows.

    Raises RejectionError and OSError for a file that cannot be read.
    """
    form = rules.format or ExcelFormat(type="excel")
    assert isinstance(form, FormattedRules)  # noqa: S101 # the caller chooses by it
    unit = "row" if isinstance(form, ExcelFormat | XmlFormat) else "line"
    with (
        _table(file, form, guard) as table,
        NamedTemporaryFile("w", dir=spool, suffix=".csv", delete=False, encoding="utf-8", newline="") as text,
        NamedTemporaryFile("w", dir=spool, suffix=".csv", delete=False, encoding="utf-8", newline="") as aside,
    ):
        writer = _Writer(form, rules.bad_rows, guard, len(table.names), aside.write, unit)
        text.writelines(writer.lines(table.records))
    names = table_names(table.names, table.names_line) or tuple(f"column{at}" for at in range(writer.width))
    check_names(names)
    guard.limits.check_columns(len(names))
    return FormattedReading(
        file,
        names,
        Path(text.name),
        writer.rows,
        Places(tuple(writer.first_rows), tuple(writer.first_lines)),
        written_form(form) if isinstance(form, ExcelFormat) else ValueForm.of(form),
        unit,
        writer.bad(Path(aside.name)),
        is_positional=not table.names,
    ).with_types(connection, whole=False)


def with_bad_rows(
    connection: duckdb.DuckDBPyConnection,
    file: SourceFile,
    spool: Path,
    guard: Guard,
    rules: LoadRules,
    rejection: Exception,
) -> FormattedReading:
    """Return how to read a CSV or TSV file that was rejected as a whole, with its bad rows put aside.

    Raises the rejection if nothing shows that only rows are at fault: no row is good, the names are none, or the file
    has quotes of another kind.
    """
    form = CsvFormat(type="tsv" if file.format is FileFormat.TSV else "csv")
    try:
        _delimiter(file, form)
    except RejectionError:
        raise rejection from None
    reading = formatted_reading(connection, file, spool, guard, rules.model_copy(update={"format": form}))
    if not reading.bad.count or not reading.rows or _has_single_quotes(file, guard):
        raise rejection
    found = connection.execute(f"{reading.scan(())} LIMIT {_NAMES_ROWS}").fetchall()
    rows = [[value or "" for value in row] for row in found]
    texts = [column.name for column in reading.columns if column.new_type == TEXT]
    if why_no_names(reading.names, rows) or second_names(reading.names, rows, texts):
        raise rejection
    return reading


_SINGLE_QUOTES = re.compile(r"(?:^|[,;\t|]) *'[^'\"]*' *(?:[,;\t|]|$)")


def _has_single_quotes(file: SourceFile, guard: Guard) -> bool:
    with lines_of(file, None, guard) as lines:
        return any(_SINGLE_QUOTES.search(line.rstrip("\r\n")) for line in islice(lines, 200))


@contextmanager
def _table(file: SourceFile, form: FormattedRules, guard: Guard) -> Generator[Table]:
    """Open a file and return its records."""
    if isinstance(form, CsvFormat | FixedWidthFormat):
        with lines_of(file, form.encoding, guard) as lines:
            if isinstance(form, FixedWidthFormat):
                yield fixed_width(lines, form)
            else:
                yield delimited(lines, form, _delimiter(file, form))
    elif isinstance(form, ExcelFormat):
        if file.compression:
            raise RejectionError(f"a workbook that is compressed as {file.compression.word}; unpack it")
        yield sheet_records(file, form, guard)
    else:
        yield xml_records(partial(opened, file, guard), form, guard)


def _delimiter(file: SourceFile, form: CsvFormat) -> str:
    if form.delimiter or form.type == "tsv":
        return form.delimiter or "\t"

    def lines() -> Iterator[str]:
        with lines_of(file, form.encoding, Guard()) as some:
            yield from some

    return delimiter_in(partial(lines), form)


@dataclass
class _Writer:
    """Writes records as CSV, and puts bad rows aside."""

    form: FormattedRules
    bad_rows: BadRows | None
    guard: Guard
    width: int
    put_aside: Callable[[str], object]
    """Gets the bad rows as lines: as many as the file has, if the limit is a share of them."""
    unit: str = "line"
    rows: int = 0
    count: int = 0
    """The number of bad rows."""
    first: BadRecord | None = None
    first_rows: list[int] = field(default_factory=list[int])
    first_lines: list[int] = field(default_factory=list[int])

    def lines(self, records: Iterator[Record | BadRecord]) -> Iterator[str]:
        """Yield each record as a line. Raises RejectionError for a bad row that may not be put aside."""
        nulls, trim, expected = frozenset(self.form.nulls), self.form.trim, 0
        for record in records:
            if isinstance(record, BadRecord):
                self._put_aside(record)
                continue
            self.rows += 1
            if not self.width:
                self.width = len(record.values)
            if record.line != expected:
                self.first_rows.append(self.rows)
                self.first_lines.append(record.line)
            expected = record.line + 1
            if self.rows % 10_000 == 0:
                self.guard.check()
                self.guard.limits.check_rows(self.rows)
            yield csv_line([_plain(value, nulls, trim=trim) for value in record.values])
        if self.bad_rows and self.count > (most := self.bad_rows.limit(self.rows + self.count)):
            raise self._too_many(most)

    def bad(self, text: Path) -> BadRecords:
        """Return the rows that were put aside, which are in this file."""
        return BadRecords(self.count, text, self.first.line, self.first.reason) if self.first else NO_BAD

    def _put_aside(self, record: BadRecord) -> None:
        if self.bad_rows is None:
            raise RejectionError(f"{self.unit} {record.line}: {record.reason}")
        self.first = self.first or record
        self.count += 1
        if isinstance(self.bad_rows.quarantine, int) and self.count > self.bad_rows.quarantine:
            raise self._too_many(self.bad_rows.quarantine)
        if self.count % 10_000 == 0:
            self.guard.check()
        self.put_aside(csv_line([str(record.line), shortened_raw(record.raw), record.reason]))

    def _too_many(self, most: int) -> RejectionError:
        assert self.first is not None  # noqa: S101 # only called with a bad row
        return too_many(most, f"{self.unit} {self.first.line}: {self.first.reason}")


def too_many(most: int, first: str) -> RejectionError:
    """Return the rejection of a file with more bad rows than its rules allow; `first` has the place of the first."""
    return RejectionError(f"more than {most:,} bad row{'' if most == 1 else 's'}, the first in {first}")


def shortened_raw(raw: str) -> str:
    """Return the text of a bad row as it is put aside."""
    return raw if len(raw) <= LONGEST_RAW else f"{raw[:LONGEST_RAW]}..."


def _plain(value: Value, nulls: frozenset[str], *, trim: bool) -> Value:
    if value is None:
        return None
    if trim:
        value = value.strip()
        if not value:
            return None
    return None if value in nulls else value


def csv_line(values: Sequence[Value]) -> str:
    """Return values as a line of CSV: a missing value is empty, an empty text is in quotes."""
    if len(values) == 1 and values[0] is None:
        return "\n"
    parts = [
        "" if one is None else f'"{one.replace(chr(34), chr(34) * 2)}"' if not one or _SPECIAL & set(one) else one
        for one in values
    ]
    return ",".join(parts) + "\n"
