"""The rows of many small files in a temporary table, from which those of the good ones go into the target together.

Reading is apart from writing, so that a misfit costs its own file only, and the transaction is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from flows.insertion import Insertion
from flows.load_keys import record_loads
from flows.misfit import marked
from flows.one_thread import one_thread
from flows.quoting import identifier
from flows.source_file import SourceFile
from flows.target_table import RESERVED_COLUMNS

_TABLE = "temp.main.incoming"


@dataclass(frozen=True)
class Incoming:
    """Files of one shape whose rows are in the temporary table; the latest replaces the one before."""

    connection: duckdb.DuckDBPyConnection
    insertion: Insertion
    """The way into the table of each of them."""
    files: tuple[SourceFile, ...]
    rows: tuple[int, ...]
    """How many each file has."""
    fits: tuple[bool, ...]
    """Whether all values of the file fit their columns."""

    def write(self, arrival_id: str, places: Sequence[int], at: datetime) -> None:
        """Write the rows of the files at these places, and their load keys, in one transaction. Raises duckdb.Error."""
        files = [self.files[place] for place in places]
        self.connection.begin()
        try:
            if self.insertion.conversions:
                self._insert(arrival_id, places, at)
            rows = [self.rows[place] for place in places]
            record_loads(self.connection, self.insertion.table, arrival_id, files, rows, at)
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise

    def _insert(self, arrival_id: str, places: Sequence[int], at: datetime) -> None:
        names: list[str | None] = [None] * len(self.files)
        for place in places:
            names[place] = self.files[place].name
        conversions = self.insertion.conversions
        columns = ", ".join(identifier(name) for name in [*(one.column for one in conversions), *RESERVED_COLUMNS])
        values = ", ".join(f"value{at}" for at in range(len(conversions)))
        self.connection.execute(
            f"INSERT INTO {self.insertion.table.sql} ({columns}) SELECT {values}, ?, name, ? FROM"
            f" (SELECT *, list_extract(?, file + 1) AS name FROM {_TABLE}) WHERE name IS NOT NULL",
            [arrival_id, at, names],
        )


def read_together(connection: duckdb.DuckDBPyConnection, insertion: Insertion, files: Sequence[SourceFile]) -> Incoming:
    """Read files of the insertion's shape, in their order. Raises duckdb.Error when one of them cannot be read."""
    rows, fits = [0] * len(files), [True] * len(files)
    if insertion.conversions:
        scan = insertion.reading.scan([one.read_type for one in insertion.conversions], files)
        query = marked(scan, insertion.conversions)
        with one_thread(connection):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS {query}")
        counted = f"SELECT file, count(*), bool_and(fits) FROM {_TABLE} GROUP BY file"
        for file, count, all_fit in connection.execute(counted).fetchall():
            rows[file], fits[file] = count, all_fit
    return Incoming(connection, insertion, tuple(files), tuple(rows), tuple(fits))
