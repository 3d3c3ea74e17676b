"""Run the pipeline on the project's sample file; no Prefect server has to be running."""

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.settings import PROJECT_ROOT, read_settings
from flows.sql_names import TargetTable
from flows.warehouse.address import CATALOG, table_in
from flows.warehouse.open import open_warehouse

SAMPLE = PROJECT_ROOT / "flows" / "sample" / "daily_metrics.csv"
TABLE = TargetTable(CATALOG, "public", "sample_metrics")


def run_sample(flow: Flow[..., Any]) -> None:
    """Run a flow on the sample file with a temporary Prefect server, then print where the rows are.

    The sample is always the same arrival: a second run skips it, so its rows are stored once.
    """
    with (
        tempfile.TemporaryDirectory() as home,
        temporary_settings(
            updates={
                PREFECT_HOME: Path(home),
                PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
                PREFECT_SERVER_ANALYTICS_ENABLED: False,
                PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
            },
            restore_defaults={
                PREFECT_API_AUTH_STRING,
                PREFECT_API_KEY,
                PREFECT_API_URL,
                PREFECT_SERVER_API_AUTH_STRING,
            },
        ),
    ):
        flow(SAMPLE.as_uri(), str(TABLE), arrival_id="sample")
    settings = read_settings()
    address = settings.warehouse()
    table = table_in(address, TABLE)
    with open_warehouse(address, settings.open_options, print) as warehouse:
        names, rows = warehouse.first_rows(table, 5)
    print(f"\nThe rows are in {address}, table {table.schema}.{table.table}; a few of them:\n")
    _show(names, rows)
    atexit.register(_hush)


def _show(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    shown = Table(*(escape(name) for name in names))
    for row in rows:
        shown.add_row(*("" if value is None else escape(str(value)) for value in row))
    Console().print(shown)


def _hush() -> None:
    """Suppress the hundred leaked objects that DuckDB 2.0's bindings list when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
