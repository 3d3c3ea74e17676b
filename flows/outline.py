"""What a glance tells of a small file: enough to load it into columns that the table has already.

To look at a file's values before they are loaded takes 6 ms (measured), and tells only which types new columns get.
So of many files only those are looked at that bring a new column, which is seldom more than the first.
"""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import duckdb

from flows.csv_reading import csv_outline
from flows.file_reader import read_plan
from flows.json_reading import json_outline, keys_of
from flows.one_thread import one_thread
from flows.parquet_reading import parquet_reading
from flows.reading import FILE_INDEX, Reading
from flows.rejection_reason import is_reading_fault, reason_of
from flows.source_file import FileFormat, Rejected, SourceFile

FEWEST = 8
"""With fewer files than that it does not pay to load them together."""
SMALL = 4_000_000
"""How many bytes of text a small file has at most."""
_TEXTS = frozenset({FileFormat.CSV, FileFormat.TSV})
_KEYS_AT_ONCE = 500
_PACKED = 10
"""By how much packed text is estimated to grow."""


@dataclass(frozen=True)
class Outline:
    """How a small file is read, as far as a glance tells."""

    reading: Reading
    """With the columns' names; their types are not known unless the file says them itself."""

    @property
    def file(self) -> SourceFile:
        """The file."""
        return self.reading.file

    @property
    def names(self) -> frozenset[str]:
        """The columns' names in lower case; none for a file without rows."""
        return frozenset(column.name.lower() for column in self.reading.columns)

    @property
    def shape(self) -> Hashable:
        """What files have in common that one query can read together."""
        return self.reading.shape if self.reading.columns else None


Plan = Reading | Outline | Rejected
"""How a file is read, from a look at its values or from a glance, or why it is rejected."""


def plans_of(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile | Rejected]) -> Iterator[Plan]:
    """Yield a plan for each file: an outline for each small one of many. Raises duckdb.Error, for no file's fault."""
    glanced = dict(_glances(connection, files)) if len(files) >= FEWEST else {}
    for file in files:
        if isinstance(file, Rejected):
            yield file
        else:
            yield glanced.get(file.name) or read_plan(connection, file)


def weight(file: SourceFile) -> int:
    """Return about how many bytes of text a file has."""
    return file.size * (_PACKED if file.is_gzipped or file.format is FileFormat.PARQUET else 1)


def size_of(plan: Plan) -> int:
    """Return the bytes of a plan's file, as it lies there."""
    return plan.size if isinstance(plan, Rejected) else plan.file.size


def _glances(
    connection: duckdb.DuckDBPyConnection, files: Iterable[SourceFile | Rejected]
) -> Iterator[tuple[str, Outline | Rejected]]:
    """Yield the name of each small file, and what a glance tells; what has to be read by itself is left out."""
    json: defaultdict[tuple[FileFormat, bool], list[SourceFile]] = defaultdict(list)
    for file in files:
        if isinstance(file, Rejected) or weight(file) > SMALL:
            continue
        if file.format is FileFormat.PARQUET:
            yield from _glance(file, partial(parquet_reading, connection, file))
        elif (content := _content(file)) is None:
            continue
        elif file.format in _TEXTS:
            yield from _glance(file, partial(csv_outline, file, content))
        elif not content.startswith(BOM_UTF8):  # DuckDB 2.0 refuses it at the start of a file, but not in a list
            json[file.format, file.is_gzipped].append(file)
    for alike in json.values():
        yield from _json_glances(connection, alike)


def _json_glances(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile]
) -> Iterator[tuple[str, Outline | Rejected]]:
    for start in range(0, len(files), _KEYS_AT_ONCE):
        with one_thread(connection):
            found = list(keys_of(connection, files[start : start + _KEYS_AT_ONCE]))
        for file, keys in found:
            if keys is not None:
                yield from _glance(file, partial(json_outline, file, keys))


def _content(file: SourceFile) -> bytes | None:
    """Return a file's text; None if it cannot be read or is not small."""
    try:
        with gzip.open(file.path) if file.is_gzipped else file.path.open("rb", buffering=0) as opened:
            content = opened.read(SMALL + 1)
    except (OSError, EOFError, zlib.error):
        return None
    return content if len(content) <= SMALL else None


def _glance(file: SourceFile, read: Callable[[], Reading | None]) -> Iterator[tuple[str, Outline | Rejected]]:
    try:
        reading = read()
    except Exception as error:
        if not is_reading_fault(error, file):
            raise
        yield file.name, Rejected(file.name, file.size, reason_of(error, file))
        return
    if reading and FILE_INDEX not in Outline(reading).names:
        yield file.name, Outline(reading)
