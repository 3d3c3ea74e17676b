"""A file to be loaded, and why one cannot be."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class FileFormat(StrEnum):
    """How the rows of a file are written; the value is the file's suffix."""

    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    NDJSON = "ndjson"
    PARQUET = "parquet"


SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.TSV,
    ".json": FileFormat.JSON,
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
    ".parquet": FileFormat.PARQUET,
}


@dataclass(frozen=True)
class SourceFile:
    """A file that can be opened and whose format is known."""

    path: Path
    name: str
    """What it is called in the load key and in reports: its path from the source's folder, such as `orders.csv` or
    `north/orders.csv`, or an http source's host and path."""
    size: int
    """In bytes."""
    format: FileFormat
    is_gzipped: bool = False


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be loaded, and the reason in one line."""

    name: str
    size: int
    reason: str


def format_of(name: str) -> tuple[FileFormat, bool] | None:
    """Return the format that a name's suffix tells and whether it is gzipped; None for an unknown suffix.

    >>> format_of("Orders.CSV.gz")
    (<FileFormat.CSV: 'csv'>, True)
    """
    stem = name.lower()
    is_gzipped = stem.endswith(".gz")
    found = SUFFIXES.get(Path(stem.removesuffix(".gz")).suffix)
    return None if found is None or (is_gzipped and found is FileFormat.PARQUET) else (found, is_gzipped)
