"""Open the warehouse at an address: a DuckDB file or a PostgreSQL database."""

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
    """Options for opening a warehouse of either kind."""

    wait_seconds: float
    """How long to wait while another run has the warehouse open, or the server does not answer."""
    memory_limit: str
    """Limit of DuckDB's buffers, such as `2GB`."""
    readers: int | None
    """The id of the group that may read the DuckDB file, or None."""
    spool_dir: Path
    """The folder for rows on their way to PostgreSQL."""


@contextmanager
def open_warehouse(
    address: WarehouseAddress,
    options: OpenOptions,
    on_wait: Callable[[str], None],
    budget: WaitBudget | None = None,
) -> Generator[Warehouse, None, None]:
    """Open a warehouse for the block, waiting for it as long as the options, or the rest of a budget, allow.

    `on_wait` is called once, with the reason, when the wait begins. Raises TemporaryError, PermanentError.
    """
    wait, limit = budget or WaitBudget(options.wait_seconds), options.memory_limit
    if isinstance(address, DuckDbFile):
        with open_duckdb(address.path, wait, on_wait, limit, options.readers) as warehouse:
            yield warehouse
        return
    # Imported here: a run with a DuckDB file needs no psycopg, which takes 0.3 s to import.
    from flows.warehouse.postgres import open_postgres

    with open_postgres(address, wait, on_wait, limit, options.spool_dir) as warehouse:
        yield warehouse
