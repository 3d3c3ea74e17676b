"""Validate one JSON record: strict syntax, unique keys, and numbers without loss of digits.

DuckDB's reader accepts NaN, Infinity and surplus commas, and rounds fractions with more digits than a DOUBLE holds
(measured, 2.0.0). So each record is parsed by orjson, which is strict, at 200 MB/s. If orjson finds a fault, or leaves
open whether a key is repeated or a number is kept, the record is examined token by token, which gives the position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from flows.errors import RejectionError

LONGEST_RECORD = 16 * 2**20
"""Maximum size in bytes."""


class CutShortError(RejectionError):
    """The text ends within a record."""


@dataclass(slots=True)
class JsonRecord:
    """One record, unchanged, and its position in the file."""

    text: bytes
    line: int
    """The line on which it begins, counted from 1."""
    column: int = 1
    """The position of its first character in that line, counted from 1."""

    def rejected(self, offset: int, why: str, *, is_cut: bool = False) -> RejectionError:
        """Return the rejection of the record at this byte offset; with `is_cut`, a CutShortError."""
        before = self.text[:offset].decode(errors="replace")
        breaks = before.count("\n")
        column = len(before) - before.rfind("\n") if breaks else self.column + len(before)
        kind = CutShortError if is_cut else RejectionError
        return kind(f"line {self.line + breaks}, column {column}: {why}")


KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}

_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_COLON = re.compile(rb'"[ \t\r\n]*+:')
_LONG_FRACTION = re.compile(rb"\.(?:(?=[0-9]{8})|(?<=[0-9]{8}\.))[0-9]+(?:[eE][-+]?[0-9]+)?")
"""The fraction, from the point on, of a number with at least eight digits before or after the point; the pattern begins
with a literal to be fast."""
_ODD_EXPONENTS = tuple(
    re.compile(pattern)
    for pattern in (rb"e-[0-9]{3}", rb"E-[0-9]{3}", rb"e(?<=[0-9]{16}e)[0-9+]", rb"E(?<=[0-9]{16}E)[0-9+]")
)
"""Exponents of numbers that are tiny, or have many digits and no point."""
_FEW_DIGITS = 15
"""A DOUBLE always holds this many digits."""
_MANY_DIGITS = 24


def parsed(text: bytes) -> object | None:
    """Return the value of a JSON text; None if it is invalid, or may have a fault that orjson does not report."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    # The value has a repeated key only once. A quote written as \\u0022 is hard to count.
    if b"\\u0022" in text or not _has_as_many_keys(text, value):
        return None
    return value if _are_kept(text) else None


def _are_kept(text: bytes) -> bool:
    """Return whether a DOUBLE surely holds all numbers of a JSON text."""
    for found in _LONG_FRACTION.finditer(text):
        before = text[max(0, found.start() - _MANY_DIGITS) : found.start()]
        digits = len(before) - len(before.rstrip(b"0123456789"))
        if digits + found.end() - found.start() - 1 <= _FEW_DIGITS:
            continue
        if digits == _MANY_DIGITS or not _is_kept(text[found.start() - digits : found.end()]):
            return False
    return not any(pattern.search(text) for pattern in _ODD_EXPONENTS)


def _has_as_many_keys(text: bytes, value: object) -> bool:
    again = orjson.dumps(value)
    if _SPACED_COLON.search(text):
        return len(_COLON.findall(text)) == len(_COLON.findall(again))
    return text.count(b'":') == again.count(b'":')


def _is_kept(number: bytes) -> bool:
    """Return whether a DOUBLE prints as the same number."""
    text = number.decode()
    value = float(text)
    if repr(value) == text:
        return True
    exact = Decimal(text)
    return Decimal(repr(value)) == exact or Decimal(f"{value:.17g}") == exact


@dataclass(frozen=True)
class _Examined:
    """The result of examining a record token by token."""

    value: Any
    """A value of the record's type; an object has its keys, each with a value of its type."""
    text: bytes
    """The record, with quotes around numbers that a DOUBLE does not hold."""
    end: int
    """Where the value ends in the record's text."""


