"""The layout of a CSV file accounts for each separator, quote and line end, or the file is rejected with a line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import RejectionError
from flows.readers.csv_layout import layout_of
from flows.readers.csv_records import CsvLayout, Dialect, check_names_once, first_rows, line_of, rewritten


def layout(content: bytes, *, is_tsv: bool = False) -> CsvLayout:
    return layout_of(content, is_tsv=is_tsv)


def reason(content: bytes, *, is_tsv: bool = False) -> str:
    with pytest.raises(RejectionError) as rejected:
        layout_of(content, is_tsv=is_tsv)
    return str(rejected.value)


@pytest.mark.parametrize(
    ("content", "delimiter", "names"),
    [
        (b"a,b\n1,2\n", ",", ("a", "b")),
        (b"a;b;c,d\n", ";", ("a", "b", "c,d")),
        (b"a\tb\n", "\t", ("a", "b")),
        (b"a|b\r\n", "|", ("a", "b")),
        (b"alone\n", ",", ("alone",)),
        (b'"a;b;c",d\n', ",", ("a;b;c", "d")),
        (b'"two\nlines","q ""x"""\n', ",", ("two\nlines", 'q "x"')),
        (b"\xef\xbb\xbfa,b\n", ",", ("a", "b")),
        (b",a,b\n", ",", ("", "a", "b")),
        (b"a,b\r1,2\r", ",", ("a", "b")),
        (b"no end", ",", ("no end",)),
        (b"Umsatz, EUR;Menge, Stk;Preis, EUR\n1,5;2,0;3,5\n", ";", ("Umsatz, EUR", "Menge, Stk", "Preis, EUR")),
        (b"name,when;where\n1,2\n3,4\n", ",", ("name", "when;where")),
    ],
)
def test_the_delimiter_is_the_one_on_which_header_and_rows_agree(content: bytes, delimiter: str, names: tuple[str]):
    assert layout(content).dialect.delimiter == delimiter
    assert layout(content).names == names


def test_two_delimiters_that_both_fit_every_line_are_a_rejection_that_names_them():
    assert reason(b"a,b;c\n1,2;3\n4,5;6\n") == (
        "line 1: commas and semicolons each divide all lines into equal numbers of fields; expected one delimiter"
    )


def test_what_the_first_rows_leave_open_the_whole_file_decides():
    content = b"a,b;c\n" + b"1,2;3\n" * 1000 + b"4,5 6\n"
    assert layout(content).dialect.delimiter == ","


def test_a_line_sep_says_the_delimiter_and_is_no_header():
    found = layout(b"sep=;\r\nid;v\r\n1;a,b\r\n")
    assert (found.dialect.delimiter, found.names, found.header_line, found.rows) == (";", ("id", "v"), 2, 1)


def test_a_tsv_file_has_tabs_whatever_its_names_hold():
    assert layout(b"a,b,c\td\n", is_tsv=True).names == ("a,b,c", "d")


@pytest.mark.parametrize("content", [b"\na,b\n", b"  \n"])
def test_a_header_is_expected_on_the_first_line(content: bytes):
    assert reason(content) == "line 1: expected the columns' names, got an empty line"


def test_a_quote_that_is_never_closed_does_not_read_the_whole_file():
    assert "line 1" in reason(b'"a\n' + b"x" * 80 + b"\n" * 2_000_000)


@given(
    st.lists(st.text(alphabet="ab,;|\t", min_size=1), min_size=2), st.sampled_from(",;\t|"), st.sampled_from(["", " "])
)
def test_delimiters_within_quotes_do_not_count(names: list[str], delimiter: str, blank: str):
    header = f"{delimiter}{blank}".join(f'"{name}"' for name in names)
    assert layout(header.encode()).names == tuple(names)
    assert layout(header.encode()).dialect == Dialect(delimiter, '"', has_blanks=bool(blank))


