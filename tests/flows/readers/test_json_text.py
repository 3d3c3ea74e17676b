"""A JSON file is divided into records, each of them JSON, and is rejected with line and column where it is not."""

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import RejectionError, reason_of
from flows.readers import json_text
from flows.readers.base import raw
from flows.readers.json_record import JsonRecord, examined, parsed
from flows.readers.json_text import Member, json_layout, records_of, wrapper_of
from flows.readers.registry import read_plan
from flows.source_file import Rejected, SourceFile, format_of

Rows = list[tuple[str | None, ...]]


def read(folder: Path, content: str | bytes, name: str = "a.json") -> tuple[list[str], Rows] | str:
    """Return the names of a file's columns and its rows as texts, or the reason why it is rejected."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = format_of(name)
    assert found
    file = SourceFile(path, name, path.stat().st_size, *found)
    with duckdb.connect() as connection:
        plan = read_plan(connection, file, folder)
        if isinstance(plan, Rejected):
            return plan.reason
        if not plan.columns:
            return [], []
        shown = ", ".join(f"CAST({raw(at)} AS VARCHAR)" for at in range(len(plan.columns)))
        types = ["JSON" if column.new_type == "JSON" else "VARCHAR" for column in plan.columns]
        try:
            rows = connection.execute(f"SELECT {shown} FROM ({plan.scan(types)})").fetchall()
        except duckdb.Error as error:
            return reason_of(error, file)
    assert plan.rows == len(rows)
    return [column.name for column in plan.columns], rows


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("NaN", "line 2, column 6: NaN is not JSON"),
        ("-Infinity", "line 2, column 6: -Infinity is not JSON"),
        ("01", "line 2, column 6: 01 is not written as JSON writes numbers"),
        ("1.", "line 2, column 6: 1. is not written as JSON writes numbers"),
        (".5", "line 2, column 6: .5 is not written as JSON writes numbers"),
        ("+1", "line 2, column 6: +1 is not written as JSON writes numbers"),
        ("0x1F", "line 2, column 6: 0x1F is not written as JSON writes numbers"),
        ("'x'", "line 2, column 6: single quotes; JSON has double quotes only"),
        ("1 /* x */", "line 2, column 8: a comment; JSON has none"),
        ("1 // x", "line 2, column 8: a comment; JSON has none"),
        ("[1,]", 'line 2, column 9: a comma before "]"'),
        ('{"b": 1,}', 'line 2, column 14: a comma before "}"'),
        ('{"b": 1, "b": 2}', 'line 2, column 15: the field "b" is there more than once'),
        ('1, "a": 2', 'line 2, column 9: the field "a" is there more than once'),
        ('1, "\\u0061": 2', 'line 2, column 9: the field "a" is there more than once'),
        (r'"\ud800"', r"line 2, column 7: \ud800 is half of a character"),
        (r'"x\udc00"', r"line 2, column 8: \udc00 is half of a character"),
        (r'"\x41"', r"line 2, column 6: \x in a text stands for nothing in JSON"),
        ('"a\tb"', "line 2, column 6: a text has the control character U+0009"),
        ("tru", "line 2, column 6: expected a value, got 'tru'"),
        ("", "line 2, column 6: expected a value, got '}'"),
        ('{"b": 0.1234567890123456789}', "line 2, column 12: the number 0.1234567890123456789 has more digits"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.ndjson"])
def test_what_is_not_json_is_rejected_with_line_and_column(tmp_path: Path, value: str, said: str, name: str):
    text = f'{{"a":0}}\n{{"a":{value}}}\n{{"a":2}}\n' if name == "a.ndjson" else f'[{{"a":0}},\n{{"a":{value}}}\n]'
    found = read(tmp_path, text, name)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a":1},]', "line 1, column 10: expected another record after the comma, got ']'"),
        ('[{"a":1}\n{"a":2}]', 'line 2, column 1: expected "," or "]", got \'{\''),
        ('[{"a":1}] x', "line 1, column 11: expected the end of the file, got 'x'"),
        ('[{"a":1}][{"a":2}]', "line 1, column 10: expected the end of the file, got '['"),
        ('[{"a":1}', 'line 1, column 9: expected "," or "]", and the file ends; it was cut short'),
        ('[{"a":1},\n{"a"', 'line 2, column 5: expected ":", and the text ends; it was cut short'),
        ('[{"a":"x', "line 1, column 7: a quote is opened and not closed"),
        ("// x\n[]", "line 1, column 1: a comment"),
        ("5", "line 1, column 1: expected an object, one for each row, got a number"),
        ('"x"', "line 1, column 1: expected an object, one for each row, got a text"),
        ("[[1]]", "line 1, column 2: expected an object, one for each row, got a list"),
        ('[{"a":1},null]', "line 1, column 10: expected an object, one for each row, got null"),
        ('{"a":1}\n[{"a":2}]', "line 2, column 1: expected an object, one for each row, got a list"),
        ('{"a":1}garbage', "line 1, column 8: expected a value, got 'garbage'"),
        ("[{}]", "its objects have no fields"),
        ('[{"a":1,"A":2}]', 'column "a": there more than once; case makes no difference'),
        ('[{"a":1},{"a ":2}]', 'column "a": there more than once'),
        ('[{"":1}]', "a field with an empty name"),
        ('[{"\u200b":1}]', "a field whose name has no visible character"),
        ("  ", "got a file without any"),
    ],
)
def test_what_is_no_list_of_objects_is_rejected(tmp_path: Path, text: str, said: str):
    found = read(tmp_path, text)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":1}\n[{"a":1}]\n', "line 2, column 1: expected an object, one for each row, got a list"),
        ('{"a":1} {"a":2}\n', "line 1, column 9: expected the end of the record, got '{'"),
        ('{"a":1\n}\n', 'line 1, column 7: expected "," or "}", and the text ends'),
        ('{"a":1}\n\nnull\n', "line 3, column 1: expected an object, one for each row, got null"),
        ('{"a":1}\n{"a":2', 'line 2, column 7: expected "," or "}", and the text ends; it was cut short'),
        (b'{"a":1}\n{"a":"\xff"}\n', "line 2, column 7: not UTF-8 text"),
    ],
)
def test_a_line_of_ndjson_is_one_object(tmp_path: Path, text: str | bytes, said: str):
    found = read(tmp_path, text, "a.ndjson")
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    ("text", "name", "rows"),
    [
        ('\ufeff[{"a":1},{"a":2}]', "a.json", [("1",), ("2",)]),
        ('\ufeff{"a":1}\n\n{"a":2}\r\n', "a.ndjson", [("1",), ("2",)]),
        ('{"a":1}\n{"a":2}\n', "a.json", [("1",), ("2",)]),
        ('{"a":\n1}{"a":2}', "a.json", [("1",), ("2",)]),
        ('[{"a":1}\n,\r\n{"a":\n2}]\n', "a.json", [("1",), ("2",)]),
        ('[{"a" : "\\"a\\":"}]', "a.json", [('"a":',)]),
        ('[{"a":123456789012345678901234567890}]', "a.json", [("123456789012345678901234567890",)]),
        ('[{"a":82544000000000000707.52}]', "a.json", [("82544000000000000707.52",)]),
        ('{"a":0.12345678901234567890123}', "a.ndjson", [("0.12345678901234567890123",)]),
        ('[{"a":0.30000000000000004}]', "a.json", [("0.30000000000000004",)]),
        ('[{"a":0.10000000000000001}]', "a.json", [("0.1",)]),
        ('[{"a":1e400}]', "a.json", [("1e400",)]),
        ('[{"a":1e-400}]', "a.json", [("1e-400",)]),
        (r'[{"a":"\ud83d\ude00"}]', "a.json", [("😀",)]),
        ("[]", "a.json", []),
        ('[{"a":' + "[" * 2000 + "]" * 2000 + "}]", "a.json", [("[" * 2000 + "]" * 2000,)]),
    ],
)
def test_records_come_back_as_they_are(tmp_path: Path, text: str, name: str, rows: Rows):
    found = read(tmp_path, text, name)
    assert found == (["a"] if rows else [], rows)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"data": [{"a":1}, {"a":2}], "next": null}', [("1",), ("2",)]),
        ('{"next": "x", "data": [{"a":1}]}', [("1",)]),
        ('{"data": [{"a":1}], "anything": 5}', [("1",)]),
        ('{"orders": [{"a":1}]}', [("1",)]),
        ('{"orders": [{"a":1}], "count": 1}', [("1",)]),
        ('{"results": [{"a":82544000000000000707.52}], "total": 1}', [("82544000000000000707.52",)]),
        ('{"data": [], "next": null}', []),
        ('{"orders": []}', []),
        ('{"a": [1, 2]}', [("[1,2]",)]),
        ('{"a": {"data": [{"b": 1}]}}', [('{"data":[{"b":1}]}',)]),
    ],
)
def test_a_wrapper_gives_the_records_of_its_list(tmp_path: Path, text: str, rows: Rows):
    found = read(tmp_path, text)
    assert not isinstance(found, str)
    assert found[1] == rows


def test_an_object_with_a_list_among_its_own_fields_is_one_row(tmp_path: Path):
    assert read(tmp_path, '{"id": 1, "lines": [{"x": 1}]}') == (["id", "lines"], [("1", '[{"x":1}]')])


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"data": Member(True, 1), "included": Member(True, 2)}, 'several lists of objects, "data" and "included"'),
        ({"id": Member(False, 0), "items": Member(True, 2)}, 'the list "items" beside "id": unclear'),
    ],
)
def test_an_object_that_may_or_may_not_be_a_wrapper_is_rejected(members: dict[str, Member], said: str):
    with pytest.raises(RejectionError, match=said):
        wrapper_of(members)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"a":1}]'.encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        ('[{"a":1}]'.encode("utf-16-le"), "text in UTF-16; save it as UTF-8"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.ndjson"])
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, content: bytes, said: str, name: str):
    found = read(tmp_path, content, name)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize("name", ["a.json.gz", "a.ndjson.gz"])
def test_packed_text_is_checked_however_small_it_is(tmp_path: Path, name: str):
    packed = gzip.compress(b'{"a":1}\n{"a":2}\n')
    assert read(tmp_path, packed, name) == (["a"], [("1",), ("2",)])
    assert isinstance(read(tmp_path, packed[:-8] + b"xxxx" + packed[-4:], name), str)
    assert isinstance(read(tmp_path, packed[:-4] + b"xxxx", name), str)
    assert isinstance(read(tmp_path, packed[:-6], name), str)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=4), st.sampled_from([None, 1, "\t"]), st.booleans(), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_any_list_is_divided_into_its_items_however_it_is_written_and_cut_into_pieces(
    items: list[Any], indent: int | str | None, is_ascii: bool, size: int
):
    before = json_text._AT_ONCE  # pyright: ignore[reportPrivateUsage]
    json_text._AT_ONCE = size  # pyright: ignore[reportPrivateUsage]
    try:
        content = json.dumps(items, indent=indent, ensure_ascii=is_ascii).encode()
        layout, name = json_layout(lambda: BytesIO(content), lambda: None)
        found = list(records_of(lambda: BytesIO(content), layout, name, lambda: None))
    finally:
        json_text._AT_ONCE = before  # pyright: ignore[reportPrivateUsage]
    assert [json.loads(record.text) for record in found] == items


@given(st.text(alphabet="{}[]:,\"\\ua0d8. \n\t-+eEtrufalsn1'/", max_size=12) | VALUES.map(json.dumps))
@settings(max_examples=400, deadline=None)
def test_what_the_tokens_say_is_what_a_strict_parser_says(text: str):
    def parse() -> object:
        return json.loads(text, parse_constant=lambda word: json.loads(word + "!"))

    try:
        parse()
        is_json = True
    except ValueError:
        is_json = False
    record = JsonRecord(text.encode(), 1)
    try:
        examined(record)
    except RejectionError as caught:
        error = str(caught)
        would_be_misread = ("more than once", "half of a", "more digits")
        said = [words for words in would_be_misread if words in error]
        assert said or not is_json, error
        assert parsed(record.text) is None, error
    else:
        assert is_json
