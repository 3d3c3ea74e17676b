"""Read the footer of a Parquet file: its schema, and where the values of each column are.

DuckDB's view of it is not enough: DuckDB renames columns whose names differ only in case, recognizes most logical types
only by the older converted types, and does not compare the numbers of rows (measured, DuckDB 2.0). The field numbers
are those of parquet.thrift in apache/parquet-format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

from flows.errors import RejectionError

MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_TAIL = 8
"""Size of the file's tail: the length of the footer in four bytes, and the magic."""
_DEEPEST = 100
"""How deeply a schema may be nested."""
_CODECS = {3: "LZO"}
"""Known codecs that are not supported; codecs above `_LAST_CODEC` are unknown."""
_LAST_CODEC = 7


class Type(IntEnum):
    """Physical types."""

    BOOLEAN = 0
    INT32 = 1
    INT64 = 2
    INT96 = 3
    FLOAT = 4
    DOUBLE = 5
    BYTE_ARRAY = 6
    FIXED = 7


class Converted(IntEnum):
    """Converted types, the older way to give a physical type a meaning."""

    UTF8 = 0
    MAP = 1
    MAP_KEY_VALUE = 2
    LIST = 3
    ENUM = 4
    DECIMAL = 5
    DATE = 6
    TIME_MILLIS = 7
    TIME_MICROS = 8
    TIMESTAMP_MILLIS = 9
    TIMESTAMP_MICROS = 10
    UINT_8 = 11
    UINT_16 = 12
    UINT_32 = 13
    UINT_64 = 14
    INT_8 = 15
    INT_16 = 16
    INT_32 = 17
    INT_64 = 18
    JSON = 19
    BSON = 20
    INTERVAL = 21
    NULL = 24
    """In files from before logical types."""


class Logical(IntEnum):
    """Logical types, by their field in the union."""

    STRING = 1
    MAP = 2
    LIST = 3
    ENUM = 4
    DECIMAL = 5
    DATE = 6
    TIME = 7
    TIMESTAMP = 8
    INTEGER = 10
    UNKNOWN = 11
    JSON = 12
    BSON = 13
    UUID = 14
    FLOAT16 = 15
    VARIANT = 16
    GEOMETRY = 17
    GEOGRAPHY = 18


REQUIRED, OPTIONAL, REPEATED = range(3)
NANOS = 3
"""The field of a time unit that means nanoseconds."""


@dataclass(frozen=True)
class Element:
    """A column, or a group of columns, in the file's schema."""

    name: str
    type: int | None
    """None for a group."""
    repetition: int = REQUIRED
    length: int | None = None
    converted: int | None = None
    scale: int = 0
    precision: int = 0
    logical: int | None = None
    details: Mapping[int, Any] | None = None
    """The parameters of the logical type."""
    children: tuple[Element, ...] = ()
    leaf: int = -1
    """The index among the file's leaves; -1 for a group."""

    def paths(self, above: tuple[Element, ...] = ()) -> Iterator[tuple[Element, ...]]:
        """Yield the path from this element to each leaf."""
        path = (*above, self)
        if self.type is not None:
            yield path
        for child in self.children:
            yield from child.paths(path)

    @property
    def unit(self) -> int | None:
        """The unit of a logical TIME or TIMESTAMP, by its field."""
        unit: dict[int, Any] = (self.details or {}).get(2) or {}
        return next(iter(unit), None)

    @property
    def is_utc(self) -> bool:
        """Whether a logical TIME or TIMESTAMP is adjusted to UTC."""
        return bool((self.details or {}).get(1))


@dataclass(frozen=True)
class Chunk:
    """The values of one leaf in one row group."""

    type: int
    codec: int
    values: int
    """Their number, including nulls."""
    offset: int
    size: int
    """In bytes, as the footer says."""
    data_offset: int
    dictionary_offset: int | None
    nulls: int | None
    """The number of nulls, from the statistics."""
    least: bytes | None
    most: bytes | None


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file, column by column."""

    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Footer:
    """A file's metadata."""

    columns: tuple[Element, ...]
    rows: int
    groups: tuple[RowGroup, ...]
    created_by: str

    @property
    def leaves(self) -> list[tuple[Element, ...]]:
        """The path to each leaf, in the order of the chunks."""
        return [path for column in self.columns for path in column.paths()]


