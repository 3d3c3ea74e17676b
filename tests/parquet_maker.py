"""Parquet files made byte by byte, for tests: with schemas, values, pages and footers that no library would write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
REQUIRED, OPTIONAL, REPEATED = range(3)
MAGIC = b"PAR1"
# Converted types, by their numbers in parquet.thrift.
UTF8, MAP, MAP_KEY_VALUE, LIST, ENUM, DECIMAL, DATE, TIME_MILLIS, TIME_MICROS, TIMESTAMP_MILLIS, TIMESTAMP_MICROS = (
    range(11)
)
UINT_8, UINT_16, UINT_32, UINT_64, INT_8, INT_16, INT_32, INT_64, JSON, BSON, INTERVAL = range(11, 22)
# Logical types, as what `Column.logical` takes.
Union = dict[int, dict[int, Any]]
MILLIS, MICROS, NANOS = (Union({number: {}}) for number in (1, 2, 3))


class I8(int):
    """A whole number that Thrift writes as one byte."""


class I64(int):
    """A whole number that Thrift writes as an i64."""


def logical_timestamp(unit: dict[int, Any], *, utc: bool) -> dict[int, Any]:
    return {8: {1: utc, 2: unit}}


def logical_time(unit: dict[int, Any], *, utc: bool) -> dict[int, Any]:
    return {7: {1: utc, 2: unit}}


def logical_int(bits: int, *, signed: bool) -> dict[int, Any]:
    return {10: {1: I8(bits), 2: signed}}


def logical_decimal(scale: int, precision: int) -> dict[int, Any]:
    return {5: {1: scale, 2: precision}}


STRING, ENUM_TYPE, DATE_TYPE, UNKNOWN, JSON_TYPE, BSON_TYPE, UUID, FLOAT16, VARIANT, GEOMETRY = (
    Union({number: {}}) for number in (1, 4, 6, 11, 12, 13, 14, 15, 16, 17)
)


@dataclass(frozen=True)
class Column:
    """A column and its values; None is a null."""

    name: str | bytes
    type: int
    values: Sequence[Any] = ()
    converted: int | None = None
    logical: dict[int, Any] | None = None
    length: int | None = None
    scale: int | None = None
    precision: int | None = None


@dataclass(frozen=True)
class Group:
    """A group of columns, with at most one value for each row: a struct."""

    name: str | bytes
    children: Sequence[Column | Group] = ()
    logical: dict[int, Any] | None = None


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file."""

    footer_rows: int | None = None
    """How many rows the footer says the file has."""
    group_rows: int | None = None
    """How many rows the footer says its one row group has."""
    chunk_values: int | None = None
    """How many values the footer says each column has."""
    page_values: int | None = None
    """How many values each page says it has."""
    bit_width: int | None = None
    """How many bits the numbers of entries of a dictionary have, which is there then and has the values."""
    codec: int = 0
    crc: int | None = None
    """Added to the checksum of each page; None: without checksums."""
    magic: bytes = MAGIC
    footer: dict[int, Any] = field(default_factory=dict[int, Any])
    """Fields of the footer that are put in the place of others."""


def parquet_file(*columns: Column | Group, rows: int | None = None, damage: Damage | None = None) -> bytes:
    """Return a file of these columns, each optional, plain, uncompressed and in one page."""
    damage = damage or Damage()
    leaves = list(_leaves(columns, 0, ()))
    count = rows if rows is not None else max((len(leaf.values) for leaf, _, _ in leaves), default=0)
    body = bytearray(MAGIC)
    chunks: list[Any] = []
    for leaf, depth, path in leaves:
        offset = len(body)
        dictionary = b"" if damage.bit_width is None else _dictionary(leaf)
        page = dictionary + _page(leaf, depth, damage)
        body += page
        values = len(leaf.values) if damage.chunk_values is None else damage.chunk_values
        meta = {
            1: leaf.type, 2: [0, 3], 3: list(path), 4: damage.codec, 5: I64(values),
            6: I64(len(page)), 7: I64(len(page)), 9: I64(offset + len(dictionary)),
        }  # fmt: skip
        if dictionary:
            meta[11] = I64(offset)
        chunks.append({2: I64(offset), 3: meta})
    group = {1: chunks, 2: I64(len(body) - 4), 3: I64(count if damage.group_rows is None else damage.group_rows)}
    schema = [{4: "schema", 5: len(columns)}, *_elements(columns)]
    footer: dict[int, Any] = {
        1: 1, 2: schema, 3: I64(count if damage.footer_rows is None else damage.footer_rows),
        4: [group] if count or leaves else [], 6: "made by a test",
    }  # fmt: skip
    footer.update(damage.footer)
    packed = struct_bytes({number: value for number, value in footer.items() if value is not None})
    return bytes(body) + packed + struct.pack("<I", len(packed)) + damage.magic


