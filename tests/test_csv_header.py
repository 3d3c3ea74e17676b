"""The header of a CSV file tells its delimiter and names."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import RejectionError
from flows.readers.csv_files import CsvHeader, delimiter_of, header_of, read_header
from flows.source_file import FileFormat, SourceFile


def header_in(
    folder: Path, content: bytes, file_format: FileFormat = FileFormat.CSV, *, zipped: bool = False
) -> CsvHeader:
    path = folder / "a"
    path.write_bytes(gzip.compress(content) if zipped else content)
    return read_header(SourceFile(path, "a", len(content), file_format, zipped))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", CsvHeader(",", ("a", "b"))),
        (b"a;b;c,d\n", CsvHeader(";", ("a", "b", "c,d"))),
        (b"a\tb\n", CsvHeader("\t", ("a", "b"))),
        (b"a|b\r\n", CsvHeader("|", ("a", "b"))),
        (b"alone\n", CsvHeader(",", ("alone",))),
        (b'"a;b;c",d\n', CsvHeader(",", ("a;b;c", "d"))),
        (b'"two\nlines","q ""x"""\n', CsvHeader(",", ("two\nlines", 'q "x"'))),
        (b"\xef\xbb\xbfa,b\n", CsvHeader(",", ("a", "b"))),
        (b"a , b\n", CsvHeader(",", ("a", "b"))),
        (b",a,\n", CsvHeader(",", ("column0", "a", "column2"))),
        (b"a,b\r1,2\r", CsvHeader(",", ("a", "b"))),
        (b"no end", CsvHeader(",", ("no end",))),
    ],
)
def test_delimiter_and_names_are_those_of_the_first_record(tmp_path: Path, content: bytes, expected: CsvHeader):
    assert header_in(tmp_path, content) == expected
    assert header_in(tmp_path, content, zipped=True) == expected
    assert header_of(content, FileFormat.CSV) == expected


def test_a_tsv_file_has_tabs_whatever_its_names_hold(tmp_path: Path):
    assert header_in(tmp_path, b"a,b,c\td\n", FileFormat.TSV) == CsvHeader("\t", ("a,b,c", "d"))


@pytest.mark.parametrize("content", [b"\na,b\n", b"  \n"])
def test_a_header_is_expected_on_the_first_line(tmp_path: Path, content: bytes):
    with pytest.raises(RejectionError, match="line 1: expected the columns' names"):
        header_in(tmp_path, content)


def test_a_quote_that_is_never_closed_does_not_read_the_whole_file(tmp_path: Path):
    with pytest.raises(RejectionError, match="line 1"):
        header_in(tmp_path, b'"a\n' + b"x" * 80 + b"\n" * 2_000_000)


@given(st.lists(st.text(alphabet="ab,;|\t", min_size=1), min_size=2), st.sampled_from(",;\t|"))
def test_delimiters_within_quotes_do_not_count(names: list[str], delimiter: str):
    assert delimiter_of(delimiter.join(f'"{name}"' for name in names)) == delimiter


@given(st.lists(st.sampled_from([b"a", b"b", b",", b";", b'"', b"\n", b"\r", b"\0", b"\xe9", b"\xef\xbb\xbf", b" "])))
def test_a_content_that_was_read_already_has_the_header_of_its_file(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
):
    def told(read: Callable[[], CsvHeader]) -> CsvHeader | str:
        try:
            return read()
        except RejectionError as error:
            return str(error)

    content = b"".join(parts)
    folder = tmp_path_factory.getbasetemp()
    assert told(lambda: header_of(content, FileFormat.CSV)) == told(lambda: header_in(folder, content))
