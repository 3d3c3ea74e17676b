"""A CSV file comes back as the texts that were written, or is rejected with its line."""

import csv
import gzip
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import RejectionError
from flows.readers.base import raw
from flows.readers.csv_files import CsvReading
from flows.readers.csv_records import LINE_END, Dialect
from flows.readers.registry import read_plan
from flows.source_file import Rejected, SourceFile, format_of

Rows = list[tuple[str | None, ...]]


@cache
def connection() -> duckdb.DuckDBPyConnection:
    """Return one connection for all tests: to open one takes longer than to read a file."""
    return duckdb.connect()


def read(folder: Path, content: bytes, name: str = "a.csv") -> CsvReading | str:
    """Return how a file is read, or the reason why it is rejected."""
    path = folder / name
    path.write_bytes(content)
    found = format_of(name)
    assert found
    plan = read_plan(connection(), SourceFile(path, name, len(content), *found), folder)
    if isinstance(plan, Rejected):
        return plan.reason
    assert isinstance(plan, CsvReading)
    return plan


def rows(folder: Path, content: bytes, name: str = "a.csv") -> Rows | str:
    """Return the texts of a file's rows, or the reason why it is rejected."""
    reading = read(folder, content, name)
    if isinstance(reading, str):
        return reading
    values = ", ".join(map(raw, range(len(reading.names))))
    found: Rows = connection().execute(f"SELECT {values} FROM ({reading.scan(())})").fetchall()
    assert len(found) == reading.rows, content
    return found


@dataclass(frozen=True)
class Writing:
    """A way in which a program writes CSV."""

    delimiter: str
    end: str
    quoting: Literal[0, 1]
    quote: str
    has_blanks: bool
    is_ended: bool
    is_packed: bool

    def written(self, table: list[list[str]]) -> bytes:
        out = io.StringIO()
        if self.has_blanks:
            for row in table:
                quoted = [self.quote + cell.replace(self.quote, self.quote * 2) + self.quote for cell in row]
                out.write(f"{self.delimiter} ".join(quoted) + self.end)
        else:
            # The csv module quotes no line end unlike its own; single quotes count where names are within them.
            is_whole = self.quote == "'" or not {"\r", "\n"}.isdisjoint("".join(map("".join, table)))
            csv.writer(
                out,
                delimiter=self.delimiter,
                lineterminator=self.end,
                quoting=csv.QUOTE_ALL if is_whole else self.quoting,
                quotechar=self.quote,
            ).writerows(table)
        text = out.getvalue() if self.is_ended else out.getvalue().removesuffix(self.end)
        return gzip.compress(text.encode()) if self.is_packed else text.encode()


LETTERS = st.sampled_from([*"ab1.,;\t|\"' \n\r-", "\r\n", "é", "\u00a0", ", ", '""'])
CELLS = st.lists(LETTERS, max_size=5).map("".join)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    width = draw(st.integers(1, 4))
    names = [f"n{at}{draw(st.sampled_from(['', ' x', 'é', '_']))}" for at in range(width)]
    return names, draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6))


@settings(deadline=None)
@given(
    tables(),
    st.builds(
        Writing,
        delimiter=st.sampled_from(",;\t|"),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        quote=st.sampled_from(['"', "'"]),
        has_blanks=st.booleans(),
        is_ended=st.booleans(),
        is_packed=st.booleans(),
    ),
)
def test_any_table_in_any_dialect_comes_back_equal_or_is_rejected(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[str]]], writing: Writing
):
    names, values = table
    content = writing.written([names, *values])
    found = rows(tmp_path_factory.getbasetemp(), content, "a.csv.gz" if writing.is_packed else "a.csv")
    if isinstance(found, str):
        # DuckDB does not say where a lone carriage return within quotes is too much for it.
        assert re.match(r"line \d+|expected each apostrophe|quotes do not match, or lines end", found), found
    else:
        assert [["" if cell is None else cell for cell in row] for row in found] == values, content


