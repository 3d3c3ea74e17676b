"""Files become rows: each in one transaction with its load key, or not at all."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest

from flows.loading.file_result import Outcome
from flows.readers.base import SAMPLE_ROWS
from tests.pipeline import Pipeline


def test_a_files_rows_come_in_their_order_with_types_from_the_data(pipeline: Pipeline):
    result = pipeline.load("a.csv", "day,region,orders,revenue\n2026-01-05,north,1,1.5\n2026-01-06,,2,2\n")
    assert (result.outcome, result.rows, result.bytes) == (Outcome.LOADED, 2, 65)
    assert pipeline.types() == {"day": "DATE", "region": "VARCHAR", "orders": "BIGINT", "revenue": "DECIMAL(18,2)"}
    assert pipeline.rows() == [(date(2026, 1, 5), "north", 1, 1.5), (date(2026, 1, 6), None, 2, 2.0)]


def test_the_rows_of_a_big_file_may_come_in_any_order_and_are_all_there_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.loading.loader.BIG", 1_000_000)
    rows = pipeline.many_rows
    assert pipeline.load("a.csv", "n\n" + "\n".join(map(str, range(rows)))).rows == rows
    assert pipeline.execute("SELECT count(*), count(DISTINCT n), min(n), max(n) FROM public.metrics") == [
        (rows, rows, 0, rows - 1)
    ]
    bad = pipeline.load("b.csv", "n\n" + "1\n" * (rows // 2) + "x\n" + "y\n" * (rows // 2))
    assert bad.reason == f'line {rows // 2 + 2}, column "n": "x" is not a BIGINT'
    pipeline.load("c.csv", "n\n" + "\n".join(map(str, range(rows, rows + 100_000))))
    assert pipeline.rows("n")[-100_000:] == [(number,) for number in range(rows, rows + 100_000)]


def test_every_row_shows_its_arrival_its_file_and_when_it_was_loaded(pipeline: Pipeline):
    pipeline.load("a.csv", "a\n1\n2\n")
    rows = pipeline.rows("_arrival_id, _file_name, _loaded_at")
    assert {row[:2] for row in rows} == {("arrival-1", "a.csv")}
    (moment,) = {row[2] for row in rows}
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)
    assert pipeline.execute(
        "SELECT arrival_id, file_name, target_table, rows, bytes, loaded_at FROM public._loads"
    ) == [("arrival-1", "a.csv", "warehouse.public.metrics", 2, 6, moment)]


def test_a_file_that_was_loaded_before_is_skipped_and_says_how_many_rows_it_has(pipeline: Pipeline):
    pipeline.write("a.csv", "a\n1\n2\n", "x")
    assert [result.outcome for result in pipeline.load_arrival("x")] == [Outcome.LOADED]
    (again,) = pipeline.load_arrival("x")
    assert (again.outcome, again.rows) == (Outcome.SKIPPED, 2)
    assert pipeline.rows() == [(1,), (2,)]


def test_the_same_file_of_another_arrival_is_loaded(pipeline: Pipeline):
    pipeline.load("a.csv", "a\n1\n")
    pipeline.load("a.csv", "a\n1\n")
    assert pipeline.rows() == [(1,), (1,)]


def test_the_file_itself_is_not_touched(pipeline: Pipeline):
    path = pipeline.write("a.csv", "a\n1\n", "x")
    before = path.stat()
    pipeline.load_arrival("x")
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == (
        b"a\n1\n",
        before.st_mtime_ns,
        before.st_ino,
    )


def test_bad_files_among_good_ones_are_rejected_and_the_good_ones_loaded(pipeline: Pipeline):
    for name, content in {
        "1.csv": "a\n1\n",
        "2.csv": "a\n1,2\n",
        "3.json": "[{]",
        "4.txt": "x",
        "5.parquet": "PAR1",
        "6.csv": "",
        "7.ndjson": '{"a": 7}\n',
    }.items():
        pipeline.write(name, content, "x")
    results = pipeline.load_arrival("x")
    assert [result.file for result in results if result.outcome is Outcome.LOADED] == ["1.csv", "7.ndjson"]
    assert pipeline.rows() == [(1,), (7,)]
    assert all(result.reason for result in results if result.outcome is Outcome.REJECTED)


def test_a_damaged_parquet_file_does_not_keep_the_others_from_being_loaded(pipeline: Pipeline):
    content = parquet(pipeline, "SELECT 1 AS a")
    pipeline.write("1.parquet", b"xyz" + content, "x")  # its footer is fine, and points beside the rows
    pipeline.write("2.parquet", content.replace(b"\x15", b"\x1e"), "x")
    pipeline.write("3.parquet", content, "x")
    outcomes = [result.outcome for result in pipeline.load_arrival("x")]
    assert outcomes == [Outcome.REJECTED, Outcome.REJECTED, Outcome.LOADED]


# -- columns come and go


def test_a_new_column_is_added_and_null_before_a_missing_one_is_null(pipeline: Pipeline):
    pipeline.load("1.csv", "a,b\n1,x\n")
    pipeline.load("2.csv", "C,A\n2.5,2\n")
    assert pipeline.types() == {"a": "BIGINT", "b": "VARCHAR", pipeline.name("C"): "DECIMAL(18,2)"}
    assert pipeline.rows('a, b, "C"') == [(1, "x", None), (2, None, 2.5)]


def test_a_file_without_rows_is_loaded_and_adds_no_columns(pipeline: Pipeline):
    pipeline.load("1.csv", "a\n1\n")
    for name, content in {"2.csv": "a,b\n", "3.json": "[]", "4.csv": "b"}.items():
        result = pipeline.load(name, content)
        assert (result.outcome, result.rows) == (Outcome.LOADED, 0), result
    assert pipeline.types() == {"a": "BIGINT"}
    assert pipeline.execute("SELECT count(*) FROM public._loads") == [(4,)]


def test_the_columns_of_a_rejected_file_are_not_added(pipeline: Pipeline):
    pipeline.load("1.csv", "a\n1\n")
    assert pipeline.load("2.csv", "a,b\nfoo,1\n").outcome is Outcome.REJECTED
    assert pipeline.types() == {"a": "BIGINT"}
    assert pipeline.execute("SELECT count(*) FROM public._loads") == [(1,)]


def test_a_rejected_first_file_leaves_no_table(pipeline: Pipeline):
    pipeline.load("1.csv", "a\n" + "1\n" * 30_000 + "1,2\n")
    assert pipeline.execute("SELECT table_name FROM duckdb_tables()") == [("_loads",)]


def test_a_table_that_somebody_else_made_gets_the_pipelines_columns(pipeline: Pipeline):
    pipeline.create('"Weird Name" VARCHAR, n SMALLINT')
    pipeline.load("1.csv", "weird name,n\n00123,5\n")
    assert pipeline.rows() == [("00123", 5)]
    assert pipeline.rows("_file_name") == [("1.csv",)]


def test_a_constraint_of_the_table_that_a_file_breaks_rejects_the_file(pipeline: Pipeline):
    pipeline.create("a BIGINT CHECK (a < 10)")
    result = pipeline.load("1.csv", "a\n5\n50\n")
    assert result.outcome is Outcome.REJECTED
    assert "check constraint" in (result.reason or "").lower()
    assert pipeline.rows() == []


@pytest.mark.parametrize("content", ["_loaded_at\n1\n", "a,_File_Name\n1,2\n", "_arrival_id\n"])
def test_the_pipelines_own_columns_are_refused_in_a_file(pipeline: Pipeline, content: str):
    reason = pipeline.load("1.csv", content).reason or ""
    assert "the pipeline's own name" in reason


@pytest.mark.parametrize(("name", "content"), [("1.csv", "a,b,A\n1,2,3\n"), ("1.json", '[{"a": 1}, {"A": 2}]')])
def test_columns_that_differ_only_in_case_are_refused(pipeline: Pipeline, name: str, content: str):
    assert pipeline.load(name, content).reason == 'column "a": there more than once; case makes no difference'


HOSTILE = ['"; DROP TABLE public.metrics; --', "it's", "a b", "select", "raw0", "row", "ü€", "{x: 1}", "$1", "?", "\\"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_column_name_is_a_name_and_no_more(pipeline: Pipeline, name: str):
    quoted = name.replace('"', '""')
    pipeline.load("1.csv", f'"{quoted}",n\nx,1\n')
    pipeline.load("2.json", json.dumps([{name: "y", "n": 2}]))
    assert list(pipeline.types()) == [pipeline.name(name), "n"]
    assert pipeline.rows() == [("x", 1), ("y", 2)]


@pytest.mark.parametrize(
    "name", ["a[1]*?.csv", "it's.csv", "$(id).csv", "a\nb.csv", "{x,y}.csv", "year=2024.csv", "-.csv", "\\.csv"]
)
def test_a_hostile_file_name_names_that_very_file(pipeline: Pipeline, name: str):
    pipeline.write("a1xx.csv", "a\n666\n", "decoy")
    assert pipeline.load(name, "a\n1\n").rows == 1
    assert pipeline.rows("a, _file_name") == [(1, name)]


def test_a_pattern_in_a_name_does_not_read_its_neighbours(pipeline: Pipeline):
    for name in ("*.csv", "a.csv", "b.csv"):
        pipeline.write(name, f"a\n{len(name)}\n", "x")
    assert [result.rows for result in pipeline.load_arrival("x")] == [1, 1, 1]
    assert pipeline.rows() == [(5,), (5,), (5,)]


def test_a_folder_that_looks_like_a_partition_adds_no_column(pipeline: Pipeline):
    pipeline.write("month=01/a.csv", "a\n1\n", "year=2026")
    assert [result.rows for result in pipeline.load_arrival("year=2026")] == [1]
    assert pipeline.types() == {"a": "BIGINT"}


# -- values


def test_a_text_column_keeps_texts_as_they_are(pipeline: Pipeline):
    pipeline.load("1.csv", "code\n00123\n")
    pipeline.load("2.csv", "code\n456\n1.50\n")
    assert pipeline.rows() == [("00123",), ("456",), ("1.50",)]


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("BIGINT", "3.0", 3),
        ("TIMESTAMP", "2024-01-01", datetime(2024, 1, 1)),  # noqa: DTZ001 - a column without a time zone
        ("DOUBLE", "5", 5.0),
        ("DATE", "2024-01-01 00:00:00", date(2024, 1, 1)),
    ],
)
def test_a_value_that_loses_nothing_is_cast(pipeline: Pipeline, column: str, value: str, stored: object):
    pipeline.create(f"a {column}")
    pipeline.load("1.csv", f"a\n{value}\n")
    assert pipeline.rows() == [(stored,)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("BIGINT", "1e3"),
        ("BIGINT", "foo"),
        ("DATE", "2024-01-01 05:00+02"),
        ("SMALLINT", "007"),
        ("DOUBLE", "9007199254740993"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_value_that_would_lose_something_is_rejected_and_named(
    pipeline: Pipeline, column: str, value: str, suffix: str
):
    pipeline.create(f"n BIGINT, a {column}")
    content: dict[str, str | bytes] = {
        "csv": f"n,a\n1,\n2,{value}\n",
        "json": f'[{{"n": 1}}, {{"n": 2, "a": "{value}"}}]',
        "parquet": parquet(pipeline, f"SELECT * FROM (VALUES (1, NULL), (2, '{value}')) t(n, a)"),
    }
    result = pipeline.load(f"1.{suffix}", content[suffix])
    place = "line 3" if suffix == "csv" else "row 2"
    assert (result.reason or "").startswith(f'{place}, column "a": "{value}" is not a {column}')
    assert pipeline.rows() == []


def parquet(pipeline: Pipeline, query: str) -> bytes:
    path = pipeline.folder / "made.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}'")
    return path.read_bytes()


def test_the_first_misfit_of_a_big_file_is_named_by_its_line(pipeline: Pipeline):
    pipeline.create("a BIGINT, b VARCHAR")
    rows = [f"{number},value {number}" for number in range(200_000)]
    rows[5] = '5,"three\nlines\nlong"'
    rows[150_000] = "oops,x"
    rows[190_000] = "later,x"
    result = pipeline.load("1.csv", "a,b\n" + "\n".join(rows) + "\n")
    assert result.reason == 'line 150004, column "a": "oops" is not a BIGINT'


def test_a_long_value_is_shortened_and_stays_on_one_line(pipeline: Pipeline):
    pipeline.create("a BIGINT")
    reason = pipeline.load("1.csv", f'a\n"x\n{"y" * 500}"\n').reason or ""
    assert len(reason) < 150
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("late", "type_"),
    [
        ("1.5", "DECIMAL(18,2)"),
        ("0.1234567", "DOUBLE"),
        ("foo", "VARCHAR"),
        ("00123", "VARCHAR"),
        ("12345678901234567890", "HUGEINT"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_a_new_columns_type_is_that_of_the_whole_file_when_the_sample_was_wrong(
    pipeline: Pipeline, late: str, type_: str, suffix: str
):
    if suffix == "csv":
        content = "a\n" + "1\n" * SAMPLE_ROWS + late + "\n"
    else:
        value = late if "." in late else f'"{late}"'
        type_ = type_ if "." in late else "JSON"
        content = '{"a": 1}\n' * SAMPLE_ROWS + f'{{"a": {value}}}\n'
    result = pipeline.load(f"1.{suffix}", content)
    assert (result.outcome, result.rows) == (Outcome.LOADED, SAMPLE_ROWS + 1), result
    assert pipeline.types() == {"a": type_}


def test_a_column_that_is_null_throughout_the_sample_takes_its_type_from_what_comes_later(pipeline: Pipeline):
    pipeline.load("1.csv", "a,b,c\n" + "1,,\n" * SAMPLE_ROWS + "1,2,\n")
    assert pipeline.types() == {"a": "BIGINT", "b": "BIGINT", "c": "VARCHAR"}
    assert pipeline.execute("SELECT count(b) FROM public.metrics") == [(1,)]


# -- formats


CSV_ROWS = [(1, "x"), (2, "y")]
MISPLACED_QUOTE = "line 2: a quote is opened and not closed, or closed too early, or within a value that is not quoted"
LONE_RETURN = "line 2: ends with a carriage return alone, unlike the others; expected one kind of line end"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "n,s\n1,x\n2,y\n"),
        ("a.csv", "n;s\r\n1;x\r\n2;y\r\n"),
        ("a.csv", "\ufeffn|s\n1|x\n2|y"),
        ("a.csv", '"n","s"\n"1","x"\n"2","y"\n'),
        ("a.csv", "n,s\r1,x\r2,y\r"),
        ("a.csv", "n,s\n\n1,x\n\n2,y\n\n"),
        ("a.tsv", "n\ts\n1\tx\n2\ty\n"),
        ("a.csv.gz", gzip.compress(b"n,s\n1,x\n2,y\n", mtime=0)),
        ("a.TSV.GZ", gzip.compress(b"n\ts\n1\tx\n2\ty\n", mtime=0)),
        ("a.json", '[{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]'),
        ("a.json", '{"n": 1,\n "s": "x"}\n{"n": 2,\n "s": "y"}'),
        ("a.json.gz", gzip.compress(b'[{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]', mtime=0)),
        ("a.ndjson", '{"n": 1, "s": "x"}\n\n{"s": "y", "n": 2}\n'),
        ("a.jsonl.gz", gzip.compress(b'{"n": 1, "s": "x"}\n{"n": 2, "s": "y"}', mtime=0)),
    ],
)
def test_every_format_gives_the_same_rows(pipeline: Pipeline, name: str, content: str | bytes):
    result = pipeline.load(name, content)
    assert result.reason is None
    assert pipeline.rows() == CSV_ROWS
    assert pipeline.types() == {"n": "BIGINT", "s": "VARCHAR"}


def test_quotes_hold_delimiters_quotes_and_line_ends(pipeline: Pipeline):
    pipeline.load("a.csv", 'a,b\n"x,y","q ""z"""\n"two\nlines",\n')
    assert pipeline.rows() == [("x,y", 'q "z"'), ("two\nlines", None)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "a,b\n1,2\n1,2,3\n", "line 3: expected 2 columns, got 3"),
        ("a.csv", "a,b\n1,2\n1\n", "line 3: expected 2 columns, got 1"),
        ("a.csv", 'a,b\n1,"x\n2,y\n', MISPLACED_QUOTE),
        ("a.csv", 'a,b\n1,"x"y\n', MISPLACED_QUOTE),
        ("a.csv", b"a,b\n1,\xe9\n", "line 2: not UTF-8 text; save the file as UTF-8"),
        (
            "a.csv",
            "a,b\n1,2\n".encode("utf-16-le"),
            "expected CSV text, as its name says, got text in UTF-16; save it as UTF-8",
        ),
        ("a.csv", "a,b\n1,2\r3,4\n", LONE_RETURN),
        ("a.csv.gz", b"a,b\n1,2\n", "not a gzip file, though its name ends in .gz"),
        ("a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9, mtime=0)[:-9], None),
        (
            "a.ndjson",
            '{"a": 1}\n{"a": 2\n{"a": 3}\n',
            'line 2, column 8: expected "," or "}", and the text ends; it was cut short',
        ),
        ("a.json", '[{"a": 1}, {"a": x}]', "line 1, column 18: expected a value, got 'x'"),
        ("a.json", "[1, 2]", "line 1, column 2: expected an object, one for each row, got a number"),
        ("a.json", '[{"a": 1}, 2]', "line 1, column 12: expected an object, one for each row, got a number"),
        ("a.json", '[{"": 1}]', "line 1, column 2: a field with an empty name; give it one"),
        ("a.json", '[{"a": 1, "a": 2}]', 'line 1, column 11: the field "a" is there more than once'),
        ("a.parquet", b"PAR1" + b"x" * 50 + b"PAR1", None),
    ],
)
def test_a_file_that_cannot_be_parsed_is_rejected_in_one_line_without_its_path(
    pipeline: Pipeline, name: str, content: str | bytes, reason: str | None
):
    result = pipeline.load(name, content)
    assert result.outcome is Outcome.REJECTED
    assert result.reason
    assert reason in {None, result.reason}
    assert str(pipeline.folder) not in result.reason
    assert "\n" not in result.reason
    assert len(result.reason) <= 300


