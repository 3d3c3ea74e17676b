"""Records at a path in a JSON document."""

from pathlib import Path

import pytest

from flows.rules import mistakes_in, rules_of
from tests.flows.rules_loading import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def at(path: str) -> dict[str, object]:
    return {"format": {"type": "json", "records": path}}


DOCUMENT = (
    '{"meta": {"items": [1]}, "data": {"items": [{"id": 1, "n": "x"}, {"id": 2}], "other": [{"id": 9}]}, "next": null}'
)


def test_the_records_are_those_of_the_list_at_the_path(rig: Rig) -> None:
    [result] = rig.load(at("data.items"), {"a.json": DOCUMENT})
    assert (result.reason, rig.rows()) == (None, [(1, "x"), (2, None)])
    [result] = rig.load(at("data.other"), {"b.json": DOCUMENT})
    assert (result.reason, rig.rows()) == (None, [(1, "x"), (2, None), (9, None)])


def test_an_empty_list_has_no_rows(rig: Rig) -> None:
    [result] = rig.load(at("data.items"), {"a.json": '{"data": {"items": []}}'})
    assert result.reason is None


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("data.rows", DOCUMENT, 'expected "rows" in "data", as `records` says; it has items, other'),
        ("items", DOCUMENT, 'expected "items" in the document, as `records` says; it has meta, data, next'),
        ("a", "{}", 'expected "a" in the document, as `records` says; it is empty'),
        ("data", DOCUMENT, "line 1, column 34: expected a list at \"data\", as `records` says, got '{'"),
        ("next.a", DOCUMENT, None),
        ("a", "[]", "line 1, column 1: expected an object with \"a\" at the document, as `records` says, got '['"),
        ("a", '{"a": [{"b": 1}]', None),
        ("a", '{"a": [1]}', None),
    ],
)
def test_a_path_that_leads_nowhere_is_rejected_with_what_is_there(
    rig: Rig, path: str, content: str, reason: str | None
) -> None:
    [result] = rig.load(at(path), {"a.json": content})
    assert result.reason is not None
    assert reason is None or result.reason == reason


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ({"type": "ndjson", "records": "a"}, "records: ndjson has a record on each line; leave it out, or use json"),
        ({"type": "json", "records": "a..b"}, "records: expected names with dots between them, such as data.items"),
        ({"type": "xml", "records": "a//b"}, "records: expected names with / between them, such as orders/order"),
    ],
)
def test_a_mistake_in_the_path_is_found_in_the_rules(format_: dict[str, str], message: str) -> None:
    with pytest.raises(Exception, match="1 validation error") as raised:
        rules_of({"format": format_})
    assert [one.message for one in mistakes_in(raised.value)] == [message]  # pyright: ignore[reportArgumentType]
