"""The parameters of a run are validated, all at once."""

import pytest

from flows.errors import PermanentError, TemporaryError
from flows.extract_config import extract_config

GOOD = {
    "source_url": "file:///data/orders.csv",
    "target_table": "warehouse.public.metrics",
    "batch_size": 500,
    "arrival_id": None,
    "reload": None,
}


@pytest.mark.parametrize(
    "changed",
    [
        {"source_url": "http://host/x"},
        {"source_url": "HTTPS://host:8080/x?q=1"},
        {"source_url": "file://localhost/x.csv"},
        {"target_table": "_w.Public.T_1"},
        {"batch_size": 1},
        {"arrival_id": "20261124-metrics-0001"},
        {"arrival_id": "a" * 100},
        {"arrival_id": "a", "reload": ["*"]},
        {"arrival_id": "a", "reload": ["north/orders.csv", "*.csv"]},
        {"arrival_id": "a", "reload": []},
    ],
)
def test_good_parameters_are_taken(changed: dict[str, object]):
    assert extract_config(**(GOOD | changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"source_url": "file://data/x.csv"}, "source_url: expected file:///absolute/path"),
        ({"source_url": "file:///x?.csv"}, "write %3F"),
        ({"source_url": "http:///x"}, "source_url: expected http(s)://host/path"),
        ({"source_url": "http://host:x/"}, "source_url: expected a URL"),
        ({"target_table": "metrics"}, "target_table: expected catalog.schema.table"),
        ({"target_table": "a.b.c; DROP TABLE d"}, "target_table: expected catalog.schema.table"),
        ({"target_table": 'a.b."c"'}, "target_table: expected catalog.schema.table"),
        ({"target_table": "a.b.c\n"}, "target_table: expected catalog.schema.table"),
        ({"target_table": "a.b.1c"}, "target_table: expected catalog.schema.table"),
        ({"target_table": "system.b.c"}, "target_table: DuckDB keeps the catalog name system"),
        ({"target_table": "a.b._loads"}, "target_table: the table _loads is where load keys are kept"),
        ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1"),
        ({"arrival_id": ""}, "arrival_id: expected at most 100"),
        ({"arrival_id": "../x"}, "arrival_id: expected at most 100"),
        ({"arrival_id": "a" * 101}, "arrival_id: expected at most 100"),
        ({"reload": ["*"]}, "reload: expected an arrival_id with it"),
        ({"reload": ["a.csv", ""], "arrival_id": "a"}, "reload: expected the names of files, or *, got an empty name"),
        ({"reload": "*", "arrival_id": "a"}, "reload: Input should be a valid list"),
        ({"reload": ["a.csv", 1], "arrival_id": "a"}, "reload: Input should be a valid string"),
    ],
)
def test_a_bad_parameter_is_permanent_and_says_what_was_expected(changed: dict[str, object], said: str):
    with pytest.raises(PermanentError) as caught:
        extract_config(**(GOOD | changed))
    assert said in str(caught.value)


def test_an_unknown_scheme_alone_is_worth_trying_again():
    with pytest.raises(TemporaryError, match=r"source_url: expected http://, https:// or file://, got invalid://url"):
        extract_config(**(GOOD | {"source_url": "invalid://url"}))


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(PermanentError) as caught:
        extract_config("invalid://url", "nowhere", 0, "A B", [""])
    for name in ("source_url", "target_table", "batch_size", "arrival_id", "reload"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "url", ["invalid://me:zz@url", "http://me:zz@:99999/x", "http://me:a/zz@host/", "file://zz@h/"]
)
def test_no_message_holds_credentials(url: str):
    with pytest.raises((PermanentError, TemporaryError)) as caught:
        extract_config(**(GOOD | {"source_url": url}))
    assert "zz" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_configuration_does_not_show_its_source_when_it_is_logged():
    assert "zz" not in repr(extract_config(**(GOOD | {"source_url": "http://me:zz@host/x"})))


def test_names_of_tables_make_no_difference_between_upper_and_lower_case():
    upper = extract_config(**(GOOD | {"target_table": "Warehouse.PUBLIC.Metrics"}))
    assert upper.table == extract_config(**GOOD).table
