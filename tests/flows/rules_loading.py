"""Loads files by rules into a warehouse, as a run does, without a Prefect server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from flows.data_pipeline import by_table
from flows.extract_config import extract_config
from flows.loading.bulk import BulkLoader
from flows.loading.file_result import FileResult
from flows.loading.header_scan import plans_of
from flows.loading.loader import Loader
from flows.readers.guard import Guard
from flows.sources.files import files_of
from flows.warehouse.address import table_in, warehouse_address
from flows.warehouse.duckdb import in_memory_reader
from flows.warehouse.open import OpenOptions, open_warehouse

TABLE = "warehouse.public.t"


class Rig:
    """A warehouse in a folder, and arrivals that are loaded into it."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.address = warehouse_address(url or str(folder / "warehouse.duckdb"), folder)
        self.arrivals = 0

    def load(
        self,
        rules: Mapping[str, Any],
        files: Mapping[str, bytes | str],
        arrival_id: str | None = None,
        reload: list[str] | None = None,
    ) -> list[FileResult]:
        """Load an arrival of these files."""
        self.arrivals += 1
        name = arrival_id or f"a-{self.arrivals}"
        source = self.folder / f"source-{self.arrivals}"
        for file, content in files.items():
            path = source / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        config = extract_config(source.as_uri(), TABLE, 500, name, reload, rules=rules)
        spool = self.folder / "spool"
        spool.mkdir(exist_ok=True)
        found = files_of(config.source_url, None, config.reloaded.covers, config.rules.known_format)
        with in_memory_reader("1GB", spool / "tmp") as reader, Guard() as guard:
            plans = tuple(plans_of(reader, found, spool, guard, config.rules))
        results: list[FileResult] = []
        with (
            open_warehouse(self.address, OpenOptions(10, "1GB", None, spool), print, None) as warehouse,
            Guard() as guard,
        ):
            for table, some in by_table(config, plans):
                loader = Loader(
                    warehouse, table_in(self.address, table), name, None, config.reloaded, guard, config.rules
                )
                for known in BulkLoader(loader).load(some):
                    results += known
        return results

    def rows(self, query: str = "SELECT * EXCLUDE (_arrival_id, _file_name, _loaded_at) FROM public.t") -> list[Any]:
        """Return the rows of a query on the DuckDB warehouse."""
        with duckdb.connect(self.folder / "warehouse.duckdb", read_only=True) as connection:
            return connection.execute(query).fetchall()
