"""A Parquet file is loaded as its own schema and pages say, or rejected with its column, row and value."""

import struct
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.errors import reason_of
from flows.loading.file_result import Outcome
from flows.readers.base import raw
from flows.readers.guard import FileLimits
from flows.readers.registry import read_plan
from flows.source_file import FileFormat, Rejected, SourceFile
from flows.warehouse.duckdb import in_memory_reader
from tests import parquet_maker as pq
from tests.parquet_maker import Column, Damage, Group, parquet_file
from tests.pipeline import Pipeline


def read(folder: Path, content: bytes) -> tuple[list[str], list[tuple[Any, ...]]] | str:
    """Return the types of a file's columns and its rows as texts, or the reason why it is rejected."""
    path = folder / "a.parquet"
    path.write_bytes(content)
    file = SourceFile(path, path.name, len(content), FileFormat.PARQUET)
    with in_memory_reader("1GB", folder / "tmp") as reader:
        plan = read_plan(reader.connection, file, folder)
        if isinstance(plan, Rejected):
            return plan.reason
        types = [column.new_type for column in plan.columns]
        shown = ", ".join(f"CAST({raw(at)} AS VARCHAR)" for at in range(len(types)))
        try:
            return types, reader.connection.execute(f"SELECT {shown} FROM ({plan.scan(types)})").fetchall()
        except duckdb.Error as error:
            return reason_of(error, file)


def reason(folder: Path, *columns: Column | Group, damage: Damage | None = None) -> str:
    """Return why a file of these columns is rejected."""
    found = read(folder, parquet_file(*columns, damage=damage))
    assert isinstance(found, str), found
    return found


CAFE = "café".encode()


def test_bytes_go_into_a_column_of_texts_as_the_text_that_they_are(pipeline: Pipeline):
    pipeline.load("a.csv", "id,name\n1,x\n")
    added = pipeline.load("b.parquet", parquet_file(Column("id", pq.INT64, [2]), Column("name", pq.BYTE_ARRAY, [CAFE])))
    assert added.reason is None
    assert pipeline.rows() == [(1, "x"), (2, "café")]


