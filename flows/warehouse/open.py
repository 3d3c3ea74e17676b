"""Opening the warehouse, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from flows.settings import PipelineSettings
from flows.warehouse.address import DuckDbFile, WarehouseAddress
from flows.warehouse.base import Warehouse
from flows.warehouse.duckdb import open_duckdb


@contextmanager
def open_warehouse(
    address: WarehouseAddress, settings: PipelineSettings, on_wait: Callable[[str], None]
) -> Generator[Warehouse, None, None]:
    """Open a warehouse and close it again, waiting for it as long as the settings say.

    `on_wait` is told once that and for whom it waits. Raises TemporaryError, PermanentError.
    """
    wait_seconds, limit = settings.warehouse_wait_seconds, settings.warehouse_memory_limit
    if isinstance(address, DuckDbFile):
        with open_duckdb(address.path, wait_seconds, on_wait, limit, settings.readers) as warehouse:
            yield warehouse
        return
    # Only here: a run whose warehouse is a DuckDB file does without psycopg, and is 0.3 s faster.
    from flows.warehouse.postgres import open_postgres

    with open_postgres(address, wait_seconds, on_wait, limit, settings.spool_dir) as warehouse:
        yield warehouse
