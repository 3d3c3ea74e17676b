"""Read the records of an XML document: elements at one path, each with its attributes and the texts of its children.

Expat reads the document as a stream: no more than one record is in memory. A document type declaration is rejected, so
that there are no entities to expand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol
from xml.parsers import expat

from flows.errors import RejectionError
from flows.readers.guard import Guard
from flows.readers.text_records import BadRecord, Record, Table
from flows.rules import XmlFormat

_AT_ONCE = 1 << 16
_DEEPEST = 100
_LONGEST_RECORD = 32_000_000
"""In characters."""
_SHOWN = 5
"""How many paths of other elements a reason names."""
_XSI = "http://www.w3.org/2001/XMLSchema-instance "
_NOT_DATA = frozenset({f"{_XSI}schemaLocation", f"{_XSI}noNamespaceSchemaLocation"})
_BETWEEN = " "
"""Separates namespace and name in the names that expat reports."""


class _Open(Protocol):
    def __call__(self) -> AbstractContextManager[BinaryIO]: ...


def xml_parser() -> expat.XMLParserType:
    """Return a parser that reports names with their namespaces, and rejects document type declarations."""
    parser = expat.ParserCreate(namespace_separator=_BETWEEN)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _reject_doctype
    return parser


def _reject_doctype(name: str, *_: object) -> None:
    raise RejectionError(f"a document type declaration (<!DOCTYPE {name:.40}>), which is not read; remove it")


def parse(parser: expat.XMLParserType, stream: BinaryIO, guard: Guard) -> Iterator[None]:
    """Parse a document; yields after each piece of it. Raises RejectionError that names the line."""
    try:
        while some := stream.read(_AT_ONCE):
            guard.check()
            parser.Parse(some)
            yield
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise RejectionError(f"line {error.lineno}: the XML is damaged: {what}; expected well-formed XML") from None
    except (LookupError, ValueError) as error:
        raise RejectionError(f"its encoding cannot be read: {error}; save the file as UTF-8") from None
    yield


def local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition(_BETWEEN)[2]


@dataclass
class _Element:
    """An element that is open, within a record or the record itself."""

    path: tuple[str, ...]
    """Names below the record; none for the record itself."""
    has_children: bool = False
    has_attributes: bool = False
    is_nil: bool = False
    texts: list[str] = field(default_factory=list[str])


class _Records:
    """Collects the records of a document while expat parses it."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.names: dict[str, tuple[str, ...]] = {}
        """The columns' names in the order of their appearance, and where the value of each is in a record."""
        self.ready: list[Record | BadRecord] = []
        self.count = 0
        self.seen: dict[str, None] = {}
        """Some paths of elements in the document, for a reason."""
        self._above: list[str] = []
        self._open: list[_Element] = []
        self._values: dict[str, str | None] = {}
        self._bad: str | None = None
        self._size = 0

    def start(self, name: str, attributes: list[str]) -> None:
        tag = local(name)
        if not self._open:
            self._above.append(tag)
            if tuple(self._above) != self.path:
                if len(self._above) > _DEEPEST:
                    raise RejectionError(f"elements nested more than {_DEEPEST} deep")
                if len(self.seen) < _SHOWN:
                    self.seen["/".join(self._above)] = None
                return
            self.count += 1
            self._values, self._bad, self._size = {}, None, 0
            element = _Element(())
        else:
            self._open[-1].has_children = True
            element = _Element((*self._open[-1].path, tag))
            if len(self._open) > _DEEPEST:
                raise RejectionError(f"row {self.count}: elements nested more than {_DEEPEST} deep")
        self._open.append(element)
        for at in range(0, len(attributes), 2):
            key, value = attributes[at : at + 2]
            if key == f"{_XSI}nil":
                element.is_nil = value.strip() in {"true", "1"}
            elif key not in _NOT_DATA:
                element.has_attributes = True
                self._add((*element.path, local(key)), value, f'the attribute "{local(key)}"')

    def text(self, text: str) -> None:
        if self._open:
            self._size += len(text)
            if self._size > _LONGEST_RECORD:
                raise RejectionError(f"row {self.count}: a record of more than {_LONGEST_RECORD:,} characters")
            self._open[-1].texts.append(text)

    def end(self, _name: str) -> None:
        if not self._open:
            self._above.pop()
            return
        element = self._open.pop()
        text = "".join(element.texts)
        path = element.path or self.path[-1:]
        if element.has_children:
            if text.strip():
                self._bad = self._bad or f'"{path[-1]}" has text beside elements: "{" ".join(text.split()):.60}"'
        elif element.is_nil:
            self._add(path, None, f'"{path[-1]}"')
        elif text.strip() or (element.path and (text or not element.has_attributes)):
            # An element without anything is an empty text; one with attributes only has no text.
            self._add(path, text, f'"{path[-1]}"')
        if not self._open:
            self._above.pop()
            values = [self._values.get(name) for name in self.names]
            self.ready.append(
                BadRecord(self.count, _raw(self._values), self._bad) if self._bad else Record(self.count, values)
            )

    def _add(self, path: tuple[str, ...], value: str | None, what: str) -> None:
        name = "_".join(path)
        if self.names.setdefault(name, path) != path:
            self._bad = self._bad or (
                f'{"/".join(path)} and {"/".join(self.names[name])} would both be the column "{name}"'
            )
        elif name in self._values:
            self._bad = self._bad or f"{what} is there more than once; expected one value for each column"
        self._values[name] = value


def _raw(values: dict[str, str | None]) -> str:
    return " ".join(f"{name}={value!r}" for name, value in values.items())[:2000]


def _records(
    stream: BinaryIO, path: tuple[str, ...], guard: Guard, collected: _Records
) -> Iterator[Record | BadRecord]:
    parser = xml_parser()
    parser.ordered_attributes = True
    parser.StartElementHandler = collected.start
    parser.EndElementHandler = collected.end
    parser.CharacterDataHandler = collected.text
    for _ in parse(parser, stream, guard):
        yield from collected.ready
        collected.ready.clear()


def xml_records(open_: _Open, rules: XmlFormat, guard: Guard) -> Table:
    """Return the names and records of a document, which is read twice: first for the names of all records.

    Raises RejectionError.
    """
    path = tuple(filter(None, rules.records.split("/")))
    first = _Records(path)
    with open_() as stream:
        for number, _ in enumerate(_records(stream, path, guard, first)):
            if number % 1000 == 0:
                guard.limits.check_columns(len(first.names))
    guard.limits.check_columns(len(first.names))
    if not first.count and "/".join(path[:-1]) not in first.seen:
        raise RejectionError(
            f"expected elements at {'/'.join(path)}, as `records` says, got none; there are {', '.join(first.seen)}"
        )
    return Table(tuple(first.names), 0, _again(open_, path, guard, first))


def _again(open_: _Open, path: tuple[str, ...], guard: Guard, first: _Records) -> Iterator[Record | BadRecord]:
    known = _Records(path)
    known.names = dict(first.names)
    with open_() as stream:
        yield from _records(stream, path, guard, known)
    if known.count != first.count:
        raise RejectionError(f"it changed while it was read: expected {first.count:,} records, got {known.count:,}")
