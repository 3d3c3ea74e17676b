"""Read and write Thrift's compact protocol, which Parquet uses for metadata; a struct is a dict by field number.

The content is not trusted: every fault raises DamagedError, and every size is checked against the bytes that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
