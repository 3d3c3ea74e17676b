"""Files that are read by the rules of a format."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from flows.loading.file_result import Outcome
from tests.flows.rules_loading import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


BANK = """Kontoauszug
Konto;DE00

IBAN;Betrag;Buchungstag;Text
DE1;1.234,50;05.01.2024;Müller "Co"
DE2;-7,00;31.12.2023;-
Summe;1.227,50;;
"""


def test_a_bank_statement_with_title_lines_and_a_footer_is_loaded_in_its_own_form(rig: Rig) -> None:
    rules = {
        "format": {
            "encoding": "cp1252",
            "delimiter": ";",
            "quote": "",
            "header": 4,
            "footer": 1,
            "decimal": ",",
            "thousands": ".",
            "dates": "%d.%m.%Y",
            "nulls": ["-"],
        },
    }
    [result] = rig.load(rules, {"a.csv": BANK.encode("cp1252")})
    assert (result.outcome, result.reason) == (Outcome.LOADED, None)
    assert rig.rows() == [
        ("DE1", Decimal("1234.50"), date(2024, 1, 5), 'Müller "Co"'),
        ("DE2", Decimal("-7.00"), date(2023, 12, 31), None),
    ]


def test_a_value_that_does_not_fit_is_named_with_its_line_and_as_the_file_has_it(rig: Rig) -> None:
    rules = {"format": {"delimiter": ";", "decimal": ",", "header": 2}, "columns": {"b": "decimal(18,2)"}}
    [result] = rig.load(rules, {"a.csv": "title\na;b\n1;1,5\n2;x1\n"})
    assert result.reason == 'line 4, column "b": "x1" is not a DECIMAL(18,2)'
    [result] = rig.load(rules, {"a.csv": "title\na;b\n1;1.5\n"})
    assert result.reason is not None
    assert result.reason.startswith('line 3, column "b": "1.5" is not a DECIMAL(18,2)')


def test_utf_16_is_read_by_its_mark_without_being_asked(rig: Rig) -> None:
    for encoding in ("utf-16", "utf-32"):
        [result] = rig.load({}, {"a.csv": "id,name\n1,Zoë\n".encode(encoding)})
        assert (result.outcome, result.reason) == (Outcome.LOADED, None)
    assert rig.rows() == [(1, "Zoë")] * 2


def test_a_delimiter_of_several_characters_and_one_within_quotes(rig: Rig) -> None:
    [result] = rig.load({"format": {"delimiter": "||"}}, {"a.csv": 'a||b\n1||"x||y"\n2||z\n'})
    assert (result.reason, rig.rows()) == (None, [(1, "x||y"), (2, "z")])


def test_fixed_width(rig: Rig) -> None:
    rules = {"format": {"type": "fixed_width", "fields": {"id": 4, "name": 6, "amount": [11, 16]}, "footer": 1}}
    [result] = rig.load(rules, {"a.dat": "0001Anna    1.50\n0002Bert   10.25\nTOTAL   2\n"})
    assert (result.reason, rig.rows()) == (
        None,
        [("0001", "Anna", Decimal("1.50")), ("0002", "Bert", Decimal("10.25"))],
    )


def test_columns_from_the_name_and_several_tables(rig: Rig) -> None:
    rules = {
        "tables": {"orders_*.csv": "warehouse.shop.orders", "customers_*": "warehouse.shop.customers"},
        "columns_from_name": "*_{day:date}_{region}.csv",
    }
    results = rig.load(
        rules, {"orders_2024-01-05_north.csv": "id\n1\n", "customers_2024-01-06_south.csv": "c\nx\n", "b.csv": "z\n1\n"}
    )
    assert {one.file: one.outcome.value for one in results} == {
        "orders_2024-01-05_north.csv": "loaded",
        "customers_2024-01-06_south.csv": "loaded",
        "b.csv": "rejected",
    }
    assert rig.rows("SELECT id, day, region FROM shop.orders") == [(1, date(2024, 1, 5), "north")]
    assert rig.rows("SELECT c, day, region FROM shop.customers") == [("x", date(2024, 1, 6), "south")]


def test_without_a_header_the_names_are_those_of_the_table_by_position(rig: Rig) -> None:
    rules = {"format": {"header": "none"}}
    [first] = rig.load(rules, {"a.csv": "1,x\n"})
    assert first.reason == (
        "the file has no column names, and there is no warehouse.public.t to take them from; set `names`"
    )
    rig.load({"format": {"header": "none", "names": ["id", "name"]}}, {"a.csv": "1,x\n"})
    [second] = rig.load(rules, {"b.csv": "2,y\n3,z\n"})
    assert (second.reason, rig.rows()) == (None, [(1, "x"), (2, "y"), (3, "z")])
    [third] = rig.load(rules, {"c.csv": "2,y,9\n"})
    assert third.reason is not None
    assert third.reason.startswith("expected 2 columns, as warehouse.public.t has, got 3")


def test_a_row_with_a_value_too_many_rejects_the_file_or_is_put_aside(rig: Rig) -> None:
    content = "a,b\n1,x\n2,y,z\n3,w\n"
    [result] = rig.load({"format": {}}, {"a.csv": content})
    assert result.reason == "line 3: expected 2 columns, got 3"


def test_dates_times_and_words_for_true(rig: Rig) -> None:
    rules = {
        "format": {"timestamps": "%m/%d/%Y %I:%M %p", "dates": ["%m/%d/%Y"], "trues": "J", "falses": "N"},
    }
    [result] = rig.load(rules, {"a.csv": "t,d,f\n12/31/2023 01:05 PM,01/02/2024,J\n01/01/2024 12:00 AM,02/29/2024,N\n"})
    assert result.reason is None
    assert rig.rows() == [
        (datetime.fromisoformat("2023-12-31 13:05"), date(2024, 1, 2), True),
        (datetime.fromisoformat("2024-01-01"), date(2024, 2, 29), False),
    ]


def test_empty_texts_in_quotes_are_not_missing(rig: Rig) -> None:
    [result] = rig.load({"format": {"delimiter": ";"}}, {"a.csv": 'a;b;c\n"";x;1\n;"";2\n"a;""b";y;3\n'})
    assert (result.reason, rig.rows()) == (None, [("", "x", 1), (None, "", 2), ('a;"b', "y", 3)])