def by_the_csv_module(text: str, dialect: Dialect) -> list[list[tuple[str, ...]]]:
    """Return the records as Python reads them in this dialect, with and without the blank after each delimiter."""
    quoting = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    readings: list[list[tuple[str, ...]]] = []
    for skips in (False, True):
        lines = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=dialect.delimiter,
            quotechar=dialect.quote or None,
            quoting=quoting,
            skipinitialspace=skips,
            strict=True,
        )
        with suppress(csv.Error):
            readings.append([tuple(line) for line in lines])
    return readings


def of_exchanged_quotes(text: str, delimiter: str) -> list[tuple[str, ...]]:
    """Return the records of lines in which single quotes were put around values in place of double ones.

    An apostrophe within them stands alone then, which Python's module does not read.
    """
    end = re.escape(delimiter)
    field = re.compile(rf" ?'(.*?)'({end}|$)|([^{end}]*)({end}|$)")
    records: list[tuple[str, ...]] = []
    for line in text.splitlines():
        found = [found for found in field.finditer(line) if found[0] or not found.start() or line[-1:] == delimiter]
        records.append(tuple(one[3] if one[1] is None else one[1] for one in found) if line else ())
    return records


@settings(deadline=None, max_examples=400)
@given(
    st.lists(st.lists(CELLS.map(lambda cell: cell or "x"), min_size=2, max_size=3), min_size=1, max_size=4),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["a.csv", "a.tsv"]),
)
def test_any_text_is_read_as_it_is_written_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], delimiter: str, end: str, name: str
):
    text = end.join(delimiter.join(row) for row in table) + end
    found = read(tmp_path_factory.getbasetemp(), text.encode(), name)
    if not isinstance(found, str):
        got = rows(tmp_path_factory.getbasetemp(), text.encode(), name)
        assert not isinstance(got, str)
        values = [tuple("" if cell is None else cell for cell in row) for row in got]
        width = len(found.names)
        # Names of a TSV file may hold quotes that Python's module does not take; they are on one line then.
        start = found.layout.data_start
        is_one_line = not LINE_END.search(text.encode()[:start].rstrip(b"\r\n"))
        read_again = text.encode()[start:].decode() if is_one_line else text
        readings = by_the_csv_module(read_again, found.layout.dialect)
        dialect = found.layout.dialect
        if dialect.has_blanks and dialect.quote not in read_again:  # of several blanks we take one, and Python all
            one_blank = read_again.replace(f"{dialect.delimiter} ", dialect.delimiter)
            readings += by_the_csv_module(one_blank, dialect)[:1]
        if found.layout.dialect.quote == "'" and not found.layout.is_plain_within:
            readings.append(of_exchanged_quotes(read_again, found.layout.dialect.delimiter))
        # Of one column an empty line is a value; a separator at the end of every line adds no column.
        expected = [
            [(line or ("",))[:width] for line in reading[0 if is_one_line else 1 :] if line or width == 1]
            for reading in readings
        ]
        assert values in expected, text


def test_quotes_that_mean_nothing_are_kept_where_line_ends_are_mixed(tmp_path: Path):
    assert rows(tmp_path, b'a\tb\n"x\t1\r\ny\t2\n', "a.tsv") == [('"x', "1"), ("y", "2")]


def test_an_empty_text_in_quotes_is_no_null(tmp_path: Path):
    assert rows(tmp_path, b'a,b,c\n"",,x\n') == [("", None, "x")]


@pytest.mark.parametrize("size", [2_500_000, 20_000_000])
def test_a_value_of_many_million_characters_is_kept(tmp_path: Path, size: int):
    assert rows(tmp_path, b"a,b\n1," + b"x" * size + b"\n2,y\n") == [("1", "x" * size), ("2", "y")]


def test_a_last_line_that_is_too_long_is_never_left_out(tmp_path: Path):
    found = rows(tmp_path, b"a,b\n1,x\n2," + b"y" * 40_000_000)
    assert isinstance(found, str)
    assert "line 3" in found


@pytest.mark.parametrize(
    "header",
    [
        "28/01/2018,00:00,2,MG-8769,$74.69,Boots,https://www.example.com/a",
        "1,alice,3.5",
        "alice,2024-01-01T10:00:00",
        "x,a@example.com",
        "PREAMBLE,,,",
        ",,date",
    ],
)
def test_a_first_line_of_values_holds_no_names(tmp_path: Path, header: str):
    found = read(tmp_path, f"{header}\n{header}\n".encode())
    assert isinstance(found, str)
    assert found.startswith("line 1 holds no column names: ")


