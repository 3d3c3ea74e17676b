"""Checking a document against Prefect's own automation schema."""

from typing import Any
from uuid import UUID

import pytest

from automations.as_code import files
from automations.as_code.references import Kind


def document(trigger: Any = None, actions: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "trigger": {"type": "event", "expect": ["a.b"]} if trigger is None else trigger,
        "actions": [{"type": "do-nothing"}] if actions is None else actions,
        **more,
    }


def reported(given: dict[str, Any]) -> list[str]:
    return [f"{field}: {message}" for field, message in files.check(given)]


def test_a_document_in_prefects_schema_has_no_problems() -> None:
    assert reported(document()) == []


def test_a_reference_stands_for_its_id() -> None:
    given = document(actions=[{"type": "run-deployment", "deployment": "Load/daily"}])
    assert reported(given) == []
    automation = files.automation(given, {Kind.DEPLOYMENT: {"Load/daily": UUID(int=7)}, Kind.BLOCK: {}})
    assert automation.actions[0].model_dump()["deployment_id"] == UUID(int=7)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (document(threshhold=1), "threshhold: Prefect knows no such field here; there is "),
        (document({"expect": ["a"], "threshhold": 2}), "trigger.threshhold: Prefect knows no such field here; did you"),
        (document({"expect": ["a"], "threshold": "two"}), "trigger.threshold: Input should be a valid integer"),
        (document({"type": "evnt"}), "trigger: Input tag 'evnt'"),
        (
            document({"require": "all", "triggers": [{"expect": ["a"]}, {"expect": ["b"], "within": "x"}]}),
            "trigger.triggers[1].within: Input should be a valid timedelta",
        ),
        (
            document(actions=[{"type": "send-notification", "block": "a/b"}]),
            "actions[0].body: Field required",
        ),
        (
            document(actions=[{"type": "do-nothing"}, {"type": "run-deploymnt"}]),
            "actions[1].type: expected a kind of action, got 'run-deploymnt'; did you mean 'run-deployment'?",
        ),
        (document(actions=[{"type": "run-deployment"}]), "actions[0]: deployment_id is required"),
        (document(actions=["do-nothing"]), "actions[0].type: expected a kind of action, got None"),
        (document(actions="do-nothing"), "actions: Input should be a valid list"),
        ({"name": "one", "trigger": {"expect": ["a"]}}, "actions: Field required"),
        (
            document(actions=[{"type": "send-notification", "block": "a/b", "body": "Run {{ run.name "}]),
            "actions[0].body: not a valid template: ",
        ),
    ],
)
def test_a_mistake_is_reported_once_with_its_field(given: dict[str, Any], expected: str) -> None:
    [problem] = reported(given)
    assert problem.startswith(expected)


def test_all_mistakes_are_reported_together() -> None:
    given = document({"expect": ["a"], "threshold": "two"}, [{"type": "wait"}, {"type": "send-notification"}])
    assert [problem.split(": ")[0] for problem in reported(given)] == [
        "trigger.threshold",
        "actions[0].type",
        "actions[1].block_document_id",
        "actions[1].body",
    ]


def test_what_prefect_prints_of_an_automation_can_be_a_file() -> None:
    printed = files.automation(document(match={}), {kind: {} for kind in Kind}).model_dump(mode="json")
    assert reported(printed) == []
