"""A small pipeline for tests: files written into a folder and loaded into a real DuckDB file, without Prefect."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from flows.loading.bulk import BulkLoader
from flows.loading.file_result import FileResult
from flows.loading.header_scan import plans_of
from flows.loading.loader import Loader, Reload
from flows.readers.base import Reading
from flows.readers.guard import FileLimits, Guard
from flows.readers.registry import read_plan
from flows.source_file import Rejected
from flows.sources.files import files_of
from flows.sql_names import TargetTable
from flows.warehouse.base import Warehouse
from flows.warehouse.duckdb import DuckDbWarehouse, in_memory_reader, open_duckdb

TABLE = TargetTable("warehouse", "public", "metrics")


@dataclass
class Pipeline:
    """Files go into `<folder>/<arrival>/`, rows into `<folder>/warehouse.duckdb`."""

    folder: Path
    arrivals: int = 0
    folds_names = False
    """Whether the names of new columns come out in lower case."""
    many_rows = 3_000_000
    """How many do not come in their order by mere chance."""
    warehouse_class = DuckDbWarehouse

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @contextmanager
    def opened(self) -> Generator[Warehouse, None, None]:
        with open_duckdb(self.warehouse, 10, lambda _: None) as warehouse:
            yield warehouse

    @property
    def spool(self) -> Path:
        """Where text goes that has to be unpacked or rewritten."""
        folder = self.folder / "spool"
        folder.mkdir(exist_ok=True)
        return folder

    def name(self, column: str) -> str:
        """Return how the table has the name of a new column."""
        return column.lower() if self.folds_names else column

    def write(self, name: str, content: str | bytes, arrival: str) -> Path:
        path = self.folder / arrival / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, name: str, content: str | bytes, batch_size: int | None = None) -> FileResult:
        """Load one file as an arrival of its own."""
        self.arrivals += 1
        arrival = f"arrival-{self.arrivals}"
        self.write(name, content, arrival)
        (result,) = self.load_arrival(arrival, batch_size)
        return result

    def load_arrival(self, arrival: str, batch_size: int | None = None, reload: Sequence[str] = ()) -> list[FileResult]:
        """Load all files of an arrival, those that `reload` names again."""
        return self.load_plans(arrival, self.plans(arrival, reload), batch_size, reload)

    def load_in_bulk(
        self, arrival: str, reload: Sequence[str] = (), limits: FileLimits | None = None
    ) -> list[FileResult]:
        """Load all files of an arrival as a run does; the results come in the order of their files' names."""
        limits = limits or FileLimits()
        files = files_of((self.folder / arrival).as_uri(), None, Reload(frozenset(reload)).covers)
        with (
            in_memory_reader("1GB", self.folder / "transform.tmp") as reader,
            Guard(limits, lambda: reader.connection) as guard,
        ):
            plans = list(plans_of(reader, files, self.spool, guard))
        with self.opened() as warehouse, Guard(limits, lambda: warehouse.reader) as guard:
            loader = Loader(warehouse, TABLE, arrival, None, Reload(frozenset(reload)), guard)
            results = [one for known in BulkLoader(loader).load(plans) for one in known]
        return sorted(results, key=lambda result: result.file)

    def plans(self, arrival: str, reload: Sequence[str] = ()) -> list[Reading | Rejected]:
        """Work out how the files of an arrival are read."""
        files = files_of((self.folder / arrival).as_uri(), None, Reload(frozenset(reload)).covers)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return [file if isinstance(file, Rejected) else read_plan(connection, file, self.spool) for file in files]

    def load_plans(
        self,
        arrival: str,
        plans: Sequence[Reading | Rejected],
        batch_size: int | None = None,
        reload: Sequence[str] = (),
    ) -> list[FileResult]:
        with self.opened() as warehouse:
            loader = Loader(warehouse, TABLE, arrival, batch_size, Reload(frozenset(reload)))
            warehouse.create_loads(TABLE)
            return [loader.load_one(plan) for plan in plans]

    def drop(self) -> None:
        """Drop the table, as somebody else might."""
        self.execute("DROP TABLE public.metrics")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query in the warehouse."""
        with duckdb.connect(self.warehouse) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(statement).fetchall()

    def rows(self, columns: str = "COLUMNS('^[^_]')") -> list[tuple[Any, ...]]:
        return self.execute(f"SELECT {columns} FROM public.metrics ORDER BY rowid")

    def types(self) -> dict[str, str]:
        """Return the table's columns and their types, without the pipeline's own."""
        described = self.execute("DESCRIBE public.metrics")
        return {row[0]: row[1] for row in described if not row[0].startswith("_")}

    def create(self, columns: str) -> None:
        """Create the table beforehand, as somebody else might have."""
        self.execute("CREATE SCHEMA IF NOT EXISTS public")
        self.execute(f"CREATE TABLE public.metrics ({columns})")