@pytest.fixture
def duck(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_bytes_that_are_no_text_do_not_go_into_a_column_of_texts(pipeline: Pipeline):
    pipeline.load("a.csv", "name\nx\n")
    bad = pipeline.load("b.parquet", parquet_file(Column("name", pq.BYTE_ARRAY, [CAFE, b"\xff"])))
    assert bad.reason == 'row 2, column "name": bytes that are not UTF-8 text'
    assert pipeline.rows() == [("x",)]


def test_bytes_are_binary_in_a_column_of_their_own(tmp_path: Path):
    assert read(tmp_path, parquet_file(Column("a", pq.BYTE_ARRAY, [b"\xff\x00", None]))) == (
        ["BLOB"],
        [(r"\xFF\x00",), (None,)],
    )


def test_bytes_within_a_group_are_texts(tmp_path: Path):
    group = Group("g", [Column("name", pq.BYTE_ARRAY, [CAFE])])
    assert read(tmp_path, parquet_file(group)) == (["JSON"], [('{"name":"café"}',)])


@pytest.mark.parametrize(
    ("column", "type_", "value"),
    [
        (Column("a", pq.BYTE_ARRAY, [CAFE], logical=pq.STRING), "VARCHAR", "café"),
        (Column("a", pq.BYTE_ARRAY, [CAFE], logical=pq.ENUM_TYPE), "VARCHAR", "café"),
        (Column("a", pq.BYTE_ARRAY, [CAFE], converted=pq.ENUM), "VARCHAR", "café"),
        (Column("a", pq.BYTE_ARRAY, [b'{"x": 1}'], logical=pq.JSON_TYPE), "JSON", '{"x": 1}'),
        (Column("a", pq.BYTE_ARRAY, [b'{"x": 1}'], converted=pq.JSON), "JSON", '{"x": 1}'),
        (Column("a", pq.INT64, [-1], converted=pq.UINT_64), "UBIGINT", "18446744073709551615"),
        (Column("a", pq.INT32, [7], logical=pq.logical_int(32, signed=True)), "INTEGER", "7"),
        (Column("a", pq.FIXED, [struct.pack("<e", 1.5)], logical=pq.FLOAT16, length=2), "FLOAT", "1.5"),
        (
            Column("a", pq.FIXED, [bytes(range(16))], logical=pq.UUID, length=16),
            "UUID",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        (
            Column("a", pq.FIXED, [struct.pack("<III", 14, 3, 1500)], converted=pq.INTERVAL, length=12),
            "INTERVAL",
            "1 year 2 months 3 days 00:00:01.5",
        ),
        (
            Column("a", pq.INT64, [1], logical=pq.logical_timestamp(pq.NANOS, utc=True)),
            "TIMESTAMPTZ_NS",
            "1970-01-01 00:00:00.000000001+00",
        ),
        (
            Column("a", pq.INT64, [1], logical=pq.logical_timestamp(pq.MICROS, utc=True)),
            "TIMESTAMP WITH TIME ZONE",
            "1970-01-01 00:00:00.000001+00",
        ),
        (
            Column("a", pq.INT64, [5000], logical=pq.logical_time(pq.NANOS, utc=True)),
            "TIME WITH TIME ZONE",
            "00:00:00.000005+00",
        ),
        (Column("a", pq.INT32, [None], logical=pq.UNKNOWN), "VARCHAR", None),
        (Column("a", pq.INT96, [pq.int96(19_000, 123_456_000)]), "TIMESTAMP", "2022-01-08 00:00:00.123456"),
        (Column("a", pq.INT96, [pq.int96(-719_528 + 366, 0)]), "TIMESTAMP", "0001-01-01 00:00:00"),
        (Column("a", pq.INT96, [pq.int96(105_000_000, 0)]), "TIMESTAMP", "289450-03-28 00:00:00"),
    ],
)
def test_a_value_is_what_the_file_says(tmp_path: Path, column: Column, type_: str, value: str):
    assert read(tmp_path, parquet_file(column)) == ([type_], [(value,)])


def decimal(digits: int, scale: int, length: int, number: int) -> Column:
    content = number.to_bytes(length, signed=True)
    return Column("a", pq.FIXED, [content], converted=pq.DECIMAL, length=length, precision=digits, scale=scale)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (decimal(50, 2, 21, 10**49), "decimals of 50 digits, the limit is 38"),
        (Column("a", pq.INT64, [5], logical=pq.logical_decimal(2, 9), scale=2, precision=9), "DECIMAL by a logical"),
        (Column("a", pq.INT32, [-1], logical=pq.logical_int(32, signed=False)), "INTEGER by a logical type alone"),
        (Column("a", pq.INT32, [5], logical=pq.DATE_TYPE), "DATE by a logical type alone"),
        (
            Column("a", pq.INT32, [123_456], converted=pq.DECIMAL, precision=5, scale=2),
            'row 1, column "a": 1234.56 has',
        ),
        (Column("a", pq.INT32, [1], converted=pq.DECIMAL, precision=5, scale=7), "5 digits with 7 behind the point"),
        (Column("a", pq.BYTE_ARRAY, [b"x"], converted=pq.BSON), "BSON is not supported"),
        (Column("a", pq.BYTE_ARRAY, [b"{"], converted=pq.JSON), "JSON"),
        (
            Column("a", pq.BYTE_ARRAY, [b"ok", b"\xff"], logical=pq.STRING),
            'row 2, column "a": bytes that are not UTF-8',
        ),
        (Column("a", pq.INT32, [7, 300], converted=pq.UINT_8), 'row 2, column "a": 300: out of the range of UINT_8'),
        (Column("a", pq.INT32, [-129], converted=pq.INT_8), "-129: out of the range of INT_8"),
        (Column("a", pq.INT32, [70_000], converted=pq.UINT_16), "70000: out of the range of UINT_16"),
        (Column("a", pq.INT32, [-40_000], converted=pq.INT_16), "-40000: out of the range of INT_16"),
        (
            Column("a", pq.INT96, [pq.int96(1, 0), pq.int96(107_000_000, 0)]),
            'row 2, column "a": 294926-01-19 00:00:00.000000000: a moment out of reach',
        ),
        (Column("a", pq.INT96, [pq.int96(2**31, 0)]), "a moment out of reach"),
        (Column("a", pq.INT96, [pq.int96(19_000, 123_456_789)]), "2022-01-08 00:00:00.123456789: a moment"),
        (Column("a", pq.INT64, [2**63 - 1], converted=pq.TIMESTAMP_MICROS), 'row 1, column "a": a moment out of reach'),
        (Column("a", pq.INT64, [-(2**63)], converted=pq.TIMESTAMP_MICROS), 'row 1, column "a": a moment out of reach'),
        (Column("a", pq.INT32, [2**31 - 1], converted=pq.DATE), 'row 1, column "a": a moment out of reach'),
        (Column("a", pq.INT64, [1], logical=pq.logical_time(pq.NANOS, utc=True)), 'row 1, column "a": 1: no time of a'),
        (Column("a", pq.INT64, [-5], logical=pq.logical_time(pq.MICROS, utc=True)), 'column "a": -5: no time of a day'),
        (
            Column("a", pq.FIXED, [struct.pack("<III", 2**31, 0, 0)], converted=pq.INTERVAL, length=12),
            "2,147,483,648 months 0 days 0 ms: an interval that is too long",
        ),
        (Column("a", pq.INT32, [None, 5], logical=pq.UNKNOWN), 'row 2, column "a": it has a value, and its column'),
        (Column("a", pq.FIXED, [bytes(12)], logical=pq.UUID, length=12), "UUIDs of 12 bytes instead of 16"),
    ],
)
def test_a_value_that_would_come_out_as_another_one_is_rejected(tmp_path: Path, column: Column, said: str):
    assert said in reason(tmp_path, column)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (Column("f", pq.DOUBLE, [1.5, float("nan")]), 'row 2, column "g": NaN or Infinity within it'),
        (Column("f", pq.FLOAT, [float("-inf")]), 'row 1, column "g": NaN or Infinity within it'),
        (Column("f", pq.INT96, [pq.int96(5, 0), pq.int96(5, 1)]), 'row 2, column "g.f": 1970-01-06 00:00:00.000000001'),
        (Column("f", pq.INT32, [300], converted=pq.INT_8), 'row 1, column "g.f": 300: out of the range of INT_8'),
        (decimal(50, 2, 21, 1), 'column "g.a": decimals of 50 digits'),
    ],
)
def test_so_is_one_within_a_group(tmp_path: Path, leaf: Column, said: str):
    assert said in reason(tmp_path, Group("g", [leaf]))


