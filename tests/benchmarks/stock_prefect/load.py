"""The flow that stock Prefect runs, one run a file: what its documentation and DuckDB's lead one to write."""

from pathlib import Path

import duckdb
from prefect import flow, get_run_logger, task

WAREHOUSE = Path(__file__).with_name("warehouse.duckdb")


# One process at a time can open a DuckDB file; the others try again.
@task(retries=30, retry_delay_seconds=1, retry_jitter_factor=1)
def load(path: str) -> None:
    """Append a CSV file's rows to the table."""
    with duckdb.connect(WAREHOUSE) as warehouse:
        rows = warehouse.read_csv(path)  # noqa: F841 - DuckDB finds it by its name
        warehouse.execute("CREATE TABLE IF NOT EXISTS daily_metrics AS FROM rows LIMIT 0")
        warehouse.execute("INSERT INTO daily_metrics FROM rows")
    get_run_logger().info("Rows committed")


@flow
def load_file(path: str) -> None:
    """Load one file."""
    load(path)
