"""Read the records of a sheet of a workbook with python-calamine: .xlsx, .xlsb and .ods."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import TypeVar

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum

from flows.errors import RejectionError
from flows.readers.column_types import ValueForm
from flows.readers.guard import HEAD_BYTES, Guard, LimitError, kind_of
from flows.readers.sheet_scan import NO_VALUE, SheetScan, cell_name, check_package, scan_open_document, scan_sheet
from flows.readers.text_records import BadRecord, Record, Table, Value, columns_of
from flows.rules import ExcelFormat
from flows.source_file import FileFormat, SourceFile

Cell = int | float | str | bool | time | date | datetime | timedelta
_Found = TypeVar("_Found")
_CELL_BYTES = 64
"""Of memory for each cell in a sheet's area, with those that are empty (measured)."""
_LONGEST_EXPONENT = 40
_MEGABYTE = 1_000_000
_PACKAGE = b"PK\x03\x04"
"""What a ZIP archive begins with; a .xls file may end with one."""


def sheet_records(file: SourceFile, rules: ExcelFormat, guard: Guard) -> Table:
    """Return the names and records of a sheet. Raises RejectionError and OSError."""
    path = file.path
    with path.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if not head.startswith(_PACKAGE):
        kind = kind_of(head, FileFormat.EXCEL) or "another kind of file"
        raise RejectionError(f"expected a workbook, got {kind}; save it as .xlsx, without a password")
    check_package(path, guard)
    # The library reads all sheets of an OpenDocument file when it opens the file.
    scans = scan_open_document(path, guard)
    for at, one in enumerate(scans or (), 1):
        _check_area(f"sheet {at}", one, guard)
    book = _called(lambda: CalamineWorkbook.from_path(str(path)))  # pyright: ignore[reportUnknownMemberType]
    number = _number_of(book, rules.sheet)
    name = book.sheet_names[number]
    scan = scan_sheet(path, name, guard) if scans is None else scans[number]
    _check_area(f'sheet "{name}"', scan, guard)
    if not scan.last[0]:
        raise RejectionError(f'the sheet "{name}" is empty')
    return _table(_called(lambda: book.get_sheet_by_index(number)), scan, rules)


def _check_area(what: str, scan: SheetScan, guard: Guard) -> None:
    needed = scan.area * _CELL_BYTES
    if needed > guard.limits.run_memory_bytes // 2:
        raise LimitError(
            f"the {what} has an area of {scan.area:,} cells, which takes {needed // _MEGABYTE:,} MB of memory",
            f"half of {guard.limits.run_memory_bytes // _MEGABYTE:,} MB",
            guard.limits.run_memory_source,
        )


def _called(read: Callable[[], _Found]) -> _Found:
    try:
        return read()
    except PasswordError:
        raise RejectionError("the workbook is encrypted; save it without a password") from None
    except CalamineError as error:
        raise RejectionError(f"cannot be read as a workbook: {error}") from None
    except BaseException as error:
        # A panic of the library is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise RejectionError("cannot be read as a workbook: the reader fails on it; it is probably damaged") from None


