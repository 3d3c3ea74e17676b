"""Opening the warehouse, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.warehouse.address import DuckDbFile, WarehouseAddress
from flows.warehouse.base import WaitBudget, Warehouse
from flows.warehouse.duckdb import open_duckdb


@dataclass(frozen=True)
class OpenOptions:
    """How a warehouse is opened, whichever it is."""

    wait_seconds: float
    """How long to wait while another run has it open."""
    memory_limit: str
    """For DuckDB's buffers, such as `2GB`."""
    readers: int | None
    """The group that may read the file, or None."""
    spool_dir: Path
    """Where large texts wait on their way to PostgreSQL."""


@contextmanager
def open_warehouse(
    address: WarehouseAddress,
    options: OpenOptions,
    on_wait: Callable[[str], None],
    budget: WaitBudget | None = None,
) -> Generator[Warehouse, None, None]:
    """Open a warehouse and close it again, waiting for it as long as the options say, or what is left of that.

    `on_wait` is called once, with what it waits for. Raises TemporaryError, PermanentError.
    """
    wait, limit = budget or WaitBudget(options.wait_seconds), options.memory_limit
    if isinstance(address, DuckDbFile):
        with open_duckdb(address.path, wait, on_wait, limit, options.readers) as warehouse:
            yield warehouse
        return
    # Only here: a run whose warehouse is a DuckDB file does without psycopg, and is 0.3 s faster.
    from flows.warehouse.postgres import open_postgres

    with open_postgres(address, wait, on_wait, limit, options.spool_dir) as warehouse:
        yield warehouse
