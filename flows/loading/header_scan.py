"""Scan the header of a small file: enough to load it into columns that the table already has.

Reading a file's values before they are loaded takes 6 ms (measured), and only determines the types of new columns. So
of many files, only those that bring a new column are read, which is seldom more than the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.errors import is_infrastructure_error, original_of, reason_of
from flows.readers.base import FILE_INDEX, Reading
from flows.readers.csv_files import csv_header_scan
from flows.readers.guard import Guard, Reader
from flows.readers.json_files import json_header_scan
from flows.readers.parquet_files import parquet_header_scan
from flows.readers.registry import read_plan
from flows.rules import NO_RULES, LoadRules
from flows.source_file import Compression, FileFormat, Rejected, SourceFile

FEWEST = 8
"""With fewer files than this, loading them together does not pay off."""
SMALL = 4_000_000
"""The most bytes of text in a small file."""
_TEXTS = frozenset({FileFormat.CSV, FileFormat.TSV})
_SCANNED = _TEXTS | {FileFormat.JSON, FileFormat.NDJSON, FileFormat.PARQUET}
_PACKED = 10
"""By how much packed text is estimated to grow."""
_GZIP_BITS = 31
"""zlib's `wbits` for a gzip header and trailer with a window of 32 KiB."""


@dataclass(frozen=True)
class HeaderScan:
    """How a small file is read, as far as its header shows."""

    reading: Reading
    """Has the columns' names; their types are unknown unless the file itself declares them."""

    @property
    def file(self) -> SourceFile:
        return self.reading.file

    @property
    def names(self) -> frozenset[str]:
        """The columns' names in lower case; none for a file without rows."""
        return frozenset(column.name.lower() for column in self.reading.columns)

    @property
    def shape(self) -> Hashable:
        """Equal for files that one query can read together."""
        return self.reading.shape if self.reading.columns else None


Plan = Reading | HeaderScan | Rejected
"""How a file is read, from its values or from its header alone, or why it is rejected."""


def plans_of(
    reader: Reader,
    files: Sequence[SourceFile | Rejected],
    spool: Path,
    guard: Guard | None = None,
    rules: LoadRules = NO_RULES,
) -> Iterator[Plan]:
    """Yield a plan for each file.

    If there are many files, small ones get a header scan. Raises duckdb.Error if no file is at fault.
    """
    guard = guard or Guard()
    scanned = dict(_scans(reader, files, guard)) if len(files) >= FEWEST and not rules.changes_reading else {}
    for file in files:
        if isinstance(file, Rejected):
            yield file
        else:
            plan = scanned.get(file.name) or read_plan(reader.connection, file, spool, guard, rules)
            if isinstance(plan, Rejected):
                reader.renew()
            yield plan


def weight(file: SourceFile) -> int:
    """Return about how many bytes of text a file has."""
    return file.size * (_PACKED if file.compression or file.format is FileFormat.PARQUET else 1)


def size_of(plan: Plan) -> int:
    """Return the size on disk of a plan's file, in bytes."""
    return plan.size if isinstance(plan, Rejected) else plan.file.size


def _scans(
    reader: Reader, files: Iterable[SourceFile | Rejected], guard: Guard
) -> Iterator[tuple[str, HeaderScan | Rejected]]:
    """Yield the name and header scan of each small file; files that have to be read individually are left out."""
    for file in files:
        if isinstance(file, Rejected) or weight(file) > SMALL or not _is_scanned(file):
            continue
        if file.format is FileFormat.PARQUET:
            yield from _scan(file, partial(_parquet_scan, reader, file, guard), reader)
        elif (content := _content(file)) is None:
            continue
        elif file.format in _TEXTS:
            yield from _scan(file, partial(csv_header_scan, file, content, guard.limits), reader)
        else:
            yield from _scan(file, partial(json_header_scan, file, content, guard), reader)


def _is_scanned(file: SourceFile) -> bool:
    """Return whether DuckDB can read the file unchanged, with others of its kind."""
    return file.format in _SCANNED and file.compression in {None, Compression.GZIP}


def _parquet_scan(reader: Reader, file: SourceFile, guard: Guard) -> Reading | None:
    with guard.watching():
        return parquet_header_scan(reader.connection, file, guard)


def _content(file: SourceFile) -> bytes | None:
    """Return a file's text; None if it cannot be read, is not small, or is a gzip file of other than one member.

    DuckDB rejects the zeros with which some programs fill up a gzip file's last block, and Python skips them.
    """
    try:
        with file.path.open("rb", buffering=0) as opened:
            content = opened.read(SMALL + 1)
        if file.compression:
            member = zlib.decompressobj(wbits=_GZIP_BITS)
            content = member.decompress(content, SMALL + 1)
            if not member.eof or member.unused_data:
                return None
    except (OSError, zlib.error):
        return None
    return content if len(content) <= SMALL else None


def _scan(
    file: SourceFile, read: Callable[[], Reading | None], reader: Reader
) -> Iterator[tuple[str, HeaderScan | Rejected]]:
    try:
        reading = read()
    except Exception as error:
        if is_infrastructure_error(error):
            raise
        reader.renew()
        yield (
            file.name,
            Rejected(file.name, file.size, file.change() or reason_of(error, file), original_of(error, file)),
        )
        return
    if reading and FILE_INDEX not in HeaderScan(reading).names:
        yield file.name, HeaderScan(reading)