def _number_of(book: CalamineWorkbook, wanted: str | int) -> int:
    """Return the position of a sheet, counted from 0. Raises RejectionError."""
    sheets = [one.name for one in book.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
    listed = ", ".join(f'"{one}"' for one in sheets[:20])
    if isinstance(wanted, int):
        if wanted > len(sheets):
            raise RejectionError(f"expected a sheet {wanted}, as `sheet` says, got {len(sheets)}: {listed}")
        return book.sheet_names.index(sheets[wanted - 1])
    if wanted not in sheets:
        raise RejectionError(f'expected a sheet "{wanted}", as `sheet` says; there are {listed}')
    return book.sheet_names.index(wanted)


def _table(sheet: CalamineSheet, scan: SheetScan, rules: ExcelFormat) -> Table:
    if sheet.start is not None:
        # Cells that both readers see; neither may hide a value of the other.
        scan.first = (scan.first[0], min(scan.first[1], sheet.start[1] + 1))
    nulls = frozenset(rules.nulls)
    form = ValueForm.of(rules)
    rows = _filled(_rows(sheet, scan), scan)
    left = scan.first[1]
    if rules.header == "none":
        width = len(rules.names) if rules.names else scan.last[1] - left + 1
        return Table(rules.names or (), 0, _records(_without_footer(rows, rules.footer), scan, form, nulls, width))
    for number, cells in rows:
        if number < rules.header:
            continue
        if number > rules.header:
            break
        names = [_text(cell, form) or "" for cell in cells]
        for at in range(len(names)):
            if error := scan.errors.get((number, left + at)):
                raise RejectionError(f"row {number}: {error} in cell {cell_name(number, left + at)}, a column's name")
        while not names[-1].strip():
            names.pop()
        if rules.names and len(rules.names) != len(names):
            raise RejectionError(
                f"row {number}: expected {columns_of(len(rules.names))}, as `names` says, got {len(names)}"
            )
        records = _records(_without_footer(rows, rules.footer), scan, form, nulls, len(names))
        return Table(rules.names or tuple(names), 0 if rules.names else number, records)
    raise RejectionError(f"row {rules.header}: expected the columns' names, as `header` says, and the row is empty")


def _rows(sheet: CalamineSheet, scan: SheetScan) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Yield each row with its number from 1; its first cell is in the first column that has a value."""
    if sheet.start is None:
        # Only error values, which the library returns as nothing.
        yield from ((row, [""] * (scan.last[1] - scan.first[1] + 1)) for row in range(scan.first[0], scan.last[0] + 1))
        return
    column = sheet.start[1] + 1
    before = [""] * (column - scan.first[1])
    width = scan.last[1] - scan.first[1] + 1
    number = 0
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values: list[Cell] = [*before, *cells]
        yield number, [*values, *[""] * (width - len(values))]
    yield from ((row, [""] * width) for row in range(number + 1, scan.last[0] + 1))


def _filled(rows: Iterable[tuple[int, Sequence[Cell]]], scan: SheetScan) -> Iterator[tuple[int, Sequence[Cell]]]:
    """Yield the rows that are not empty."""
    with_errors = frozenset(row for row, _ in scan.errors)
    return ((number, cells) for number, cells in rows if number in with_errors or any(cell != "" for cell in cells))


def _without_footer(rows: Iterator[tuple[int, Sequence[Cell]]], footer: int) -> Iterator[tuple[int, Sequence[Cell]]]:
    waiting = deque[tuple[int, Sequence[Cell]]]()
    for row in rows:
        waiting.append(row)
        if len(waiting) > footer:
            yield waiting.popleft()
    if len(waiting) < footer:
        raise RejectionError(f"expected a footer of {footer} rows, and the sheet has fewer rows")


def _records(
    rows: Iterator[tuple[int, Sequence[Cell]]], scan: SheetScan, form: ValueForm, nulls: frozenset[str], width: int
) -> Iterator[Record | BadRecord]:
    left = scan.first[1]
    with_errors = frozenset(row for row, _ in scan.errors)
    text = partial(_text, form=form)
    for number, cells in rows:
        values = [text(cell) for cell in cells]
        errors = [
            (left + at, error) for at in range(len(values)) if (error := scan.errors.get((number, left + at)))
        ] if number in with_errors else []  # fmt: skip
        wrong = next(((at, error) for at, error in errors if error not in nulls), None)
        filled = max((at + 1 for at, value in enumerate(values) if value is not None), default=0)
        if wrong:
            raw = _raw(values)
            mending = (
                "open and save it in a spreadsheet program" if wrong[1] == NO_VALUE else "correct it, or set `nulls`"
            )
            yield BadRecord(number, raw, f"{wrong[1]} in cell {cell_name(number, wrong[0])}; {mending}")
        elif filled > width:
            where = cell_name(number, left + filled - 1)
            yield BadRecord(
                number, _raw(values), f"expected {columns_of(width)}, got {filled}: a value in cell {where}"
            )
        elif filled or errors:
            yield Record(number, [*values[:width], *[None] * (width - len(values))])


def _raw(values: Sequence[Value]) -> str:
    return "\t".join(value or "" for value in values).rstrip("\t")


def _text(cell: Cell, form: ValueForm) -> Value:
    """Return a cell's value as a text in the form of the rules."""
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int | float):
        text = _number(cell)
        return text if form.decimal == "." else text.replace(".", form.decimal)
    if isinstance(cell, timedelta):
        return _duration(cell)
    return _moment(cell, form)


def _number(number: float) -> str:
    """Return a number without an exponent, and a whole one without a fraction.

    >>> _number(1.0), _number(0.1), _number(1.2345678901234568e17)
    ('1', '0.1', '123456789012345680')
    """
    if isinstance(number, int) or (number.is_integer() and abs(number) < 2**53):
        return str(int(number))
    exact = Decimal(repr(number))
    return format(exact, "f") if abs(exact.adjusted()) < _LONGEST_EXPONENT else repr(number)


def _duration(duration: timedelta) -> str:
    seconds = abs(duration) // timedelta(seconds=1)
    fraction = abs(duration).microseconds
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{fraction:06}" if fraction else "")
    return f"-{text}" if duration < timedelta() else text


@lru_cache(maxsize=10_000)
def _moment(moment: date | time, form: ValueForm) -> str:
    """Return a date or time as in ISO 8601, unless the rules' formats mean another one by that text."""
    iso = moment.isoformat(" ") if isinstance(moment, datetime) else moment.isoformat()
    formats = (
        form.times if isinstance(moment, time)
        else (*form.timestamps, *form.dates) if isinstance(moment, datetime)
        else form.dates
    )  # fmt: skip
    for one in formats:
        try:
            found = datetime.strptime(iso, one)  # noqa: DTZ007 - as in the sheet, without a zone
        except ValueError:
            continue
        if found != moment and found.date() != moment and found.time() != moment:
            return moment.strftime(one)
    return iso


def written_form(rules: ExcelFormat) -> ValueForm:
    """Return how values are written: dates and times of cells as in ISO 8601, those in texts as the rules say."""
    form = ValueForm.of(rules)
    return replace(
        form,
        dates=(*form.dates, "%Y-%m-%d") if form.dates else (),
        times=(*form.times, "%H:%M:%S", "%H:%M:%S.%f") if form.times else (),
        timestamps=(
            *form.timestamps,
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S.%f",
            *(() if form.dates else ("%Y-%m-%d",)),
        )
        if form.timestamps or form.dates
        else (),
    )
