"""Reject values of a Parquet file that DuckDB would silently change, by reading them as plain numbers.

DuckDB 2.0 truncates and wraps INT96, wraps small integers that are out of range, truncates the nanoseconds of a TIME in
UTC and wraps it into a day, reads any value in a column of nulls as null, and makes a long INTERVAL negative
(measured). Such columns are copied to a sparse file whose footer declares them as plain numbers. Most small integers
need no copy: the file's statistics have their minimum and maximum.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import duckdb

from flows.errors import RejectionError
from flows.readers.parquet_footer import (
    MAGIC,
    NANOS,
    REPEATED,
    Chunk,
    Converted,
    DamagedError,
    Element,
    Footer,
    Logical,
    Long,
    RowGroup,
    ThriftReader,
    Type,
    written,
)
from flows.sql_names import path_literal

_SMALL = {
    Converted.UINT_8: (0, 2**8 - 1),
    Converted.UINT_16: (0, 2**16 - 1),
    Converted.INT_8: (-(2**7), 2**7 - 1),
    Converted.INT_16: (-(2**15), 2**15 - 1),
}
_DAY_NANOS = 86_400 * 10**9
_EPOCH = 2_440_588
"""The Julian day of 1 January 1970."""
_LAST_DAY = 106_751_991
"""The last day, counted from 1970, that a DuckDB TIMESTAMP holds at least in part."""
_COPIED_AT_ONCE = 8 << 20


@dataclass(frozen=True)
class _Doubt:
    """A leaf whose values DuckDB may change."""

    path: tuple[Element, ...]
    raw: dict[int, int | None]
    """The fields of a schema element that declares the values as plain numbers."""
    fits: str
    """The SQL condition on a number, `raw`, that DuckDB keeps its value."""
    why: str


def check_raw_values(connection: duckdb.DuckDBPyConnection, file: BinaryIO, footer: Footer, spool: Path) -> None:
    """Raise RejectionError with row, column and value if DuckDB would change a value.

    Copies of columns are written to the folder `spool`. Raises duckdb.Error, OSError.
    """
    for doubt in _doubts(footer):
        copied = _copy(file, footer, doubt, spool)
        try:
            _check(connection, copied, doubt)
        finally:
            copied.unlink()


def needs_raw_check(footer: Footer) -> bool:
    """Return whether a file has columns that need the check."""
    return any(True for _ in _doubts(footer))


def _doubts(footer: Footer) -> Iterator[_Doubt]:
    for at, path in enumerate(footer.leaves):
        doubt = _doubt(path, path[-1])
        if doubt and not _is_proved(doubt, path[-1], [group.chunks[at] for group in footer.groups]):
            yield doubt


def _doubt(path: tuple[Element, ...], leaf: Element) -> _Doubt | None:
    is_null = leaf.logical == Logical.UNKNOWN or leaf.converted == Converted.NULL
    if is_null and len(path) == 1:
        return _Doubt(
            path, {1: leaf.type or 0, 2: leaf.length}, _NOTHING, "it has a value, and its column is said to have none"
        )
    if leaf.type == Type.INT96:
        day, nanos = _little_endian(8, 4), _little_endian(0, 8)
        near = f"{day} BETWEEN {_EPOCH - _LAST_DAY} AND {_EPOCH + _LAST_DAY - 2}"
        fits = f"{near} AND {nanos} BETWEEN 0 AND {_DAY_NANOS} AND {nanos} % 1000 = 0"
        return _Doubt(path, _DECIMAL_12, fits, "a moment out of reach, or with nanoseconds that would be cut off")
    if leaf.converted == Converted.INTERVAL and leaf.type == Type.FIXED and leaf.length == 12:
        return _Doubt(path, _DECIMAL_12, f"{_byte(3)} < 128 AND {_byte(7)} < 128", "an interval that is too long")
    if leaf.type == Type.INT32 and leaf.converted in _SMALL:
        least, most = _SMALL[Converted(leaf.converted)]
        return _Doubt(path, {1: leaf.type}, f"raw BETWEEN {least} AND {most}", f"out of the range of {_name(leaf)}")
    if leaf.logical == Logical.TIME and leaf.is_utc and leaf.type in (Type.INT32, Type.INT64):
        day = _DAY_NANOS // {1: 10**6, 2: 1000, NANOS: 1}[leaf.unit or NANOS]
        whole = " AND raw % 1000 = 0" if leaf.unit == NANOS else ""
        return _Doubt(path, {1: leaf.type}, f"raw BETWEEN 0 AND {day}{whole}", "no time of a day in whole microseconds")
    return None


_NOTHING = "false"
"""A condition that no number fulfils: the column may have only nulls."""
_DECIMAL_12: dict[int, int | None] = {1: Type.FIXED, 2: 12, 6: Converted.DECIMAL, 7: 0, 8: 38}
"""Twelve bytes as one number, with the most significant byte first."""


def _byte(at: int) -> str:
    return f"((raw >> {8 * (11 - at)}) & 255)"


def _little_endian(first: int, count: int) -> str:
    return "(" + " + ".join(f"({_byte(first + at)} << {8 * at})" for at in range(count)) + ")"


def _name(leaf: Element) -> str:
    return Converted(leaf.converted or 0).name


def _is_proved(doubt: _Doubt, leaf: Element, chunks: Sequence[Chunk]) -> bool:
    """Return whether the statistics prove that DuckDB keeps all values."""
    if doubt.fits == _NOTHING or leaf.converted not in _SMALL:
        return all(chunk.nulls == chunk.values for chunk in chunks)
    least, most = _SMALL[Converted(leaf.converted)]
    return all(
        chunk.nulls == chunk.values
        or all(
            end is not None and len(end) == 4 and least <= int.from_bytes(end, "little", signed=True) <= most
            for end in (chunk.least, chunk.most)
        )
        for chunk in chunks
    )


def _copy(file: BinaryIO, footer: Footer, doubt: _Doubt, spool: Path) -> Path:
    """Write a file with only this leaf, in which each level has a name of one letter."""
    leaf = doubt.path[-1]
    with NamedTemporaryFile(dir=spool, suffix=".parquet", delete=False) as copied:
        copied.write(MAGIC)
        size = os.fstat(file.fileno()).st_size
        groups: list[object] = []
        for group in footer.groups:
            chunk = group.chunks[leaf.leaf]
            # Some writers do not count the dictionary's header in the size; surplus bytes do no harm.
            for at in range(chunk.offset, min(size, chunk.offset + chunk.size + 4096), _COPIED_AT_ONCE):
                left = min(size, chunk.offset + chunk.size + 4096) - at
                os.pwrite(copied.fileno(), os.pread(file.fileno(), min(_COPIED_AT_ONCE, left), at), at)
            groups.append(_group(group, chunk, doubt))
        packed = written({1: 1, 2: _schema(doubt), 3: Long(footer.rows), 4: groups})
        os.pwrite(copied.fileno(), packed + len(packed).to_bytes(4, "little") + MAGIC, max(size, len(MAGIC)))
    return Path(copied.name)


def _schema(doubt: _Doubt) -> list[object]:
    above = [{3: one.repetition, 4: b"f", 5: 1} for one in doubt.path[:-1]]
    return [{4: b"schema", 5: 1}, *above, {**doubt.raw, 3: doubt.path[-1].repetition, 4: b"f"}]


def _group(group: RowGroup, chunk: Chunk, doubt: _Doubt) -> object:
    meta = {
        1: doubt.raw[1], 2: [0], 3: [b"f"] * len(doubt.path), 4: chunk.codec, 5: Long(chunk.values),
        6: Long(chunk.size), 7: Long(chunk.size), 9: Long(chunk.data_offset),
        11: None if chunk.dictionary_offset is None else Long(chunk.dictionary_offset),
    }  # fmt: skip
    return {1: [{2: Long(0), 3: meta}], 2: Long(chunk.size), 3: Long(group.rows)}


def _check(connection: duckdb.DuckDBPyConnection, copied: Path, doubt: _Doubt) -> None:
    if doubt.fits == _NOTHING:
        numbers = "CASE WHEN f IS NULL THEN NULL ELSE 0 END"
    elif len(doubt.path) == 1:
        numbers = "CAST(f AS HUGEINT)"
    else:  # no name in the nesting has a digit
        numbers = "CAST(unnest(regexp_extract_all(CAST(f AS VARCHAR), '-?\\d+')) AS HUGEINT)"
    rows = f"SELECT file_row_number AS row, {numbers} AS raw FROM read_parquet({path_literal(copied)})"
    found = connection.execute(
        f"SELECT min(row), arg_min(raw, row) FROM ({rows}) WHERE raw IS NOT NULL AND NOT ({doubt.fits})"
    ).fetchall()
    row, raw = found[0]
    if row is not None:
        column = ".".join(one.name for one in doubt.path)
        shown = "" if doubt.fits == _NOTHING else f"{_shown(doubt.path[-1], int(raw))}: "
        raise RejectionError(f'row {row + 1:,}, column "{column}": {shown}{doubt.why}')


def _shown(leaf: Element, raw: int) -> str:
    if leaf.type == Type.INT96:
        content = raw.to_bytes(12, signed=True)
        day, nanos = int.from_bytes(content[8:], "little"), int.from_bytes(content[:8], "little", signed=True)
        seconds, fraction = divmod(nanos, 10**9)
        return f"{_date(day - _EPOCH)} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:09}"
    if leaf.type == Type.FIXED:
        content = raw.to_bytes(12, signed=True)
        months, days, millis = (int.from_bytes(content[at : at + 4], "little") for at in (0, 4, 8))
        return f"{months:,} months {days:,} days {millis:,} ms"
    return str(raw)


def _date(days: int) -> str:
    """Return a day, counted from 1970, as a date of the Gregorian calendar, for any year."""
    # Howard Hinnant, chrono-Compatible Low-Level Date Algorithms: civil_from_days.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return (
        f"{year + era * 400 + (month >= 10)}-{month + 3 if month < 10 else month - 9:02}"
        f"-{of_year - (153 * month + 2) // 5 + 1:02}"
    )


# Check that the pages of a Parquet file exist and match their headers and the footer.
#
# DuckDB verifies no checksums, and reads the content of a damaged page as values (measured, 2.0). Only page headers
# are read here, and the bytes of pages that have a checksum: at 1 GB/s.

_HEADER_SIZES = (256, 4096, 1 << 20)
"""Bytes read for a header, in turn: some headers contain statistics."""
_AT_ONCE = 1 << 20
_CRC = 4
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
"""Fields of a page's header that show its type; `_CRC` is its checksum."""