def _elements(columns: Iterable[Column | Group]) -> list[dict[int, Any]]:
    found: list[dict[int, Any]] = []
    for one in columns:
        if isinstance(one, Group):
            found.append(_present({3: OPTIONAL, 4: one.name, 5: len(one.children), 10: one.logical}))
            found += _elements(one.children)
        else:
            found.append(
                _present({
                    1: one.type, 2: one.length, 3: OPTIONAL, 4: one.name, 6: one.converted, 7: one.scale,
                    8: one.precision, 10: one.logical,
                })
            )  # fmt: skip
    return found


def _present(fields: dict[int, Any]) -> dict[int, Any]:
    return {number: value for number, value in fields.items() if value is not None}


def _leaves(
    columns: Iterable[Column | Group], depth: int, path: tuple[str | bytes, ...]
) -> Iterable[tuple[Column, int, tuple[str | bytes, ...]]]:
    for one in columns:
        if isinstance(one, Group):
            yield from _leaves(one.children, depth + 1, (*path, one.name))
        else:
            yield one, depth + 1, (*path, one.name)


def _page(column: Column, depth: int, damage: Damage) -> bytes:
    levels = b"".join(_run(depth if value is not None else depth - 1, depth) for value in column.values)
    content = struct.pack("<I", len(levels)) + levels
    if damage.bit_width is None:
        content += _plain(column)
    else:  # all are the first entry, in groups of eight
        groups = (len(column.values) + 7) // 8
        content += bytes([damage.bit_width]) + _varint(groups << 1 | 1) + bytes(groups * damage.bit_width)
    values = len(column.values) if damage.page_values is None else damage.page_values
    header = {
        1: 0,
        2: len(content),
        3: len(content),
        5: {1: values, 2: 0 if damage.bit_width is None else 8, 3: 3, 4: 3},
    }
    if damage.crc is not None:
        crc = (zlib.crc32(content) + damage.crc) & 0xFFFFFFFF
        header[4] = crc - (1 << 32) if crc >> 31 else crc
    return struct_bytes(dict(sorted(header.items()))) + content


def _dictionary(column: Column) -> bytes:
    content = _plain(column)
    return struct_bytes({1: 2, 2: len(content), 3: len(content), 7: {1: len(column.values), 2: 0}}) + content


def _run(level: int, depth: int) -> bytes:
    """A run of one level, in the hybrid of run lengths and packed bits."""
    return bytes([1 << 1]) + level.to_bytes((depth.bit_length() + 7) // 8, "little")


def _plain(column: Column) -> bytes:
    values = [value for value in column.values if value is not None]
    match column.type:
        case 0:
            bits = sum(1 << at for at, value in enumerate(values) if value)
            return bits.to_bytes((len(values) + 7) // 8, "little")
        case 1 | 2 | 4 | 5:
            return struct.pack(f"<{len(values)}{'_iq_fd'[column.type]}", *values)
        case 6:
            return b"".join(struct.pack("<I", len(value)) + value for value in values)
        case _:
            return b"".join(values)


def int96(day: int, nanoseconds: int) -> bytes:
    """A moment as Impala and Spark write it: nanoseconds of a day that is counted from 1 January 1970."""
    return struct.pack("<qI", nanoseconds, day + 2_440_588)


def struct_bytes(fields: dict[int, Any]) -> bytes:
    """A Thrift struct in the compact protocol."""
    out = bytearray()
    before = 0
    for number, value in fields.items():
        kind = (1 if value else 2) if isinstance(value, bool) else _kind(value)
        if 0 < number - before < 16:
            out.append((number - before) << 4 | kind)
        else:
            out += bytes([kind]) + _zigzag(number)
        before = number
        if not isinstance(value, bool):
            out += _value(value)
    return bytes(out) + b"\0"


def _kind(value: Any) -> int:  # noqa: PLR0911 - one for each type
    match value:
        case bool():
            return 1
        case I8():
            return 3
        case I64():
            return 6
        case int():
            return 5
        case str() | bytes():
            return 8
        case list():
            return 9
        case _:
            return 12


def _value(value: Any) -> bytes:
    match value:
        case I8():
            return bytes([value & 255])
        case int():
            return _zigzag(value)
        case str() | bytes():
            content = value.encode() if isinstance(value, str) else value
            return _varint(len(content)) + content
        case list():
            return _list(value)  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return struct_bytes(value)


def _list(items: list[Any]) -> bytes:
    kind = _kind(items[0]) if items else 12
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
    return head + b"".join(map(_value, items))


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
