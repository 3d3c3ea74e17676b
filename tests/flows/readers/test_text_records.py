"""What is written in any dialect comes back equal, or is rejected; never as something else."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.errors import RejectionError
from flows.readers.guard import Guard
from flows.readers.text_records import BadRecord, Record, delimited, delimiter_in, lines_of
from flows.rules import CsvFormat
from flows.source_file import FileFormat, SourceFile

Rows = list[list[str | None]]
_ALPHABET = "ab1 .-#'\"\\,;|\t\n\rä€"
TEXTS = st.none() | st.text(_ALPHABET, max_size=6)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252")


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Return rows of equal width, of which none is without any value."""
    width = draw(st.integers(2, 4))
    row = st.lists(TEXTS, min_size=width, max_size=width).filter(lambda one: any(value for value in one))
    return draw(st.lists(row, max_size=5))


def read(text: str, rules: CsvFormat, encoding: str = "utf-8") -> tuple[tuple[str, ...], list[Record | BadRecord]]:
    """Return names and records of a text. Raises RejectionError."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(text.encode(encoding))
        file = SourceFile(path, "a.csv", path.stat().st_size, FileFormat.CSV)

        def lines() -> list[str]:
            with lines_of(file, rules.encoding, Guard()) as some:
                return list(some)

        delimiter = rules.delimiter or delimiter_in(lambda: iter(lines()), rules)
        with lines_of(file, rules.encoding, Guard()) as some:
            found = delimited(some, rules, delimiter)
            return found.names, list(found.records)


def written(rows: Rows, rules: CsvFormat, end: str, *, always: bool) -> str:
    """Write rows in a dialect: a missing value is empty, an empty text is in quotes."""
    out = StringIO()
    for row in rows:
        out.write((rules.delimiter or ",").join(field(value, rules, always=always) for value in row) + end)
    return out.getvalue()


def field(value: str | None, rules: CsvFormat, *, always: bool) -> str:
    """Write one value, in quotes if it needs them."""
    if value is None:
        return ""
    special = {*(rules.delimiter or ","), "\r", "\n", rules.quote, rules.escape or "", (rules.comment or "x")[0]}
    if not (always or not value or special & set(value) or value != value.strip()):
        return value
    for one in dict.fromkeys([rules.escape or rules.quote, rules.quote]):
        value = value.replace(one, (rules.escape or rules.quote) + one)
    return rules.quote + value + rules.quote


@settings(max_examples=300, deadline=None)
@given(
    rows=tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "||", ", ", "<>"]),
    quote=st.sampled_from(['"', "'"]),
    escape=st.sampled_from([None, "\\"]),
    comment=st.sampled_from([None, "#", "//"]),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    skip=st.integers(0, 2),
    footer=st.integers(0, 2),
    blank=st.booleans(),
    always=st.booleans(),
)
def test_a_table_that_is_written_in_any_dialect_comes_back_equal(  # noqa: PLR0917
    rows: Rows,
    delimiter: str,
    quote: str,
    escape: str | None,
    comment: str | None,
    encoding: str,
    end: str,
    skip: int,
    footer: int,
    *,
    blank: bool,
    always: bool,
) -> None:
    rules = CsvFormat(
        encoding=None if encoding == "utf-8-sig" else encoding,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        comment=comment,
        skip=skip,
        footer=footer,
    )
    names = [f"n{at}" for at in range(len(rows[0]) if rows else 2)]
    parts = ["title \"1'"[: 6 + at] + end for at in range(skip)]
    parts += [(comment + " 'note\"" + end) if comment else ""]
    parts += [written([list(names), *rows], rules, end, always=always)]
    parts += [end if blank else "", *(f"total {at}{end}" for at in range(footer)), end if blank else ""]
    found_names, found = read("".join(parts), rules, encoding)
    assert found_names == tuple(names)
    assert [one.values if isinstance(one, Record) else one for one in found] == rows


@settings(max_examples=500, deadline=None)
@given(text=st.text('ab,"\\\n', max_size=30), escape=st.sampled_from([None, "\\"]))
def test_what_is_read_of_any_text_is_what_a_strict_writer_would_have_written(text: str, escape: str | None) -> None:
    rules = CsvFormat(delimiter=",", header="none", names=("x", "y"), escape=escape)
    try:
        _, found = read(text, rules)
    except RejectionError:
        return
    good: Sequence[Record] = [one for one in found if isinstance(one, Record)]
    for one in good:
        again = written([list(one.values)], rules, "\n", always=False)
        _, [back] = read(again, rules) if any(one.values) or "," in again else ((), [one])
        assert isinstance(back, Record)
        assert list(back.values) == list(one.values)
    lines = text.count("\n") + 1
    assert len(found) <= lines


@pytest.mark.parametrize("stray", ['2,b"x,c', '"2,b,c', '2,"b,c', '2,b,c"', '2,b,"', '2,"b"x,c'])
@pytest.mark.parametrize("below", ["3,d,e", '3,"d",e', '3,d,"e"', '3,"d, ""x""",e'])
def test_a_stray_quote_ends_with_its_line_if_the_next_quotes_are_in_order(stray: str, below: str) -> None:
    rules = CsvFormat(delimiter=",")
    _, found = read(f"a,b,c\n1,x,y\n{stray}\n{below}\n4,x,y\n", rules)
    assert [one.line for one in found if isinstance(one, BadRecord)] == [3]
    assert [one.line for one in found if isinstance(one, Record)] == [2, 4, 5]


def test_no_part_of_a_broken_value_of_several_lines_is_read_as_a_row() -> None:
    rules = CsvFormat(delimiter=",")
    _, found = read('a,b\n1,"one\n2,two\nthree" x\n4,four\n', rules)
    assert [(one.line, isinstance(one, Record)) for one in found] == [(2, False), (5, True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a;b\n"1,5";"x"\n"2,5";"y"\n', ";"),
        ("a;b\n1,5;2,5\n", ";"),
        ("a|b\n1|2\n1|2|3\n4|5\n", "|"),
        ("a\n1\n2\n", ","),
        ('a,b\n"x;y",1\n"x;y",2\n', ","),
    ],
)
def test_the_delimiter_is_found(text: str, expected: str) -> None:
    assert delimiter_in(lambda: iter(text.splitlines(keepends=True)), CsvFormat()) == expected


@pytest.mark.parametrize("text", ["a,b;c\n1,2;3\n", "a\n1,2\n3;4\n"])
def test_an_unsure_delimiter_is_rejected(text: str) -> None:
    with pytest.raises(RejectionError, match="set `delimiter`"):
        delimiter_in(lambda: iter(text.splitlines(keepends=True)), CsvFormat())


@pytest.mark.parametrize(
    ("text", "rules", "said"),
    [
        ("a,b\n1,2\na,b\n3,4\n", {}, "line 3: the columns' names again"),
        ("\n\na,b\n1,2\n", {"header": 2}, "line 2: expected the columns' names"),
        ("a,b\r1,2\r\n3,4\r\n", {}, "a carriage return alone"),
        ("a,b\n1,2\n", {"footer": 5}, "expected a footer of 5 lines"),
    ],
)
def test_what_the_rules_do_not_fit_is_rejected(text: str, rules: dict[str, int], said: str) -> None:
    with pytest.raises(RejectionError, match=said):
        read(text, CsvFormat.model_validate({"delimiter": ",", **rules}))


@pytest.mark.parametrize("given_", [{"delimiter": '"'}, {"escape": ",", "delimiter": ","}, {"delimiter": "a\nb"}])
def test_characters_that_exclude_one_another_are_a_mistake(given_: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CsvFormat.model_validate(given_)