def test_a_text_that_says_nan_within_a_group_is_a_text(tmp_path: Path):
    group = Group("g", [Column("t", pq.BYTE_ARRAY, [b'"NaN'], converted=pq.UTF8), Column("f", pq.DOUBLE, [1.5])])
    assert read(tmp_path, parquet_file(group)) == (["JSON"], [(r'{"t":"\"NaN","f":1.5}',)])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([Column("a", pq.INT32, [1]), Column("A", pq.INT32, [2])], 'column "a": there more than once'),
        ([Column("a", pq.INT32, [1]), Column("a", pq.INT32, [2])], 'column "a": there more than once'),
        ([Column("a", pq.INT32, [1]), Column("a\u200b ", pq.INT32, [2])], 'column "a": there more than once'),
        ([Column("é", pq.INT32, [1]), Column("e\u0301", pq.INT32, [2])], 'column "é": there more than once'),
        ([Column("a\0b", pq.INT32, [1])], "has the control character U+0000"),
        ([Column(b"\xff", pq.INT32, [1])], "is not UTF-8"),
        ([Column("_file_name", pq.INT32, [1])], "the pipeline's own name"),
        ([Group("g", [Column("a", pq.INT32, [1]), Column("A", pq.INT32, [2])])], '"a" and "A" within it differ'),
        ([Group("g", [Group("h", [])]), Column("a", pq.INT32, [1])], 'column "g.h": a group without columns'),
        ([], "the Parquet file has no columns"),
    ],
)
def test_names_that_a_table_cannot_have_side_by_side_are_rejected_and_none_is_changed(
    tmp_path: Path, columns: list[Column | Group], said: str
):
    assert said in reason(tmp_path, *columns)