@pytest.mark.parametrize(
    ("row", "got"),
    [("1,2,", 3), ("1,2,,", 4), ('1,2,""', 3), ("1", 1), ("1,2,3", 3), ('"1,1",2,', 3), ('"1\n1",2,', 3)],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_of_another_number_of_fields_is_named_by_its_line(row: str, got: int, end: str):
    content = end.join(["a,b", '"x\n,y",2', row, "5,6", ""])
    assert reason(content.encode()) == f"line 4: expected 2 columns, got {got}"


@pytest.mark.parametrize(
    "row", ['5"x,2', '1,"x"y', '1,"x" ', '1,"x', '1,x"', '1,x""y', '"1"",2', '1,"a" "b"', '1, "b"', '1,"b"\'']
)
def test_a_quote_that_is_not_where_a_field_begins_or_ends_is_named_by_its_line(row: str):
    assert re.match("line 3: a quote is opened", reason(f"a,b\n1,2\n{row}\n3,4\n".encode()))


@pytest.mark.parametrize("content", [b"a,b\n1,2\n1\x002,3\n", b"a\n\n\x00"])
def test_a_nul_character_is_named_by_its_line(content: bytes):
    assert reason(content) == "line 3: a NUL character; the file is damaged, or is no text"


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n3,4\r5,6\n", b"a,b\r\n1,2\r\n3,4\r5,6\r\n", b'a,b\n"1",2\n3,"4"\r5,6\n', b'"a"\n"1"\n"3"\r4\n'],
)
def test_a_line_that_ends_with_a_carriage_return_alone_is_named(content: bytes):
    assert reason(content).startswith("line 3: ends with a carriage return alone")


@pytest.mark.parametrize("content", [b"a,b\r\n1,2\n3,4\r\n", b"a,b\n1,2\r\n3,4\n", b"a,b\r\n1,2\n", b"a,b\n1,2\r\n3,4"])
def test_lines_may_end_in_both_usual_ways(content: bytes):
    found = layout(content)
    assert not found.is_plain
    assert b"".join(rewritten(content, found)).strip() == content[found.data_start :].replace(b"\r\n", b"\n").strip()


def test_a_header_with_a_line_break_unlike_the_rows_is_read_by_us():
    content = b'x,y,"test\n123"\r\na,b,c\r\n1,2,3\r\n'
    found = layout(content)
    assert (found.names, found.rows, found.is_plain) == (("x", "y", "test\n123"), 2, False)
    assert b"".join(rewritten(content, found)) == b"a,b,c\n1,2,3\n"


def test_a_blank_after_each_delimiter_is_no_part_of_a_value():
    content = b'"id", "name"\n"1", "a, b"\n2, c\n"", "x"\n'
    found = layout(content)
    assert found.names == ("id", "name")
    assert b"".join(rewritten(content, found)) == b'"1","a, b"\n2,c\n"","x"\n'


def test_a_blank_in_the_header_alone_is_left_out_of_the_names_only():
    found = layout(b"id, name\n1,a\n2,b\n")
    assert (found.names, found.dialect.has_blanks, found.is_plain) == (("id", "name"), False, True)


@pytest.mark.parametrize(
    ("row", "plain"),
    [
        (b"1,'a, b','c'", b'1,"a, b","c"'),
        (b"1,Men's,'won't'", b"1,Men's,\"won't\""),
        (b"1,'it''s','c'", b'1,"it\'s","c"'),
        (b"1,'it''s \"x\"','c'", b'1,"it\'s ""x""","c"'),
        (b"1,'don't ''','c'", None),
        (b"1,'a\"\"b','c'", None),
        (b"1,'don't 5\"','c'", None),
        (b"1,'open,c", None),
    ],
)
def test_single_quotes_count_where_names_are_within_them(row: bytes, plain: bytes | None):
    content = b"id,'x','y'\n" + row + b"\n"
    if plain is None:
        reason(content)
    else:
        assert b"".join(rewritten(content, layout(content))) == plain + b"\n"


def test_apostrophes_are_letters_elsewhere():
    found = layout(b"id,x\n1,'a'\n2,it's\n")
    assert (found.dialect.quote, found.is_plain) == ('"', True)


