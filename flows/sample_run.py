"""The pipeline on the sample that ships with the project, with no server set up beforehand."""

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any

import duckdb
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

from flows.pipeline_settings import PROJECT_ROOT, read_settings
from flows.warehouse import warehouse_path

SAMPLE = PROJECT_ROOT / "flows" / "sample" / "daily_metrics.csv"
TABLE = "public.sample_metrics"


def run_sample(flow: Flow[..., Any]) -> None:
    """Run a flow on the sample in a temporary Prefect of its own, then show where the rows are.

    The sample is always the same arrival: a second run skips it, and its rows stay there once.
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
        flow(SAMPLE.as_uri(), f"warehouse.{TABLE}", arrival_id="sample")
    warehouse = warehouse_path(read_settings().state_dir, "warehouse")
    with duckdb.connect(warehouse, read_only=True) as connection:
        print(f"\nThe rows are in {warehouse}, table {TABLE}; a few of them:\n")
        connection.sql(f"FROM {TABLE} LIMIT 5").show()
    atexit.register(_hush)


def _hush() -> None:
    """Keep DuckDB 2.0's bindings from listing, when Python exits, a hundred things that they did not free."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
