"""The rows of many small files in a temporary table, from which those of the good ones go into the target together.

Reading is apart from writing, so that a misfit costs its own file only, and the transaction is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.insertion import Insertion
from flows.misfit import marked
from flows.one_thread import one_thread
from flows.source_file import SourceFile
from flows.warehouse import Warehouse

_TABLE = "temp.main.incoming"


@dataclass(frozen=True)
class Incoming:
    """Files of one shape whose rows are in the temporary table; the latest replaces the one before."""

    warehouse: Warehouse
    insertion: Insertion
    """The way into the table of each of them."""
    files: tuple[SourceFile, ...]
    rows: tuple[int, ...]
    """How many each file has."""
    fits: tuple[bool, ...]
    """Whether all values of the file fit their columns."""

    def write(self, arrival_id: str, places: Sequence[int], at: datetime) -> dict[str, int]:
        """Write the rows of the files at these places, and their load keys, in one transaction.

        Returns those that another run has loaded in the meantime, by name, and how many rows each has: they are left
        out. Raises what a warehouse raises.
        """
        warehouse, table = self.warehouse, self.insertion.table
        with warehouse.transaction(table, arrival_id):
            there = warehouse.loaded_meanwhile(table, arrival_id, [self.files[place].name for place in places])
            ours = [place for place in places if self.files[place].name not in there]
            if ours and self.insertion.conversions:
                self._insert(arrival_id, ours, at)
            files, rows = [self.files[place] for place in ours], [self.rows[place] for place in ours]
            warehouse.record_loads(table, arrival_id, files, rows, at)
        return there

    def _insert(self, arrival_id: str, places: Sequence[int], at: datetime) -> None:
        names: list[str | None] = [None] * len(self.files)
        for place in places:
            names[place] = self.files[place].name
        values = ", ".join(f"value{at}" for at in range(len(self.insertion.conversions)))
        query = (
            f"SELECT {values}, ?, name, ? FROM"
            f" (SELECT *, list_extract(?, file + 1) AS name FROM {_TABLE}) WHERE name IS NOT NULL"
        )
        self.warehouse.insert(self.insertion.table, self.insertion.columns, query, [arrival_id, at, names])


def read_together(warehouse: Warehouse, insertion: Insertion, files: Sequence[SourceFile]) -> Incoming:
    """Read files of the insertion's shape, in their order. Raises duckdb.Error when one of them cannot be read."""
    rows, fits = [0] * len(files), [True] * len(files)
    if insertion.conversions:
        scan = insertion.reading.scan([one.read_type for one in insertion.conversions], files)
        query = marked(scan, insertion.conversions)
        with one_thread(warehouse.reader):
            warehouse.reader.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {query}")
        counted = f"SELECT file, count(*), bool_and(fits) FROM {_TABLE} GROUP BY file"
        for file, count, all_fit in warehouse.reader.execute(counted).fetchall():
            rows[file], fits[file] = count, all_fit
    return Incoming(warehouse, insertion, tuple(files), tuple(rows), tuple(fits))
