"""Opening the warehouse, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from flows.settings import PipelineSettings
from flows.warehouse.address import DuckDbFile, WarehouseAddress
from flows.warehouse.base import WaitBudget, Warehouse
from flows.warehouse.duckdb import open_duckdb


@contextmanager
def open_warehouse(
    address: WarehouseAddress,
    settings: PipelineSettings,
    on_wait: Callable[[str], None],
    budget: WaitBudget | None = None,
) -> Generator[Warehouse, None, None]:
    """Open a warehouse and close it again, waiting for it as long as the settings say, or what is left of that.

    `on_wait` is called once, with what it waits for. Raises TemporaryError, PermanentError.
    """
    wait, limit = budget or WaitBudget(settings.warehouse_wait_seconds), settings.warehouse_memory_limit
    if isinstance(address, DuckDbFile):
        with open_duckdb(address.path, wait, on_wait, limit, settings.readers) as warehouse:
            yield warehouse
        return
    # Only here: a run whose warehouse is a DuckDB file does without psycopg, and is 0.3 s faster.
    from flows.warehouse.postgres import open_postgres

    with open_postgres(address, wait, on_wait, limit, settings.spool_dir) as warehouse:
        yield warehouse