def test_names_are_the_same_as_in_a_csv_file(duck: Pipeline):
    duck.load("a.csv", "é,,b\n1,2,3\n")
    columns = [Column(name, pq.INT64, [4]) for name in ("\ufeffe\u0301 ", "", "b\u200b")]
    assert duck.load("b.parquet", parquet_file(*columns[:1], Column("", pq.INT64, [5]), columns[2])).reason is None
    assert duck.types() == {"é": "BIGINT", "column1": "BIGINT", "b": "BIGINT"}
    assert duck.rows() == [(1, 2, 3), (4, 5, 4)]


THREE = Column("a", pq.INT64, [1, 2, 3])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Damage(footer_rows=5), "its footer says 5 rows, and its row groups 3"),
        (Damage(footer_rows=2, group_rows=2), 'column "a", row group 1: it has 3 values for 2 rows'),
        (Damage(footer_rows=5, group_rows=5, chunk_values=5), 'column "a", row group 1: a page is not where it should'),
        (Damage(page_values=4), 'column "a", row group 1: its pages have 4 values, and 3 should be there'),
        (Damage(crc=1), 'column "a", row group 1: the checksum of the page at byte'),
        (Damage(codec=3), "compressed by LZO"),
        (Damage(codec=99), "compressed by number 99"),
        (Damage(magic=b"PARE"), "the Parquet file is encrypted"),
        (Damage(footer={8: {1: {}}, 2: None}), "its footer cannot be read"),
    ],
)
def test_a_file_whose_footer_and_pages_disagree_is_damaged(tmp_path: Path, damage: Damage, said: str):
    assert said in reason(tmp_path, THREE, damage=damage)


def test_pages_with_the_right_checksum_are_read(tmp_path: Path):
    assert read(tmp_path, parquet_file(THREE, damage=Damage(crc=0))) == (["BIGINT"], [("1",), ("2",), ("3",)])


def test_a_column_that_is_shorter_than_the_others_is_damaged(tmp_path: Path):
    assert "it has 2 values for 3 rows" in reason(tmp_path, THREE, Column("b", pq.INT64, [1, 2]))


@pytest.mark.parametrize("left", [0, 3, 8, 20, 60, -1, -8])
def test_a_file_that_was_cut_short_is_damaged(duck: Pipeline, left: int):
    result = duck.load("a.parquet", parquet_file(THREE)[:left])
    assert result.outcome is Outcome.REJECTED
    assert any(
        said in (result.reason or "") for said in ("its end is missing", "does not begin with PAR1", "empty file")
    )


def test_what_duckdb_has_written_for_infinity_stays_so(tmp_path: Path):
    duckdb.sql(f"COPY (SELECT 'infinity'::TIMESTAMP AS t, '-infinity'::DATE AS d) TO '{tmp_path}/x.parquet'")
    assert read(tmp_path, (tmp_path / "x.parquet").read_bytes()) == (["TIMESTAMP", "DATE"], [("infinity", "-infinity")])


def test_many_files_of_values_that_have_to_be_looked_at_are_loaded_each(duck: Pipeline):
    for number in range(10):
        nanoseconds = 1 if number == 7 else 1000
        duck.write(f"{number}.parquet", parquet_file(Column("a", pq.INT96, [pq.int96(number, nanoseconds)])), "x")
    results = duck.load_in_bulk("x")
    assert [one.file for one in results if one.outcome is not Outcome.LOADED] == ["7.parquet"]
    assert len(duck.rows()) == 9


def test_what_the_pages_unpack_to_is_counted_also_in_a_small_file(duck: Pipeline, tmp_path: Path):
    duckdb.sql(f"COPY (SELECT repeat('x', 1000) || range AS a FROM range(20)) TO '{tmp_path}/x.parquet'")
    duck.write("a.parquet", (tmp_path / "x.parquet").read_bytes(), "x")
    (result,) = duck.load_in_bulk("x", limits=FileLimits(max_unpacked_bytes=10_000))
    assert "raise MAX_UNPACKED_BYTES" in (result.reason or "")