def read_footer(file: BinaryIO) -> Footer:
    """Return a file's footer. Raises RejectionError, and OSError for a file that cannot be read."""
    packed, size = _footer_bytes(file)
    try:
        return _footer(ThriftReader(packed).struct(), size)
    except (DamagedError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = f": {error}" if isinstance(error, DamagedError) else ""
        raise RejectionError(f"the Parquet file is damaged: its footer cannot be read{why}") from None


def _footer_bytes(file: BinaryIO) -> tuple[bytes, int]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(len(MAGIC))
    if head == _ENCRYPTED_MAGIC:
        raise RejectionError("the Parquet file is encrypted; write it without encryption")
    if head != MAGIC:
        raise RejectionError("expected a Parquet file, as its name says; it does not begin with PAR1")
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    if size < len(MAGIC) + _TAIL or tail[4:] not in (MAGIC, _ENCRYPTED_MAGIC):
        raise RejectionError(
            "the Parquet file is damaged: its end is missing; it was cut short, or not written to its end"
        )
    if tail[4:] == _ENCRYPTED_MAGIC:
        raise RejectionError("the Parquet file is encrypted; write it without encryption")
    length = int.from_bytes(tail[:4], "little")
    if length > size - _TAIL - len(MAGIC):
        raise RejectionError("the Parquet file is damaged: its footer would be longer than the file")
    file.seek(size - _TAIL - length)
    return file.read(length), size - _TAIL - length


def _footer(said: Struct, end: int) -> Footer:
    elements = iter(said[2])
    root = next(elements, None)
    if root is None:
        raise DamagedError("it has no schema")
    leaves = [0]
    columns = tuple(_element(elements, leaves, 1) for _ in range(root.get(5, 0)))
    if next(elements, None) is not None:
        raise DamagedError("its schema has columns that belong to none")
    if not columns:
        raise RejectionError("the Parquet file has no columns")
    groups = tuple(_row_group(group, leaves[0], end) for group in said.get(4) or ())
    rows, counted = said[3], sum(group.rows for group in groups)
    if rows != counted:
        raise RejectionError(
            f"the Parquet file is damaged: its footer says {rows:,} rows, and its row groups {counted:,}"
        )
    return Footer(columns, rows, groups, said.get(6, b"").decode(errors="replace"))


def _element(elements: Iterator[Struct], leaves: list[int], depth: int) -> Element:
    said = next(elements, None)
    if said is None:
        raise DamagedError("its schema ends too early")
    if depth > _DEEPEST:
        raise RejectionError(f"the Parquet file has columns of more than {_DEEPEST} levels")
    try:
        name = said[4].decode()
    except UnicodeDecodeError:
        raise RejectionError(f"the name of column {said[4]!r} is not UTF-8") from None
    count = said.get(5) or 0
    if count or 1 not in said:
        children = tuple(_element(elements, leaves, depth + 1) for _ in range(count))
        said_logical: dict[int, Any] = said.get(10) or {}
        logical = next(iter(said_logical), None)
        return Element(name, None, said.get(3, 0), converted=said.get(6), logical=logical, children=children)
    leaves[0] += 1
    union: dict[int, dict[int, Any]] = said.get(10) or {}
    logical, details = next(iter(union.items()), (None, None))
    return Element(
        name, Type(said[1]), said.get(3, 0), said.get(2), said.get(6), said.get(7) or 0, said.get(8) or 0,
        logical, details, leaf=leaves[0] - 1,
    )  # fmt: skip


def _row_group(said: Struct, leaves: int, end: int) -> RowGroup:
    rows, chunks = said[3], said[1]
    if rows < 0 or len(chunks) != leaves:
        raise DamagedError(f"a row group has {len(chunks)} columns of {leaves}")
    return RowGroup(rows, tuple(_chunk(chunk, end) for chunk in chunks))


def _chunk(said: Struct, end: int) -> Chunk:
    if said.get(1):
        raise RejectionError("the Parquet file has its columns in other files; write it as one file")
    if 8 in said or 3 not in said:
        raise RejectionError("the Parquet file is encrypted; write it without encryption")
    meta: dict[int, Any] = said[3]
    codec: int = meta[4]
    if codec in _CODECS or not 0 <= codec <= _LAST_CODEC:
        known = _CODECS.get(codec, f"number {codec}")
        raise RejectionError(
            f"the Parquet file is compressed by {known}, which is not supported; use Snappy or Zstandard"
        )
    statistics: dict[int, Any] = meta.get(12) or {}
    data, dictionary = meta[9], meta.get(11)
    offset = dictionary if dictionary and 0 < dictionary < data else data
    if meta[5] < 0 or (meta[5] and not 0 < offset <= end):
        raise DamagedError("a column is said to be outside of the file")
    return Chunk(
        meta[1], codec, meta[5], offset, meta[7], data, dictionary if offset == dictionary else None,
        statistics.get(3), statistics.get(6), statistics.get(5),
    )  # fmt: skip


def check_nested_names(column: Element) -> None:
    """Raise RejectionError if names within a group are the same without regard to case: DuckDB renames them."""
    _check_twins(column.name, column.children)


def _check_twins(path: str, children: Sequence[Element]) -> None:
    seen = dict[str, str]()
    for child in children:
        twin = seen.setdefault(child.name.lower(), child.name)
        if twin is not child.name:
            raise RejectionError(
                f'column "{path}": the names "{twin}" and "{child.name}" within it differ in nothing but case'
            )
        _check_twins(f"{path}.{child.name}", child.children)


# Read and write Thrift's compact protocol, which Parquet uses for metadata; a struct is a dict by field number.
#
# The content is not trusted: every fault raises DamagedError, and every size is checked against the bytes that are
# left.

Struct = Mapping[int, Any]

_DEEPEST_STRUCT = 64
"""How deeply structs may be nested; Parquet's own have seven levels."""
_TRUE, _FALSE, _I8, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class Long(int):
    """An integer that is written as an i64; all others are written as an i32."""


class DamagedError(ValueError):
    """The bytes are not a valid struct."""


class ThriftReader:
    """Reads structs from bytes in sequence."""

    def __init__(self, content: bytes, at: int = 0) -> None:
        self._content = content
        self.at = at
        """Where the next struct begins."""

    def struct(self) -> dict[int, Any]:
        """Return the next struct. Raises DamagedError."""
        try:
            return self._struct(0)
        except IndexError:
            raise DamagedError("it ends too early") from None

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth > _DEEPEST_STRUCT:
            raise DamagedError("its structs are nested too deeply")
        content, fields, number = self._content, dict[int, Any](), 0
        while head := content[self.at]:
            self.at += 1
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        self.at += 1
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: PLR0911 - one for each type
        match kind:
            case 4 | 5 | 6:
                return self._signed()
            case 8:
                return self._binary()
            case 12:
                return self._struct(depth + 1)
            case 9 | 10:
                return self._list(depth)
            case 1 | 2:  # within a list, a bool takes one byte
                return self._take(1) == b"\x01"
            case 3:
                return int.from_bytes(self._take(1), signed=True)
            case 7:
                return self._take(8)
            case 11:
                return self._map(depth)
            case _:
                raise DamagedError(f"it has a value of the unknown type {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._take(1)[0]
        size = head >> 4 if head >> 4 < 15 else self._unsigned()
        self._check_size(size)
        return [self._value(head & 15, depth) for _ in range(size)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        size = self._unsigned()
        self._check_size(size)
        kinds = self._take(1)[0] if size else 0
        return [(self._value(kinds >> 4, depth), self._value(kinds & 15, depth)) for _ in range(size)]

    def _binary(self) -> bytes:
        size = self._unsigned()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        self._check_size(size)
        taken = self._content[self.at : self.at + size]
        self.at += size
        return taken

    def _check_size(self, size: int) -> None:
        if size > len(self._content) - self.at:
            raise DamagedError("it ends too early")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        content = self._content
        value = content[self.at]
        self.at += 1
        if value < 128:
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = content[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise DamagedError("it has a number of more than 64 bits")


def written(struct: Struct) -> bytes:
    """Return a struct in the compact protocol; fields with the value None are left out."""
    out = bytearray()
    before = 0
    for number, value in sorted(struct.items()):
        if value is None:
            continue
        kind = _kind(value)
        out += bytes([(number - before) << 4 | kind]) if number - before < 16 else bytes([kind]) + _signed(number)
        out += b"" if kind <= _FALSE else _value(value)
        before = number
    return bytes(out) + b"\0"


def _kind(value: object) -> int:
    match value:
        case bool():
            return _TRUE if value else _FALSE
        case Long():
            return _I64
        case int():
            return _I32
        case bytes():
            return _BINARY
        case list():
            return _LIST
        case _:
            return _STRUCT


def _value(value: Any) -> bytes:
    if isinstance(value, int):
        return _signed(value)
    if isinstance(value, bytes):
        return _unsigned(len(value)) + value
    if isinstance(value, list):
        return _list(value)  # pyright: ignore[reportUnknownArgumentType]
    return written(value)


def _list(items: list[Any]) -> bytes:
    kind = _kind(items[0]) if items else _STRUCT
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _unsigned(len(items))
    return head + b"".join(map(_value, items))


def _signed(value: int) -> bytes:
    return _unsigned(value << 1 if value >= 0 else (-value << 1) - 1)


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
