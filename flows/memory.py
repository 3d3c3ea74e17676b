"""How much memory DuckDB may take, and where it goes on when that is used up."""

from __future__ import annotations

from pathlib import Path

import duckdb

from flows.quoting import literal

DEFAULT_LIMIT = "1GB"
"""Of DuckDB's buffers, whose own default is 80 % of the machine's memory. The widest file tried, a million rows of 60
texts, is loaded with it, also by 16 threads (measured, DuckDB 2.0: the whole process takes 1 GB, without it 2.2 GB)."""


def bound(connection: duckdb.DuckDBPyConnection, limit: str, spill_dir: Path) -> None:
    """Have a connection keep to a limit such as `1GB`, and put what is more into a folder that it makes and removes."""
    connection.execute(f"SET memory_limit = {literal(limit)}")
    connection.execute(f"SET temp_directory = {literal(str(spill_dir))}")