def test_a_ragged_line_is_found_wherever_it_is(pipeline: Pipeline):
    lines = [f"{number},x" for number in range(300_000)]
    lines[250_000] += ",surplus"
    result = pipeline.load("a.csv", "a,b\n" + "\n".join(lines))
    assert result.reason == "line 250002: expected 2 columns, got 3"


def test_nested_json_becomes_a_json_column(pipeline: Pipeline):
    pipeline.load("a.json", '[{"o": {"x": 1}, "l": [1, 2], "m": 1}, {"o": null, "l": [], "m": "text"}]')
    assert pipeline.types() == {"o": "JSON", "l": "JSON", "m": "JSON"}
    assert pipeline.rows() == [('{"x":1}', "[1,2]", "1"), (None, "[]", '"text"')]


def test_json_values_of_later_files_go_into_json_and_text_columns(pipeline: Pipeline):
    pipeline.create("j JSON, t VARCHAR")
    pipeline.load("a.json", '[{"j": "text", "t": {"x": 1}}, {"j": 5, "t": "plain"}]')
    assert pipeline.rows() == [('"text"', '{"x":1}'), ("5", "plain")]


def test_a_key_that_comes_late_in_a_json_file_is_not_lost(pipeline: Pipeline):
    pipeline.load("a.ndjson", '{"a": 1}\n' * (2 * SAMPLE_ROWS) + '{"b": 2}\n')
    found = pipeline.execute("SELECT count(*), sum(a), sum(b) FROM public.metrics")
    assert found == [(2 * SAMPLE_ROWS + 1, 2 * SAMPLE_ROWS, 2)]