def check_pages(descriptor: int, footer: Footer, check: Callable[[], None]) -> int:
    """Check all pages and return their total size when unpacked, in bytes.

    `check` is called for each column and may raise. Raises RejectionError with the column, OSError.
    """
    unpacked = 0
    size = os.fstat(descriptor).st_size
    leaves = footer.leaves
    for number, group in enumerate(footer.groups, 1):
        for path, chunk in zip(leaves, group.chunks, strict=True):
            check()
            where = f'column "{".".join(one.name for one in path)}", row group {number}'
            is_flat = all(one.repetition != REPEATED for one in path)
            if is_flat and chunk.values != group.rows:
                raise _damaged(where, f"it has {chunk.values:,} values for {group.rows:,} rows")
            unpacked += _walked(descriptor, size, chunk, path[-1], where)
    return unpacked


def _walked(descriptor: int, size: int, chunk: Chunk, leaf: Element, where: str) -> int:
    if chunk.type != leaf.type:
        raise _damaged(where, "its values are of another type than its column")
    at, values, unpacked = chunk.offset, 0, 0
    while values < chunk.values:
        header, at = _header(descriptor, at, where)
        packed, plain = header.get(3), header.get(2)
        if not isinstance(packed, int) or not isinstance(plain, int) or packed < 0 or plain < 0 or packed > size - at:
            raise _damaged(where, "a page is not where it should be")
        if _CRC in header and _checksum(descriptor, at, packed) != header[_CRC] & 0xFFFFFFFF:
            raise _damaged(where, f"the checksum of the page at byte {at:,} is wrong")
        data: dict[int, int] = header.get(_DATA) or header.get(_DATA_V2) or {}
        if data:
            count = data.get(1, -1)
            if count < 0 or (not count and not packed):
                raise _damaged(where, "a page has no values")
            values += count
        elif _DICTIONARY not in header and header.get(1) != 1:
            raise _damaged(where, "a page is of no known kind")
        at += packed
        unpacked += plain
    if values != chunk.values:
        raise _damaged(where, f"its pages have {values:,} values, and {chunk.values:,} should be there")
    return unpacked


def _header(descriptor: int, at: int, where: str) -> tuple[dict[int, Any], int]:
    """Return a page's header, and where its content begins."""
    for size in _HEADER_SIZES:
        reader = ThriftReader(os.pread(descriptor, size, at))
        try:
            return reader.struct(), at + reader.at
        except DamagedError:
            continue
    raise _damaged(where, f"the header of the page at byte {at:,} cannot be read")


def _checksum(descriptor: int, at: int, size: int) -> int:
    crc = 0
    for start in range(at, at + size, _AT_ONCE):
        crc = zlib.crc32(os.pread(descriptor, min(_AT_ONCE, at + size - start), start), crc)
    return crc


def _damaged(where: str, why: str) -> RejectionError:
    return RejectionError(f"the Parquet file is damaged: {where}: {why}")
