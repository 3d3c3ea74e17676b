"""Checks of an inbox's rules on rows: the first row that breaks one is named, in both warehouses."""

import itertools
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.loading.file_result import FileResult, Outcome
from flows.loading.row_checks import row_checks
from flows.readers.column_types import Conversion
from flows.rules import LoadRules
from tests.flows.rules_loading import Rig
from tests.postgres import PostgresServer

_number = itertools.count()


@pytest.fixture(params=["duckdb", "postgres"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    url = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create(f"checks_{next(_number)}")
    return Rig(tmp_path, url)


def _one(rig: Rig, rules: dict[str, Any], content: str) -> FileResult:
    [result] = rig.load(rules, {"a.csv": content})
    return result


@pytest.mark.parametrize(
    ("rule", "content", "reason"),
    [
        ({"min": 0}, "a\n5\n-5\n-6\n", 'line 3, column "a": -5 is below 0, the least that the inbox\'s rules take'),
        (
            {"max": 2.5},
            "a\n2.5\n2.51\n",
            'line 3, column "a": 2.51 is above 2.5, the most that the inbox\'s rules take',
        ),
        ({"required": True}, "b,a\n1,x\n2,\n", 'line 3, column "a": no value, and the inbox\'s rules require one'),
        ({"required": True}, "b,a\n1,1\n2,\n", 'line 3, column "a": no value, and the inbox\'s rules require one'),
        (
            {"pattern": "[A-Z]{2}\\d+"},
            'a\nDE1\n"it\'s"\n',
            'line 3, column "a": "it\'s" does not match the pattern [A-Z]{2}\\d+ of the inbox\'s rules',
        ),
        (
            {"unique": True},
            "a\nx\n\ny\nx\n",
            'line 5, column "a": x is in line 2 as well, and the inbox\'s rules take each value once',
        ),
        (
            {"min": "2024-01-01", "type": "date"},
            "a\n2024-01-01\n2023-12-31\n",
            'line 3, column "a": 2023-12-31 is below 2024-01-01, the least that the inbox\'s rules take',
        ),
        (
            {"max": "2024-01-01", "type": "timestamp"},
            "a\n2024-01-01 23:59:59\n2024-01-02 00:00:00\n",
            'line 3, column "a": 2024-01-02 00:00:00 is above 2024-01-01, the most that the inbox\'s rules take',
        ),
        (
            {"min": 0},
            "a\nx\n",
            'column "a": the inbox\'s rules compare it with the number 0, and its type is VARCHAR; give the column a'
            " type in the rules, or leave the bound out",
        ),
        ({"min": 0, "type": "bigint"}, "a\n-1\nx\n", 'line 3, column "a": "x" is not a BIGINT'),
        ({"required": True}, "b\n1\n", 'column "a" is not in the file, and the inbox\'s rules require it'),
    ],
)
def test_the_first_row_that_breaks_a_rule_is_named(rig: Rig, rule: dict[str, Any], content: str, reason: str) -> None:
    result = _one(rig, {"columns": {"a": rule}}, content.replace("b,a", "b,A"))
    assert (result.reason or "").replace('"A"', '"a"') == reason


def test_rows_that_keep_all_rules_are_loaded(rig: Rig) -> None:
    rules = {
        "columns": {
            "id": {"type": "bigint", "required": True, "unique": True, "min": 1},
            "code": {"pattern": "[a-z]+"},
            "on": {"type": "date", "min": "2024-01-01", "max": "2024-12-31"},
            "not_there": {"min": 0, "pattern": "x"},
        },
        "rows": [1, 3],
    }
    assert _one(rig, rules, "id,code,on\n1,a,2024-01-01\n2,,\n3,b,2024-12-31\n").reason is None
    assert _one(rig, rules, "id,code,on\n").reason == "the file has 0 rows, and the inbox's rules take 1 to 3"
    result = _one(rig, rules, "id\n1\n2\n3\n4\n")
    assert result.reason == "the file has 4 rows, and the inbox's rules take 1 to 3"


def test_a_rejected_file_harms_no_other_and_many_small_files_are_held_to_the_rules(rig: Rig) -> None:
    files = {f"{at:02}.csv": "a\n1\n" + ("2\n" if at == 5 else "") for at in range(12)}
    rig.load({}, {"first.csv": "a\n1\n"})
    results = rig.load({"rows": [1, 1]}, files)
    assert [result.file for result in results if result.outcome is Outcome.REJECTED] == ["05.csv"]
    results = rig.load({"columns": {"a": {"max": 1}}}, files)
    assert [result.file for result in results if result.outcome is Outcome.REJECTED] == ["05.csv"]


def test_a_violation_in_a_big_file_is_named_by_its_line(tmp_path: Path) -> None:
    rows = [f"{at},{'x' * 30}\n" for at in range(1_000_000)]
    rows[600_000] = "-1,x\n"
    rows[900_000] = "-2,x\n"
    result = _one(Rig(tmp_path), {"columns": {"a": {"min": 0}}}, "a,b\n" + "".join(rows))
    assert result.reason == 'line 600002, column "a": -1 is below 0, the least that the inbox\'s rules take'


_WHOLE = st.integers(-(2**70), 2**70)
_FRACTION = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["SMALLINT", "BIGINT", "HUGEINT", "UBIGINT", "DECIMAL(18,2)", "DECIMAL(38,0)", "DECIMAL(38,20)"]),
    st.one_of(st.integers(-5, 5).map(Decimal), _WHOLE.map(Decimal), _FRACTION),
    st.one_of(st.integers(-5, 5).map(Decimal), _WHOLE.map(Decimal), _FRACTION),
)
def test_numbers_are_compared_exactly_in_every_type(type_: str, bound: Decimal, value: Decimal) -> None:
    with duckdb.connect() as connection:
        kept = connection.execute(f"SELECT TRY_CAST('{value:f}' AS {type_})").fetchall()[0][0]
        if kept is None:
            return
        for name, is_broken in (("min", Decimal(kept) < bound), ("max", Decimal(kept) > bound)):
            rules = LoadRules.model_validate({"columns": {"a": {name: bound}}})
            [(condition, _)] = row_checks(rules, [Conversion("a", "VARCHAR", type_)])
            found = connection.execute(f"SELECT {condition} FROM (SELECT CAST('{kept}' AS {type_}) AS value0)")
            assert found.fetchall() == [(is_broken,)]


_MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda one: one.replace(microsecond=0))  # noqa: DTZ001


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"]),
    st.one_of(st.dates(date(1900, 1, 1), date(2100, 1, 1)), _MOMENTS),
    st.integers(-2, 2),
    st.integers(-1, 1),
)
def test_dates_and_times_are_compared_exactly(type_: str, bound: date, days: int, seconds: int) -> None:
    is_date = not isinstance(bound, datetime)
    at = datetime(bound.year, bound.month, bound.day) if is_date else bound  # noqa: DTZ001
    value = at + timedelta(days=days, seconds=seconds)
    if type_ == "DATE":
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001
    last = at + timedelta(days=1) - timedelta(microseconds=1) if is_date else at
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, is_broken in (("min", value < at), ("max", value > last)):
            rules = LoadRules.model_validate({"columns": {"a": {name: bound}}})
            [(condition, _)] = row_checks(rules, [Conversion("a", "VARCHAR", type_)])
            query = f"SELECT {condition} FROM (SELECT CAST(TIMESTAMP '{value}' AS {type_}) AS value0)"
            assert connection.execute(query).fetchall() == [(is_broken,)], query


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"pattern": "("}, "pattern: "),
        ({"pattern": "(?=a)"}, "RE2 has no (?="),
        ({"pattern": "(a)\\1"}, "RE2 has no \\1"),
        ({"min": "many"}, "expected a number, a date or a time"),
        ({"min": 0, "type": "date"}, "min: expected a date, as the type is DATE, got 0"),
        ({"max": "2024-01-01", "type": "bigint"}, "max: expected a number, as the type is BIGINT"),
        ({"min": 0, "type": "text"}, "min: a VARCHAR has no bounds"),
        ({"min": 2, "max": 1}, "min is greater than max"),
        ({"min": 2, "max": "2024-01-01"}, "expected two numbers or two dates"),
        ({"min": "nan"}, "expected a number"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_mistake(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as raised:
        LoadRules.model_validate({"columns": {"a": rule}})
    assert why in raised.value.errors()[0]["msg"]
    with pytest.raises(ValidationError, match="the least, then the most"):
        LoadRules.model_validate({"rows": [3, 2]})
