"""Find in a sheet's own XML what its reader does not report: its extent, error values, formulas without a value.

python-calamine returns error values such as #N/A as empty cells, and fills the whole area between a sheet's first and
last cell in memory.
"""

from __future__ import annotations

import posixpath
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import BadZipFile, ZipFile

from flows.errors import RejectionError
from flows.readers import xlsb_scan
from flows.readers.guard import Guard
from flows.readers.xml_files import local, parse, xml_parser

_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_MOST_COLUMNS, _MOST_ROWS = 16_384, 1_048_576
"""Of a sheet, in all formats."""
_MOST_MEMBERS = 10_000
_MOST_ERRORS = 100_000
_AT_ONCE = 1 << 20
_CELLS = frozenset({"table-cell", "covered-table-cell"})
_LONGEST_COUNT = 9
NO_VALUE = "a formula without a value"


@dataclass
class SheetScan:
    """What a sheet has; rows and columns are counted from 1."""

    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (0, 0)
    """The last row and the last column that have a value; 0 in an empty sheet."""
    errors: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    """Error values, and formulas without a value, by row and column."""

    @property
    def area(self) -> int:
        """How many cells there are between the first and the last one."""
        return (self.last[0] - self.first[0] + 1) * (self.last[1] - self.first[1] + 1) if self.last[0] else 0

    def add(self, row: int, column: int, rows: int = 1, columns: int = 1, error: str | None = None) -> None:
        """Count a cell, or a block of the same cell. Raises RejectionError."""
        last = (row + rows - 1, column + columns - 1)
        if row < 1 or column < 1 or last[0] > _MOST_ROWS or last[1] > _MOST_COLUMNS:
            raise RejectionError(f"row {row}: a cell beyond the {_MOST_ROWS:,} rows or {_MOST_COLUMNS:,} columns")
        self.first = (min(self.first[0], row), min(self.first[1], column)) if self.last[0] else (row, column)
        self.last = (max(self.last[0], last[0]), max(self.last[1], last[1]))
        if error is not None:
            if rows * columns + len(self.errors) > _MOST_ERRORS:
                raise RejectionError(f"more than {_MOST_ERRORS:,} error values such as {error} in row {row}")
            self.errors.update({(row + y, column + x): error for y in range(rows) for x in range(columns)})


def cell_name(row: int, column: int) -> str:
    """Return the name of a cell.

    >>> cell_name(4, 28)
    'AB4'
    """
    letters = ""
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{row}"


