"""Sheets of workbooks: .xlsx as openpyxl writes it, .ods by hand."""

import struct
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from flows.loading.file_result import Outcome
from flows.readers.guard import FileLimits, Guard
from flows.readers.text_records import BadRecord
from flows.readers.workbooks import sheet_records
from flows.rules import ExcelFormat
from flows.source_file import FileFormat, Rejected, SourceFile
from tests.flows.rules_loading import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def workbook(*sheets: list[list[Any]], names: tuple[str, ...] = ()) -> bytes:
    """Return a .xlsx file with these rows in its sheets."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for at, rows in enumerate(sheets):
        sheet = book.create_sheet(names[at] if names else f"S{at + 1}")
        for row, cells in enumerate(rows, 1):
            for column, cell in enumerate(cells, 1):
                if cell is not None:
                    sheet.cell(row, column).value = cell
    content = BytesIO()
    book.save(content)
    return content.getvalue()


def ods(rows: str) -> bytes:
    """Return a .ods file whose only sheet has these rows."""
    xml = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
        ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
        ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
        ' xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0">'
        f'<office:body><office:spreadsheet><table:table table:name="One">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry'
        ' manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/>'
        "</manifest:manifest>"
    )
    content = BytesIO()
    with ZipFile(content, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr("META-INF/manifest.xml", manifest)
        package.writestr("content.xml", xml)
    return content.getvalue()


def cell(type_: str, value: str, shown: str = "", *, repeated: int = 1, more: str = "") -> str:
    name = {"date": "date-value", "boolean": "boolean-value", "time": "time-value"}.get(type_, "value")
    given = f' office:{name}="{value}"' if value else ""
    return (
        f'<table:table-cell table:number-columns-repeated="{repeated}" office:value-type="{type_}"{given}{more}>'
        f"<text:p>{shown or value}</text:p></table:table-cell>"
    )


def row(*cells: str) -> str:
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def xlsb(*rows: Sequence[tuple[int, bytes] | None]) -> bytes:
    """Return a .xlsb file whose sheet "Data" has these cells: each the type of its record and its value."""

    def record(type_: int, content: bytes = b"") -> bytes:
        head = bytes([type_]) if type_ < 0x80 else bytes([type_ & 0x7F | 0x80, type_ >> 7])
        size = len(content)
        return head + (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + content

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode("utf-16-le")

    sheet = record(129) + record(148, struct.pack("<4I", 0, len(rows) - 1, 0, max(map(len, rows)) - 1)) + record(145)
    for at, cells in enumerate(rows):
        sheet += record(0, struct.pack("<2I", at, 0) + bytes(17))
        for column, one in enumerate(cells):
            if one is not None:
                sheet += record(one[0], struct.pack("<2I", column, 0) + one[1])
    sheet += record(146) + record(130)
    bundle = struct.pack("<2I", 0, 1) + text("rId1") + text("Data")
    book = record(131) + record(153, bytes(12)) + record(143) + record(156, bundle) + record(144) + record(132)
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def relations(kind: str, target: str) -> str:
        return (
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Id="rId1" Type="{kinds}/{kind}" Target="{target}"/></Relationships>'
        )

    content = BytesIO()
    with ZipFile(content, "w") as package:
        types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
        package.writestr("[Content_Types].xml", types)
        package.writestr("_rels/.rels", relations("officeDocument", "xl/workbook.bin"))
        package.writestr("xl/_rels/workbook.bin.rels", relations("worksheet", "worksheets/sheet1.bin"))
        package.writestr("xl/workbook.bin", book)
        package.writestr("xl/worksheets/sheet1.bin", sheet)
    return content.getvalue()


def text_cell(value: str) -> tuple[int, bytes]:
    return 6, struct.pack("<I", len(value)) + value.encode("utf-16-le")


def test_an_xlsb_file(rig: Rig) -> None:
    header = [text_cell("id"), text_cell("name")]
    rows = [[(5, struct.pack("<d", 7)), text_cell("Zoë")], [(5, struct.pack("<d", 1.5)), None]]
    [result] = rig.load({}, {"a.xlsb": xlsb(header, *rows)})
    assert result.reason is None
    assert rig.rows("SELECT CAST(id AS DOUBLE), name FROM public.t") == [(7.0, "Zoë"), (1.5, None)]
    [result] = rig.load({}, {"b.xlsb": xlsb(header, [(3, b"\x2a"), text_cell("x")])})
    assert result.reason == "row 2: #N/A in cell A2; correct it, or set `nulls`"


def test_a_workbook_is_loaded_by_its_suffix_with_each_value_as_it_is(rig: Rig) -> None:
    rows = [
        ["id", "name", "price", "day", "at", "hour", "is_open", "mixed"],
        [1, "Zoë", 1.5, date(2024, 1, 5), datetime.fromisoformat("2024-01-05T13:01:02"), time(1, 2, 3), True, "007"],
        [20, 'a "b"\nc, d', 0.1, date(2023, 12, 31), datetime.fromisoformat("2024-02-29"), time(23, 0), False, 8],
    ]
    [result] = rig.load({}, {"a.xlsx": workbook(rows)})
    assert (result.outcome, result.reason) == (Outcome.LOADED, None)
    assert rig.rows('SELECT id, name, CAST(price AS DOUBLE), day, "at", hour, is_open, mixed FROM public.t') == [
        (1, "Zoë", 1.5, date(2024, 1, 5), datetime.fromisoformat("2024-01-05T13:01:02"), time(1, 2, 3), True, "007"),
        (20, 'a "b"\nc, d', 0.1, date(2023, 12, 31), datetime.fromisoformat("2024-02-29"), time(23, 0), False, "8"),
    ]


def test_title_rows_a_footer_and_empty_rows_and_columns_are_left_out(rig: Rig) -> None:
    rows = [
        [None, "Quarterly report"],
        [],
        [None, "id", "name"],
        [None, 1, "a"],
        [],
        [None, 2, None],
        [None, "Total", 2],
        [],
    ]
    rules = {"format": {"type": "excel", "sheet": "Data", "header": 3, "footer": 1}}
    [result] = rig.load(rules, {"a.xlsx": workbook([["x"], [1]], rows, names=("Notes", "Data"))})
    assert (result.reason, rig.rows()) == (None, [(1, "a"), (2, None)])


def test_a_wrong_sheet_is_rejected_with_those_that_there_are(rig: Rig) -> None:
    content = workbook([["a"], [1]], [["a"], [1]], names=("Jan", "Feb"))
    [one] = rig.load({"format": {"type": "excel", "sheet": "Mar"}}, {"a.xlsx": content})
    assert one.reason == 'expected a sheet "Mar", as `sheet` says; there are "Jan", "Feb"'
    [two] = rig.load({"format": {"type": "excel", "sheet": 3}}, {"a.xlsx": content})
    assert two.reason == 'expected a sheet 3, as `sheet` says, got 2: "Jan", "Feb"'


def test_a_value_beyond_the_header_is_a_bad_row(rig: Rig) -> None:
    [result] = rig.load({}, {"a.xlsx": workbook([["a", "b"], [1, 2], [1, 2, None, 3]])})
    assert result.reason == "row 3: expected 2 columns, got 4: a value in cell D3"
    [result] = rig.load({}, {"a.xlsx": workbook([["Report"], ["a", "b"], [1, 2]])})
    assert result.reason == "row 2: expected 1 column, got 2: a value in cell B2"


def test_a_wrong_value_is_named_with_its_row(rig: Rig) -> None:
    rules = {"format": {"type": "excel", "header": 2}, "columns": {"a": "bigint"}}
    [result] = rig.load(rules, {"a.xlsx": workbook([["title"], ["a"], [1], [], ["x"]])})
    assert result.reason == 'row 5, column "a": "x" is not a BIGINT'


def test_error_values_and_formulas_without_a_value_are_rejected_with_their_cell(rig: Rig) -> None:
    content = workbook([["a", "b"], [1, "#N/A"], [2, 3]])
    [result] = rig.load({}, {"a.xlsx": content})
    assert result.reason == "row 2: #N/A in cell B2; correct it, or set `nulls`"
    [result] = rig.load({}, {"a.xlsx": workbook([["a", "b"], [1, "=1+1"]])})
    assert result.reason == ("row 2: a formula without a value in cell B2; open and save it in a spreadsheet program")
    [result] = rig.load({"format": {"type": "excel", "nulls": "#N/A"}}, {"b.xlsx": content})
    assert (result.reason, rig.rows()) == (None, [(1, None), (2, 3)])


def test_numbers_and_dates_of_cells_are_right_beside_texts_in_the_form_of_the_rules(rig: Rig) -> None:
    rows = [["n", "d"], [1.5, date(2024, 3, 5)], ["1.234,5", "05.01.2024"], [1234567.25, date(2024, 1, 12)]]
    rules = {
        "format": {"type": "excel", "decimal": ",", "thousands": ".", "dates": "%d.%m.%Y"},
        "columns": {"n": "double", "d": "date"},
    }
    [result] = rig.load(rules, {"a.xlsx": workbook(rows)})
    assert (result.reason, rig.rows()) == (
        None,
        [(1.5, date(2024, 3, 5)), (1234.5, date(2024, 1, 5)), (1234567.25, date(2024, 1, 12))],
    )


def test_a_format_that_would_misread_iso_dates_does_not(rig: Rig) -> None:
    rules = {"format": {"type": "excel", "dates": "%Y-%d-%m"}, "columns": {"d": "date"}}
    [result] = rig.load(rules, {"a.xlsx": workbook([["d"], [date(2024, 3, 5)], ["2024-05-03"]])})
    assert (result.reason, rig.rows()) == (None, [(date(2024, 3, 5),)] * 2)


def test_names_of_the_rules_and_no_header(rig: Rig) -> None:
    content = workbook([[1, "a"], [2]])
    [result] = rig.load({"format": {"type": "excel", "header": "none", "names": ["id", "b"]}}, {"a.xlsx": content})
    assert (result.reason, rig.rows()) == (None, [(1, "a"), (2, None)])
    [result] = rig.load({"format": {"type": "excel", "names": ["id"]}}, {"b.xlsx": content})
    assert result.reason == "row 1: expected 1 column, as `names` says, got 2"


def test_an_ods_file(rig: Rig) -> None:
    header = row(
        cell("string", "", "id"), cell("string", "", "day"), cell("string", "", "at"), cell("string", "", "ok")
    )
    rows = [
        row(
            cell("float", "1"),
            cell("date", "2024-01-05", "5.1.24"),
            cell("date", "2024-01-05T13:01:02", "x"),
            cell("boolean", "true", "TRUE"),
        ),
        '<table:table-row table:number-rows-repeated="3"><table:table-cell table:number-columns-repeated="1000"/>'
        "</table:table-row>",
        row(cell("float", "2"), '<table:table-cell table:number-columns-repeated="16381"/>'),
        '<table:table-row table:number-rows-repeated="1048570"><table:table-cell/></table:table-row>',
    ]
    [result] = rig.load({}, {"a.ods": ods(header + "".join(rows))})
    assert (result.reason, rig.rows()) == (
        None,
        [(1, date(2024, 1, 5), datetime.fromisoformat("2024-01-05T13:01:02"), True), (2, None, None, None)],
    )
    error = row(cell("string", "", "#DIV/0!", more=' calcext:value-type="error" office:string-value=""'))
    [result] = rig.load({}, {"b.ods": ods(row(cell("string", "", "id")) + error)})
    assert result.reason == "row 2: #DIV/0! in cell A2; correct it, or set `nulls`"


def records_or_reason(path: Path, content: bytes, limits: FileLimits | None = None) -> str:
    path.write_bytes(content)
    file = SourceFile(path, path.name, len(content), FileFormat.EXCEL)
    with pytest.raises(Exception, match=r".") as raised:
        list(sheet_records(file, ExcelFormat(type="excel"), Guard(limits)).records)
    return str(raised.value)


def test_what_is_too_large_is_rejected_before_it_is_read(tmp_path: Path) -> None:
    content = workbook([["a"], *[[10**6 + at] for at in range(1000)]])
    said = records_or_reason(tmp_path / "a.xlsx", content, FileLimits(max_unpacked_bytes=10_000))
    assert said.startswith("it unpacks to ")
    assert said.endswith("raise MAX_UNPACKED_BYTES to load it")
    far = Workbook()
    far.worksheets[0]["A1"].value = "a"
    far.worksheets[0]["XFD1048576"].value = "b"
    stream = BytesIO()
    far.save(stream)
    said = records_or_reason(tmp_path / "b.xlsx", stream.getvalue())
    assert said.startswith(
        'the sheet "Sheet" has an area of 17,179,869,184 cells, which takes 1,099,511 MB of memory, the limit'
    )
    assert said.endswith("raise RUN_MEMORY_LIMIT to load it")
    many = row('<table:table-cell table:number-columns-repeated="16384" office:value-type="float" office:value="1"/>')
    said = records_or_reason(
        tmp_path / "c.ods",
        ods(many.replace("<table:table-row", '<table:table-row table:number-rows-repeated="1000000"')),
    )
    assert said.startswith("the sheet 1 has an area of 16,384,000,000 cells")


def test_damaged_and_other_files_are_called_what_they_are(rig: Rig) -> None:
    content = workbook([["a"], [1]])
    changed = bytearray(content)
    changed[content.index(b"xl/worksheets/sheet1.xml") + 60] ^= 0xFF
    [text] = rig.load({}, {"a.xlsx": "a,b\n1,2\n"})
    assert text.reason == "expected a workbook, got another kind of file; save it as .xlsx, without a password"
    [old] = rig.load({}, {"a.xlsx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600})
    assert old.reason is not None
    assert old.reason.startswith("expected a workbook, got an old Office document")
    for damaged in (bytes(changed), content[: len(content) // 2]):
        [result] = rig.load(
            {},
            {
                "a.xlsx": damaged,
            },
        )
        assert result.outcome is Outcome.REJECTED
        assert result.reason is not None
        assert "workbook" in result.reason
    stream = BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as package:
        package.writestr("a.csv", "a\n1\n")
    [other] = rig.load({}, {"a.xlsx": stream.getvalue()})
    assert other.reason == "cannot be read as a workbook: File not found '_rels/.rels'"
    [empty] = rig.load({}, {"a.xlsx": workbook([[]])})
    assert empty.reason == 'the sheet "S1" is empty'


VALUES = st.one_of(
    st.integers(-(10**14), 10**14),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15).filter(
        lambda one: abs(one) > 1e-9
    ),
    st.booleans(),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1).filter(
        lambda one: one[0] not in "=#" and one.strip() == one and "_x" not in one
    ),
    st.dates(date(1901, 1, 1), date(2100, 1, 1)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.one_of(st.none(), VALUES), min_size=3, max_size=3), min_size=1, max_size=8))
def test_what_is_written_comes_back_equal(tmp_path: Path, rows: list[list[Any]]) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook([["a", "b", "c"], *rows]))
    table = sheet_records(SourceFile(path, "a.xlsx", 1, FileFormat.EXCEL), ExcelFormat(type="excel"), Guard())
    found = dict[int, list[Any]]()
    for record in table.records:
        assert not isinstance(record, BadRecord)
        found[record.line - 2] = list(record.values)
    for at, cells in enumerate(rows):
        texts = found.get(at, [None] * 3)
        for cell_, text in zip(cells, texts, strict=True):
            match cell_:
                case bool():
                    assert text == str(cell_).lower()
                case float():
                    assert float(text) == pytest.approx(cell_, rel=1e-14)
                    assert "e" not in text
                case None:
                    assert text is None
                case _:
                    assert text == str(cell_)


def test_durations_are_texts(rig: Rig) -> None:
    [result] = rig.load({}, {"a.xlsx": workbook([["a"], [timedelta(hours=30, seconds=1)], ["x"]])})
    assert (result.reason, rig.rows()) == (None, [("30:00:01",), ("x",)])


def test_a_workbook_and_bad_files_do_not_harm_others_of_their_arrival(rig: Rig) -> None:
    results = rig.load({}, {"a.xlsx": workbook([["id"], [1]]), "b.xlsx": b"PK\x03\x04", "c.csv": "id\n2\n"})
    assert [one.outcome.value for one in results] == ["loaded", "rejected", "loaded"]
    assert sorted(rig.rows()) == [(1,), (2,)]
    assert not isinstance(results[0], Rejected)