@pytest.mark.parametrize(
    ("rows", "quote"),
    [("5'9\" tall\tx", ""), ('said "hi" loudly\ty', ""), ('"a"\tb', '"'), ('"a ""b"""\tb', '"'), ('"a\tb"\tc', '"')],
)
def test_quotes_count_in_a_file_with_tabs_only_where_all_are_in_their_place(rows: str, quote: str):
    assert layout(f"name\tnote\n{rows}\n".encode(), is_tsv=True).dialect.quote == quote


@pytest.mark.parametrize(
    "rows",
    [
        '1\t"Hello\n2\tPlain\n3\tgoodbye"\n',  # a value over three lines, or three rows
        '1\t"wrapped"\n2\t5" pipe\n',  # quotes count in one row, and cannot in the other
    ],
)
def test_quotes_with_tabs_that_can_be_read_both_ways_are_a_rejection(rows: str):
    assert re.match(r"line [23]: ", reason(f"id\ttext\n{rows}".encode(), is_tsv=True))


def test_the_names_again_in_a_later_row_are_named_by_their_line():
    for again in (b"id,name", b'"id","name"', b'id,"name"'):
        content = b"id,name\n1,a\n" + again + b"\n2,b\n"
        with pytest.raises(RejectionError, match="line 3: the columns' names again"):
            check_names_once(content, layout(content))
    check_names_once(b"id\nid\n", layout(b"id\nid\n"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "rows"),
    [(['q"q', "\\,|"], 1), (['size 5"\tx', '6"\ty', "7\tz"], 2), (['q"q', ".\ta", "b\tc"], None), (['"a', 'b"c'], 1)],
)
def test_a_stray_quote_in_the_names_of_a_tsv_file_hides_no_row(lines: list[str], rows: int | None, end: str):
    content = "".join(line + end for line in lines).encode()
    if rows is None:
        assert reason(content, is_tsv=True).startswith(
            "line 1 holds no column names: it has 1 column, and the lines below"
        )
    else:
        found = layout(content, is_tsv=True)
        assert (found.names, found.rows) == (tuple(lines[0].split("\t")), rows)


@pytest.mark.parametrize("is_tsv", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "lines", [['"id,v', "1,2", '3,4"'], ['id,"v', "1,2", '3,4"', "5,6"], ['id,"v', "1,2", '3,4,"'], ['"id', '1"']]
)
def test_rows_that_two_stray_quotes_make_a_part_of_a_name_are_a_rejection(lines: list[str], end: str, is_tsv: bool):
    content = "".join(line + end for line in lines).encode()
    content = content.replace(b",", b"\t") if is_tsv else content
    assert reason(content, is_tsv=is_tsv).startswith("line 1: a quote is opened in a column's name and closed ")


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("rows", ["", "1{0}2\n", '"1"{0}\n3{0}4\n'])
def test_a_tsv_file_that_is_divided_by_something_else_is_a_rejection(delimiter: str, rows: str):
    content = f"a{{0}}b\n{rows}".format(delimiter).encode()
    assert re.fullmatch(r"line 1: expected tabs, .* got (commas|semicolons|bars) .*csv", reason(content, is_tsv=True))


def test_a_tsv_file_of_one_column_may_hold_commas():
    assert layout(b"names, all\nSmith, J\nBrown\n", is_tsv=True).names == ("names, all",)


@pytest.mark.parametrize("title", [b"Report of May", b"# exported by hand", b"Report; of May"])
def test_a_first_line_unlike_all_others_holds_no_names(title: bytes):
    assert "line 1 holds no column names" in reason(title + b"\nid,name,v\n1,a,2\n2,b,3\n")


def test_every_record_has_its_line():
    content = b'a,b\n\n1,"x\ny"\n\n3,4\n'
    found = layout(content)
    assert [line_of(content, found, row) for row in (1, 2)] == [3, 6]
    assert list(first_rows(content, found, 9)) == [("1", "x\ny"), ("3", "4")]


@given(st.binary(max_size=40) | st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b" "])).map(b"".join))
def test_any_bytes_have_a_layout_or_a_reason(content: bytes):
    try:
        assert layout_of(content, is_tsv=False).rows >= 0
    except RejectionError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