def check_package(path: Path, guard: Guard) -> None:
    """Check a workbook's ZIP archive: the size that it unpacks to, and each member's checksum.

    Raises RejectionError, for what exceeds a limit LimitError.
    """
    try:
        with ZipFile(path) as package:
            members = package.infolist()
            if len(members) > _MOST_MEMBERS:
                raise RejectionError(f"the workbook has {len(members):,} parts; expected at most {_MOST_MEMBERS:,}")
            guard.limits.check_unpacked(sum(member.file_size for member in members))
            if any(member.flag_bits & 1 for member in members):
                raise RejectionError("the workbook is encrypted; save it without a password")
            if "META-INF/manifest.xml" in package.namelist():
                with package.open("META-INF/manifest.xml") as part:
                    if b":encryption-data" in part.read(_AT_ONCE):
                        raise RejectionError("the workbook is encrypted; save it without a password")
            for member in members:
                with package.open(member) as part:
                    while part.read(_AT_ONCE):
                        guard.check()
    except (BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise RejectionError(f"the workbook is damaged: {error}; send it again") from None


def scan_open_document(path: Path, guard: Guard) -> list[SheetScan] | None:
    """Return what each sheet of an OpenDocument file has; None for other workbooks. Raises RejectionError."""
    with ZipFile(path) as package:
        if "content.xml" not in package.namelist():
            return None
        reader = _OpenDocument()
        with package.open("content.xml") as part:
            _parse(cast(BinaryIO, part), guard, reader.start, reader.end, reader.text)
        return reader.sheets


def scan_sheet(path: Path, name: str, guard: Guard) -> SheetScan:
    """Return what the sheet of this name in a .xlsx package has. Raises RejectionError."""
    with ZipFile(path) as package, package.open(found := _part_of(package, name, guard)) as part:
        if found.endswith(".bin"):
            scan = SheetScan()
            for row, column, error in xlsb_scan.cells(cast(BinaryIO, part), guard):
                scan.add(row, column, error=error)
            return scan
        cells = _Cells()
        _parse(cast(BinaryIO, part), guard, cells.start, cells.end, cells.text)
        return cells.found


def _parse(
    stream: BinaryIO,
    guard: Guard,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    parser = xml_parser()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    for _ in parse(parser, stream, guard):
        pass


def _part_of(package: ZipFile, name: str, guard: Guard) -> str:
    """Return the part of a package that has a sheet. Raises RejectionError."""
    relation = ""

    def sheet(tag: str, attributes: dict[str, str]) -> None:
        nonlocal relation
        if local(tag) == "sheet" and attributes.get("name") == name:
            relation = next((value for key, value in attributes.items() if key.endswith("relationships id")), "")

    for book in _targets(package, "", guard, "/officeDocument").values():
        with package.open(book) as part:
            if book.endswith(".bin"):
                relation = xlsb_scan.sheet_relations(cast(BinaryIO, part), guard).get(name, "")
            else:
                _parse(cast(BinaryIO, part), guard, sheet)
        found = _targets(package, book, guard, "/worksheet").get(relation)
        if found is not None and found in package.namelist():
            return found
    raise RejectionError(f'the workbook is damaged: the part of the sheet "{name}" is missing; send it again')


def _targets(package: ZipFile, source: str, guard: Guard, kind: str) -> dict[str, str]:
    """Return the parts that a part refers to, by the id of the relation."""
    folder, _, base = source.rpartition("/")
    found = dict[str, str]()

    def relation(tag: str, attributes: dict[str, str]) -> None:
        if local(tag) == "Relationship" and attributes.get("Type", "").endswith(kind):
            found[attributes.get("Id", "")] = posixpath.normpath(
                posixpath.join("/", folder, attributes.get("Target", ""))
            ).lstrip("/")

    relations = posixpath.join(folder, "_rels", f"{base}.rels")
    if relations not in package.namelist():
        raise RejectionError(f"the workbook is damaged: its part {relations} is missing; send it again")
    with package.open(relations) as part:
        _parse(cast(BinaryIO, part), guard, relation)
    return found


class _Cells:
    """The cells of a sheet in a .xlsx package."""

    def __init__(self) -> None:
        self.found = SheetScan()
        self._row = self._column = 0
        self._type = ""
        self._part: str | None = None
        self._has_formula = False
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match local(name):
            case "row":
                self._row = int(given) if (given := attributes.get("r", "")).isdecimal() else self._row + 1
                self._column = 0
            case "c":
                self._column += 1
                if place := _REFERENCE.fullmatch(attributes.get("r", "")):
                    self._row, self._column = int(place[2]), _column(place[1])
                self._type, self._has_formula, self._text = attributes.get("t", "n"), False, []
            case "f":
                self._has_formula = True
            case "v" | "is" as part:
                self._part = part
            case _:
                pass

    def text(self, text: str) -> None:
        if self._part:
            self._text.append(text)

    def end(self, name: str) -> None:
        match local(name):
            case "v" | "is":
                self._part = None
            case "c":
                value = "".join(self._text)
                if self._type == "e":
                    self.found.add(self._row, self._column, error=value or "#ERROR")
                elif self._has_formula and not value and self._type != "str":
                    self.found.add(self._row, self._column, error=NO_VALUE)
                elif value:
                    self.found.add(self._row, self._column)
            case _:
                pass


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


class _OpenDocument:
    """The cells of all sheets in an OpenDocument file."""

    def __init__(self) -> None:
        self.sheets: list[SheetScan] = []
        self._depth = 0
        self._row = self._rows = self._column = self._columns = 0
        self._has_value = False
        self._is_error = False
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = local(name)
        if tag == "table":
            self._depth += 1
            if self._depth == 1:
                self.sheets.append(SheetScan())
                self._row, self._rows = 0, 1
        if self._depth != 1:
            return
        if tag == "table-row":
            self._row, self._rows = self._row + self._rows, _count(attributes, "rows")
            self._column, self._columns = 0, 1
        elif tag in _CELLS:
            self._column, self._columns = self._column + self._columns, _count(attributes, "columns")
            kinds = {"calcext" in key: value for key, value in attributes.items() if local(key) == "value-type"}
            self._has_value, self._is_error = kinds.get(False, "string") != "string", kinds.get(True) == "error"
            self._text = [value for key, value in attributes.items() if local(key) == "string-value"]

    def text(self, text: str) -> None:
        if self._depth == 1 and self._column:
            self._text.append(text)

    def end(self, name: str) -> None:
        tag = local(name)
        if tag == "table":
            self._depth -= 1
        elif tag in _CELLS and self._depth == 1:
            text = "".join(self._text).strip()
            if self._has_value or self._is_error or text:
                error = (text or "#ERROR") if self._is_error else None
                self.sheets[-1].add(self._row, self._column, self._rows, self._columns, error)
            self._text = []


def _count(attributes: dict[str, str], what: str) -> int:
    """Return how often a row or a cell is repeated."""
    given = next((value for key, value in attributes.items() if local(key) == f"number-{what}-repeated"), "1")
    return max(1, int(given)) if given.isdecimal() and len(given) < _LONGEST_COUNT else 1
