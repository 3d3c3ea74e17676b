"""Check that the pages of a Parquet file exist and match their headers and the footer.

DuckDB verifies no checksums, and reads the content of a damaged page as values (measured, 2.0). Only page headers are
read here, and the bytes of pages that have a checksum: at 1 GB/s.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

from flows.errors import RejectionError
from flows.readers.parquet_footer import REPEATED, Chunk, Element, Footer
from flows.readers.thrift_compact import DamagedError, ThriftReader

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