def examined(record: JsonRecord, *, is_piece: bool = False) -> _Examined:
    """Examine a record token by token; with `is_piece`, only the first value of a longer text.

    Raises RejectionError with the position.
    """
    _check_utf8(record)
    found = _Examination(record)
    end = found.run(is_piece=is_piece)
    return _Examined(found.value, found.text, end)


_STRING = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9.eE+A-Za-z_])"
_TOKEN = re.compile(rf"[ \t\r\n]*+(?:({_STRING})|({_NUMBER})|((?:true|false|null)\b)|([{{}}\[\]:,]))".encode())
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_WORD = re.compile(rb"[-+]?[A-Za-z_0-9.+-]+")
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_VALUES: dict[bytes, object] = {b"true": True, b"false": False, b"null": None}


class _State(Enum):
    """What must come next; the value is for messages."""

    VALUE = "a value"
    VALUE_OR_END = 'a value or "]"'
    KEY = "a name in double quotes"
    KEY_OR_END = 'a name in double quotes or "}"'
    COLON = '":"'
    REST = "the end of the record"


class _Examination:
    """Checks the tokens of one record, without recursion."""

    def __init__(self, record: JsonRecord) -> None:
        self._record = record
        self._text = record.text
        self._at = 0
        self._state = _State.VALUE
        self._open: list[set[str] | None] = []
        """The open brackets, outermost first: the keys of an object, None for a list."""
        self._key = ""
        self._quoted: list[tuple[int, int]] = []
        self.value: Any = None
        """A value of the record's type; an object has its keys, each with a value of its type."""

    def run(self, *, is_piece: bool) -> int:
        """Read all tokens and return where the value ends. Raises RejectionError."""
        while True:
            token = _TOKEN.match(self._text, self._at)
            if token is None:
                raise self._fault()
            self._take(token)
            self._at = token.end()
            if not self._open and self._state is _State.REST:
                break
        if not is_piece and self._text[self._at :].strip(b" \t\r\n"):
            raise self._fault("the end of the record")
        return self._at

    @property
    def text(self) -> bytes:
        """The record, with quotes around numbers that a DOUBLE does not hold."""
        if not self._quoted:
            return self._text
        out, at = bytearray(), 0
        for start, end in self._quoted:
            out += self._text[at:start] + b'"' + self._text[start:end] + b'"'
            at = end
        return bytes(out + self._text[at:])

    def _take(self, token: re.Match[bytes]) -> None:
        text, number, word, mark = token.groups()
        is_value = self._state in (_State.VALUE, _State.VALUE_OR_END)
        if mark is not None:
            self._take_mark(mark)
        elif is_value and number is not None:
            self._take_number(number, token.start(2))
        elif is_value:
            if text is not None:
                self._check_surrogates(text, token.start(1))
            self._note("" if text is not None else _VALUES[word])
            self._state = _State.REST
        elif text is not None and self._state in (_State.KEY, _State.KEY_OR_END):
            self._take_key(text, token.start(1))
        else:
            raise self._fault()

    def _take_mark(self, mark: bytes) -> None:
        is_value = self._state in (_State.VALUE, _State.VALUE_OR_END)
        is_list = bool(self._open) and self._open[-1] is None
        if mark in b"[{" and is_value:
            self._note([] if mark == b"[" else {})
            self._open.append(None if mark == b"[" else set())
            self._state = _State.VALUE_OR_END if mark == b"[" else _State.KEY_OR_END
        elif mark == b":" and self._state is _State.COLON:
            self._state = _State.VALUE
        elif mark == b"," and self._state is _State.REST:
            self._state = _State.VALUE if is_list else _State.KEY
        elif (mark == b"]" and is_list and self._state in (_State.VALUE_OR_END, _State.REST)) or (
            mark == b"}" and not is_list and self._state in (_State.KEY_OR_END, _State.REST)
        ):
            self._open.pop()
            self._state = _State.REST
        else:
            raise self._fault()

    def _take_key(self, text: bytes, start: int) -> None:
        self._check_surrogates(text, start)
        self._key = json.loads(text)
        keys = self._open[-1]
        assert keys is not None  # noqa: S101 - only an object has keys
        if self._key in keys:
            raise self._record.rejected(start, f'the field "{self._key:.80}" is there more than once')
        keys.add(self._key)
        self._state = _State.COLON

    def _take_number(self, number: bytes, start: int) -> None:
        is_fraction = b"." in number or b"e" in number or b"E" in number
        if is_fraction and not _is_kept(number):
            if len(self._open) != 1 or self._open[0] is None:
                raise self._record.rejected(
                    start, f"the number {_shown(number)} has more digits than are kept within a list or an object"
                )
            self._quoted.append((start, start + len(number)))
        self._note(0.0 if is_fraction else 0)
        self._state = _State.REST

    def _note(self, value: object) -> None:
        if not self._open:
            self.value = value
        elif len(self._open) == 1 and self._open[0] is not None:
            self.value[self._key] = value

    def _check_surrogates(self, text: bytes, start: int) -> None:
        for found in _SURROGATES.finditer(text):
            if found[1]:
                raise self._record.rejected(
                    start + found.start(), f"{found[1].decode()} is half of a character, and the other half is missing"
                )

    def _fault(self, expected: str | None = None) -> RejectionError:
        """Return the rejection for the next token."""
        blanks = _BLANKS.match(self._text, self._at)
        at = blanks.end() if blanks else self._at
        expected = expected or self._state.value
        if self._open and self._state is _State.REST:
            expected = '"," or "]"' if self._open[-1] is None else '"," or "}"'
        why = self._why(self._text[at : at + 40], expected, at)
        return self._record.rejected(at, why, is_cut="cut short" in why)

    def _why(self, rest: bytes, expected: str, at: int) -> str:  # noqa: PLR0911 - one for each fault
        word = _WORD.match(rest)
        first = rest[:1]
        if not rest:
            return f"expected {expected}, and the text ends; it was cut short"
        if first == b'"' and self._state is not _State.REST and self._state is not _State.COLON:
            return self._why_text(at)
        if word and word[0].lstrip(b"-+").lower() in (b"nan", b"inf", b"infinity"):
            return f"{word[0].decode()} is not JSON; write null, or the word in quotes"
        if first in b"]}" and self._state in (_State.VALUE, _State.KEY) and self._text[:at].rstrip().endswith(b","):
            return f'a comma before "{first.decode()}", where no more follows'
        if first == b"'":
            return "single quotes; JSON has double quotes only"
        if rest[:2] in (b"//", b"/*") or first == b"#":
            return "a comment; JSON has none"
        if word and (first.isdigit() or first in b"-+."):
            return f"{_shown(word[0])} is not written as JSON writes numbers"
        return f"expected {expected}, got {_shown(word[0] if word else first)!r}"

    def _why_text(self, at: int) -> str:
        """Return the fault of the quoted text that begins here."""
        good = _TEXT_PART.match(self._text, at + 1)
        rest = self._text[good.end() if good else at + 1 :][:6]
        if not rest:
            return "a quote is opened and not closed; the text was cut short"
        if rest[:1] == b"\\":
            return f"{_shown(rest[:2])} in a text stands for nothing in JSON"
        return f"a text has the control character U+{rest[0]:04X}, such as a line break; write it as an escape"


_TEXT_PART = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')


def _shown(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return shown if len(shown) <= 40 else f"{shown[:40]}..."


def _check_utf8(record: JsonRecord) -> None:
    try:
        record.text.decode()
    except UnicodeDecodeError as error:
        raise record.rejected(error.start, "not UTF-8 text; save the file as UTF-8") from None
