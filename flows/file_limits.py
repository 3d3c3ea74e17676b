"""Limits on one file, whose violation rejects only that file of its arrival, and on an http source."""

from __future__ import annotations

from dataclasses import dataclass

from flows.errors import RejectionError

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class FileLimits:
    """Limits on one file. Each `max_` field is also a setting, named in capitals."""

    max_columns: int = 4096
    """Maximum columns of a file, and of the table that it is loaded into."""
    max_rows: int = 100_000_000
    max_unpacked_bytes: int = 4 * 2**30
    """Maximum size after decompression: of a gzipped file, or of the values in a Parquet file."""
    max_file_seconds: float = 3600.0
    run_memory_bytes: int = 1_200 * MEGABYTE
    """Maximum memory of the run's process, as the kernel counts it."""
    run_memory_source: str = "RUN_MEMORY_LIMIT"
    """Where `run_memory_bytes` comes from, a setting or the cgroup; for messages."""

    def check_columns(self, count: int) -> None:
        """Raise LimitError if a file has too many columns."""
        if count > self.max_columns:
            raise LimitError(f"{count:,} columns", f"{self.max_columns:,}", "MAX_COLUMNS")

    def check_table_columns(self, there: int, added: int) -> None:
        """Raise LimitError if a file adds too many columns to a table that has `there` columns."""
        if added and there + added > self.max_columns:
            got = f"it adds {added:,} columns to a table of {there:,}" if there else f"{added:,} columns"
            raise LimitError(got, f"{self.max_columns:,}", "MAX_COLUMNS")

    def check_rows(self, count: int) -> None:
        """Raise LimitError if a file has too many rows."""
        if count > self.max_rows:
            raise LimitError(f"{count:,} rows", f"{self.max_rows:,}", "MAX_ROWS")

    def check_unpacked(self, size: int, *, at_least: bool = False) -> None:
        """Raise LimitError if a file unpacks to too many bytes; with `at_least`, `size` is a lower bound."""
        if size > self.max_unpacked_bytes:
            got = "it unpacks to " + (f"more than {self.max_unpacked_bytes:,}" if at_least else f"{size:,}") + " bytes"
            raise LimitError(got, f"{self.max_unpacked_bytes:,}", "MAX_UNPACKED_BYTES")


@dataclass(frozen=True)
class HttpLimits:
    """Limits on an http source; each field is also a setting, named in capitals and prefixed with HTTP_."""

    allowed_hosts: frozenset[str] = frozenset()
    """Hosts besides the source's own that redirects and next pages may lead to: `host`, or `host:port`."""
    max_pages: int = 10_000
    max_bytes: int = 4 * 2**30
    """Of all pages together, after decompression."""
    max_seconds: float = 3600.0
    """For the whole download."""
    max_redirects: int = 10
    """Of one page."""


class LimitError(RejectionError):
    """A file exceeds a limit."""

    def __init__(self, got: str, limit: str, setting: str) -> None:
        super().__init__(f"{got}, the limit is {limit}; raise {setting} to load it")
