"""Putting a file's rows into the table, each with the file's and the arrival's name and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.column_types import Conversion
from flows.misfit import converted
from flows.reading import Reading
from flows.table_columns import TableColumn, missing_columns
from flows.target_table import RESERVED_COLUMNS, TargetTable
from flows.warehouse import Warehouse

_INCOMING = "temp.main.incoming"


@dataclass(frozen=True)
class Insertion:
    """One file's way into the table: which column of the file goes where, and how."""

    reading: Reading
    table: TargetTable
    existing: Mapping[str, TableColumn]
    """The columns that the table has already, by their lower-case names."""
    conversions: tuple[Conversion, ...]

    @property
    def scan(self) -> str:
        """The query of the file's rows."""
        return self.reading.scan([conversion.read_type for conversion in self.conversions])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rows have a value for: the file's, then the pipeline's own."""
        return (*(conversion.column for conversion in self.conversions), *RESERVED_COLUMNS)

    @property
    def is_adding(self) -> bool:
        """Whether the table, or a column of it, has to be made first."""
        return bool(missing_columns(self.existing, self._wanted))

    @property
    def _wanted(self) -> dict[str, str]:
        return {one.column: one.target_type for one in self.conversions if one.is_new}

    def add_columns(self, warehouse: Warehouse) -> None:
        """Add the columns that the table lacks, or create it. Raises what a warehouse raises."""
        warehouse.add_columns(self.table, self.existing, self._wanted)

    def insert(self, warehouse: Warehouse, arrival_id: str, at: datetime, batch_size: int | None = None) -> int:
        """Insert the rows into the table, which has all columns by now, and return how many.

        Bulk, in the order of the connection's choice, or `batch_size` rows at a time by way of a temporary table, in
        the file's own. Raises what a warehouse raises.
        """
        if not self.conversions:
            return 0
        extra = [arrival_id, self.reading.file.name, at]
        rows = converted(self.scan, self.conversions)
        if batch_size is None:
            return self._insert(warehouse, rows, extra)
        numbered = f"SELECT row_number() OVER () AS row, * FROM ({rows})"
        warehouse.reader.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {numbered}")
        inserted = 0
        while batch := self._insert(warehouse, _window(inserted, batch_size), extra):
            inserted += batch
        warehouse.reader.execute(f"DROP TABLE {_INCOMING}")
        return inserted

    def _insert(self, warehouse: Warehouse, rows: str, extra: Sequence[str | datetime]) -> int:
        return warehouse.insert(self.table, self.columns, f"SELECT *, ?, ?, ? FROM ({rows})", extra)


def planned(warehouse: Warehouse, reading: Reading, table: TargetTable) -> Insertion:
    """Match the columns of a file with those that the table has; the others are new."""
    return matched(warehouse, reading, table, warehouse.columns(table))


def matched(
    warehouse: Warehouse, reading: Reading, table: TargetTable, existing: Mapping[str, TableColumn]
) -> Insertion:
    """Match the columns of a file with those that the table is known to have; the others are new."""
    conversions: list[Conversion] = []
    for column in reading.columns:
        there = existing.get(column.name.lower())
        target_type = there.type if there else warehouse.stored_type(column.new_type)
        read_type = reading.read_type(column, target_type)
        is_new = there is None
        is_blank = is_new and column.is_blank and reading.is_sampled
        conversions.append(Conversion(column.name, read_type, target_type, is_new, is_blank))
    return Insertion(reading, table, existing, tuple(conversions))


def _window(start: int, size: int) -> str:
    """Return the query of some rows of the temporary table; DuckDB skips the blocks that have none of them."""
    return f"SELECT * EXCLUDE (row) FROM {_INCOMING} WHERE row > {start} AND row <= {start + size}"