def test_a_first_line_of_values_without_rows_holds_no_names(tmp_path: Path):
    assert read(tmp_path, b"7,alice\n") == 'line 1 holds no column names: "7" is a number'


@pytest.mark.parametrize(
    "content",
    [
        "country,2019,2020,2021\nAT,1.5,2.5,3\nDE,1,2,3\n",
        "id,1,2,3\nx,7,8,9\n",
        "id,q1,q2\n1,2,3\n",
        "2024,name\nx,y\n",
    ],
)
def test_names_that_count_columns_are_names(tmp_path: Path, content: str):
    assert isinstance(read(tmp_path, content.encode()), CsvReading)


def test_a_second_line_of_names_is_a_rejection(tmp_path: Path):
    found = read(tmp_path, b"weight,length,who\nkg,cm,name\n1.5,2,a\n2.5,3,b\n3,4,c\n")
    assert isinstance(found, CsvReading)
    with pytest.raises(RejectionError) as rejected:
        found.check_second_line(["length", "who"])
    assert str(rejected.value) == (
        'line 2 looks like a second line of column names: "cm" is a word, and each value below it in column "length"'
        " is a number"
    )
    found.check_second_line(["who"])


@pytest.mark.parametrize("word", ["NA", "n/a", "-", "null", "unknown"])
def test_a_word_for_nothing_in_the_first_row_is_no_name(tmp_path: Path, word: str):
    found = read(tmp_path, f"v,w\n{word},x\n1,x\n2,y\n".encode())
    assert isinstance(found, CsvReading)
    found.check_second_line(["v", "w"])


def test_names_that_look_the_same_are_the_same(tmp_path: Path):
    one = read(tmp_path, "\u00a0caf\u00e9\u200b,\ufeffid \n1,2\n".encode())
    other = read(tmp_path, "cafe\u0301,id\n1,2\n".encode())
    assert isinstance(one, CsvReading)
    assert isinstance(other, CsvReading)
    assert one.names == other.names == ("café", "id")
    assert read(tmp_path, "é,e\u0301\n1,2\n".encode()) == 'column "é": there more than once; case makes no difference'


def test_a_control_character_in_a_name_is_a_rejection(tmp_path: Path):
    found = read(tmp_path, b"a\x07,b\n1,2\n")
    assert isinstance(found, str)
    assert "U+0007" in found


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "a ZIP archive"),
        (b"PK\x03\x04\x14\0\6\0\x08\0\0\0!\0[Content_Types].xml", "a workbook of a spreadsheet"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "a gzip file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 40, "an old Office document"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
        (b"<?xml version='1.0'?><a/>", "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
        (b'{"a": 1}\n{"a": 2}\n', "JSON"),
        (b'[\n  {"a": 1}]', "JSON"),
        (b"PAR1" + b"\0" * 20, "a Parquet file"),
        ("a,b\n1,2\n".encode("utf-16-le"), "text in UTF-16"),
        ("first,b\n1,2\n".encode("utf-32-le"), "text in UTF-32"),
        (b"x" * 100 + b"\0" * 157 + b"ustar\x0000", "a tar archive"),
    ],
)
def test_a_file_of_another_kind_than_its_name_says_is_called_what_it_is(tmp_path: Path, content: bytes, kind: str):
    for name, written in (("a.csv", content), ("a.tsv.gz", gzip.compress(content))):
        found = read(tmp_path, written, name)
        assert isinstance(found, str)
        assert f"as its name says, got {kind}" in found


def test_a_packed_file_whose_checksum_is_wrong_is_a_rejection(tmp_path: Path):
    packed = bytearray(gzip.compress(b"a,b\n" + b"1,2\n" * 100))
    packed[-8] ^= 1
    found = read(tmp_path, bytes(packed), "a.csv.gz")
    assert isinstance(found, str)


def test_a_packed_file_may_have_several_parts_and_zeros_behind(tmp_path: Path):
    packed = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + b"\0" * 600
    assert rows(tmp_path, packed, "a.csv.gz") == [("1", "2"), ("3", "4")]