def test_json_texts_stay_texts_and_json_dates_become_dates(pipeline: Pipeline):
    pipeline.load("a.json", '[{"s": "5", "d": "2026-01-05", "b": true, "z": null}]')
    assert pipeline.types() == {"s": "VARCHAR", "d": "DATE", "b": "BOOLEAN", "z": "VARCHAR"}


def test_parquet_columns_keep_their_types_and_nested_ones_become_json(pipeline: Pipeline):
    content = parquet(
        pipeline,
        "SELECT 1::SMALLINT AS n, 1.50::DECIMAL(9,2) AS d, [1, 2] AS l, {'x': 1} AS s,"
        " 'a'::ENUM ('a', 'b') AS e, TIMESTAMPTZ '2026-01-05 00:00+00' AS t",
    )
    assert pipeline.load("a.parquet", content).reason is None
    assert pipeline.types() == {
        "n": "SMALLINT", "d": "DECIMAL(9,2)", "l": "JSON", "s": "JSON", "e": "VARCHAR", "t": "TIMESTAMP WITH TIME ZONE",
    }  # fmt: skip
    assert pipeline.rows("l, s, e") == [("[1,2]", '{"x":1}', "a")]


# -- in batches, as an http source


@pytest.mark.parametrize("batch_size", [1, 2, 3, 1000])
def test_batches_give_the_same_rows_in_the_same_order(pipeline: Pipeline, batch_size: int):
    result = pipeline.load("a.ndjson", "".join(f'{{"a": {number}}}\n' for number in range(7)), batch_size)
    assert result.rows == 7
    assert pipeline.rows() == [(number,) for number in range(7)]


def test_all_batches_of_a_source_are_one_transaction(pipeline: Pipeline):
    pipeline.create("a BIGINT CHECK (a < 5)")
    result = pipeline.load("a.csv", "a\n" + "\n".join(map(str, range(7))) + "\n", 2)
    assert result.outcome is Outcome.REJECTED
    assert pipeline.rows() == []
