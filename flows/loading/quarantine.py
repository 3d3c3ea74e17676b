"""Put the rows of a file that do not fit aside: into the table `<table>__rejected`, with their lines and reasons."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import duckdb

from flows.loading.file_result import numbered_misfits, shortened
from flows.loading.insert import Insertion
from flows.readers.base import raw
from flows.readers.column_types import why_not
from flows.readers.formatted import csv_line, shortened_raw, too_many
from flows.readers.ruled import RuledReading
from flows.rules import BadRows
from flows.sql_names import RESERVED_COLUMNS, path_literal
from flows.warehouse.base import LoadKey, Warehouse

COLUMNS = {"line": "BIGINT", "column_name": "VARCHAR", "raw": "VARCHAR", "reason": "VARCHAR"}
"""The columns of the table of rejected rows, besides the pipeline's own."""
_MISFITS = "temp.main.misfits"
_ASIDE = "temp.main.aside"
_VALUES_AT_ONCE = 100_000
_LONGEST_LINE = 64_000_000
_DIGITS = re.compile(r"[\d,]+")


@dataclass(frozen=True)
class Quarantine:
    """The bad rows of one file: records that cannot be divided into columns, and rows with a value that does not fit.

    They are in a temporary table of the warehouse's reader.
    """

    insertion: Insertion
    misfits: int = 0
    """How many rows of the scan have a value that does not fit."""
    places: Sequence[int] = ()
    """The positions of these rows in the scan, in order, counted from 1."""

    @property
    def count(self) -> int:
        """The number of rows that are put aside."""
        return self.misfits + self.insertion.reading.bad.count

    @property
    def good(self) -> Insertion:
        """The insertion of the good rows alone."""
        if not self.misfits:
            return self.insertion
        numbered = f"SELECT row_number() OVER () AS row, * FROM ({self.insertion.scan})"
        good = f"SELECT * EXCLUDE (row) FROM ({numbered}) WHERE row NOT IN (SELECT row FROM {_MISFITS})"
        return replace(self.insertion, good=good, misfits=self.places)

    def write(self, warehouse: Warehouse, key: LoadKey, at: datetime) -> None:
        """Write the rows into the table of rejected rows, and create it if it is missing."""
        if not self.count:
            return
        table = self.insertion.table.rejected
        existing = warehouse.columns(table)
        if not {*COLUMNS, *RESERVED_COLUMNS} <= existing.keys() and warehouse.lock_columns(table):
            existing = warehouse.columns(table)
        warehouse.add_columns(table, existing, COLUMNS)
        columns, query = [*COLUMNS, *RESERVED_COLUMNS], f"SELECT *, ?, ?, ? FROM ({self._rows()})"
        warehouse.insert(table, columns, query, [key.arrival_id, key.file_name, at])

    def _rows(self) -> str:
        parts = [f"SELECT * FROM {_ASIDE}"] if self.misfits else []
        if text := self.insertion.reading.bad.text:
            parts.append(
                f"SELECT line, CAST(NULL AS VARCHAR), raw, reason FROM read_csv({path_literal(text)},"
                " auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', strict_mode = true,"
                f" max_line_size = {_LONGEST_LINE}, hive_partitioning = false,"
                " columns = {line: 'BIGINT', raw: 'VARCHAR', reason: 'VARCHAR'})"
            )
        return f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY line"


def quarantine(
    reader: duckdb.DuckDBPyConnection, insertion: Insertion, rules: BadRows, *, may_misfit: bool
) -> Quarantine:
    """Find the bad rows of a file. Raises RejectionError if there are more than the rules allow.

    Without `may_misfit`, all values fit their columns. Reads the file twice, or three times with a share of its rows as
    the limit and a format that does not count them.
    """
    reading = insertion.reading
    if not may_misfit or not insertion.conversions:
        return Quarantine(insertion)
    rows = reading.rows
    if rows is None:
        rows = reader.execute(f"SELECT count(*) FROM ({insertion.scan})").fetchall()[0][0]
    most = rules.limit(rows + reading.bad.count)
    width = len(insertion.conversions) - (len(reading.from_name) if isinstance(reading, RuledReading) else 0)
    firsts = numbered_misfits(insertion.scan, insertion.conversions, most + 1)
    reader.execute("CREATE OR REPLACE TEMP TABLE misfit_values (row BIGINT, place INTEGER)")
    for query in firsts:
        reader.execute(f"INSERT INTO temp.main.misfit_values {query}")
    values = ", ".join(f"CAST({raw(at)} AS VARCHAR)" for at in range(len(insertion.conversions)))
    reader.execute(
        f"CREATE OR REPLACE TEMP TABLE misfits AS SELECT row, place, [{values}] AS texts"
        f" FROM (SELECT row_number() OVER () AS row, * FROM ({insertion.scan}))"
        " JOIN (SELECT row, min(place) AS place FROM temp.main.misfit_values GROUP BY row"
        f" ORDER BY row LIMIT {most + 1}) USING (row)"
    )
    (misfits,) = reader.execute(f"SELECT count(*) FROM {_MISFITS}").fetchall()[0]
    rows_of_misfits = reader.execute(f"SELECT row FROM {_MISFITS} ORDER BY row").fetchall()
    found = Quarantine(insertion, misfits, array("Q", [row for (row,) in rows_of_misfits]))
    reader.execute("CREATE OR REPLACE TEMP TABLE aside (line BIGINT, column_name VARCHAR, raw VARCHAR, reason VARCHAR)")
    first = (reading.bad.first_line, reading.bad.first_reason) if reading.bad.count else None
    for lines, names, raws, reasons in _described(reader, insertion, width):
        if first is None or lines[0] < first[0]:
            first = lines[0], f'column "{names[0]}": {reasons[0]}'
        if found.count > most:
            break
        reader.execute(
            f"INSERT INTO {_ASIDE} SELECT unnest(?), unnest(?), unnest(?), unnest(?)", [lines, names, raws, reasons]
        )
    if first and found.count > most:
        unit = _DIGITS.sub("", reading.place_of(1)).strip() or "row"
        raise too_many(most, f"{unit} {first[0]:,}: {first[1]}")
    return found


def _described(
    reader: duckdb.DuckDBPyConnection, insertion: Insertion, width: int
) -> Iterator[tuple[list[int], list[str], list[str], list[str]]]:
    """Yield lines, columns, raw texts and reasons of the rows with a value that does not fit, some at a time."""
    columns = [conversion.column for conversion in insertion.conversions]
    some, last = max(1, _VALUES_AT_ONCE // len(columns)), 0
    while found := reader.execute(
        f"SELECT row, place, texts FROM {_MISFITS} WHERE row > {last} ORDER BY row LIMIT {some}"
    ).fetchall():
        last = found[-1][0]
        lines = [_line_of(insertion, row) for row, _, _ in found]
        names = [columns[int(at)] for _, at, _ in found]
        raws = [shortened_raw(csv_line(texts[:width]).rstrip("\n").replace("\0", "\\0")) for _, _, texts in found]
        reasons = [_reason(insertion, at, texts) for _, at, texts in found]
        yield lines, names, raws, reasons


def _line_of(insertion: Insertion, row: int) -> int:
    found = _DIGITS.search(insertion.reading.place_of(row))
    return int(found[0].replace(",", "")) if found else row


def _reason(insertion: Insertion, at: int, texts: Sequence[str]) -> str:
    type_ = insertion.conversions[at].shown_type
    why = why_not(type_, texts[at])
    return f'"{shortened(texts[at])}" is not a {type_}'.replace("\0", "\\0") + (f": {why}" if why else "")
