"""Find in a binary sheet (.xlsb) its extent and its error values, which its reader returns as empty cells.

A part is a sequence of records, each with a type, a length and content, as [MS-XLSB] describes them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from flows.errors import RejectionError
from flows.readers.guard import Guard

_ROW = 0
_ERRORS = frozenset({3, 11})
_VALUES = frozenset({2, 4, 5, 6, 7, 8, 9, 10, 62})
"""Records of cells: numbers, booleans, texts, and the results of formulas."""
_SHEET = 156
_LONGEST = 1 << 24
_NAMES = {
    0x00: "#NULL!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x17: "#REF!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}  # fmt: skip


def sheet_relations(part: BinaryIO, guard: Guard) -> dict[str, str]:
    """Return the id of each sheet's relation by the sheet's name, from the workbook's part. Raises RejectionError."""
    found = dict[str, str]()
    for type_, content in _records(part, guard):
        if type_ == _SHEET:
            relation, end = _text(content, 8)
            found[_text(content, end)[0]] = relation
    return found


def cells(part: BinaryIO, guard: Guard) -> Iterator[tuple[int, int, str | None]]:
    """Yield row and column of each cell with a value, counted from 1, and its error. Raises RejectionError."""
    row = 0
    for type_, content in _records(part, guard):
        if type_ == _ROW:
            (row,) = _unpacked("<I", content, 0)
        elif type_ in _VALUES:
            yield row + 1, _unpacked("<I", content, 0)[0] + 1, None
        elif type_ in _ERRORS:
            column, code = _unpacked("<I4xB", content, 0)
            yield row + 1, column + 1, _NAMES.get(code, "#ERROR")


def _records(part: BinaryIO, guard: Guard) -> Iterator[tuple[int, bytes]]:
    with io.BufferedReader(part) as stream:  # pyright: ignore[reportArgumentType] # a member of a ZIP archive
        number = 0
        while first := stream.read(1):
            number += 1
            if number % 10_000 == 0:
                guard.check()
            type_ = first[0]
            if type_ & 0x80:
                type_ = (type_ & 0x7F) | (_byte(stream) & 0x7F) << 7
            length = 0
            for at in range(4):
                one = _byte(stream)
                length |= (one & 0x7F) << 7 * at
                if not one & 0x80:
                    break
            content = stream.read(length) if length <= _LONGEST else b""
            if len(content) != length:
                raise _damaged()
            yield type_, content


def _byte(stream: io.BufferedReader) -> int:
    one = stream.read(1)
    if not one:
        raise _damaged()
    return one[0]


def _text(content: bytes, at: int) -> tuple[str, int]:
    """Return a text and where it ends."""
    (size,) = _unpacked("<I", content, at)
    end = at + 4 + 2 * size
    if end > len(content):
        raise _damaged()
    return content[at + 4 : end].decode("utf-16-le", errors="replace"), end


def _unpacked(form: str, content: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, content, at)
    except struct.error:
        raise _damaged() from None


def _damaged() -> RejectionError:
    return RejectionError("the workbook is damaged: a record is cut short; send it again")
