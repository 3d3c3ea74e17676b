"""References by name in an automation's file."""

from typing import Any
from uuid import UUID

import pytest

from automations.applying.references import Catalogue, Kind, find_references, malformed_references
from automations.applying.resolving import resolve

DAILY = UUID(int=1)
ALERTS = UUID(int=2)
CATALOGUE: Catalogue = {
    Kind.DEPLOYMENT: {"Load/daily": DAILY, "Load/hourly": UUID(int=3)},
    Kind.BLOCK: {"apprise-alerts/alerts": ALERTS},
}


def document(*actions: Any, **more: Any) -> dict[str, Any]:
    return {"name": "one", "actions": list(actions), **more}


def test_each_name_becomes_the_id_that_it_has_on_this_server() -> None:
    resolved = resolve(
        document(
            {"type": "run-deployment", "deployment": "Load/daily"},
            {"type": "send-notification", "block": "apprise-alerts/alerts", "body": "x"},
        ),
        CATALOGUE,
    )
    assert resolved["actions"] == [
        {"type": "run-deployment", "deployment_id": str(DAILY)},
        {"type": "send-notification", "block_document_id": str(ALERTS), "body": "x"},
    ]


@pytest.mark.parametrize("key", ["actions", "actions_on_trigger", "actions_on_resolve"])
def test_names_are_found_in_every_list_of_actions(key: str) -> None:
    [reference] = find_references({"name": "one", key: [{"deployment": "Load/daily"}]})
    assert reference.field == f"{key}[0].deployment"


def test_what_holds_no_reference_passes_untouched() -> None:
    untouched = document({"type": "run-deployment", "deployment_id": str(DAILY), "parameters": {"block": 1}}, "odd")
    assert resolve(untouched, CATALOGUE) == untouched
    assert find_references(untouched) == []


def test_the_document_that_was_given_is_not_changed() -> None:
    given = document({"deployment": "Load/daily"})
    resolve(given, CATALOGUE)
    assert given == document({"deployment": "Load/daily"})


def test_a_misspelt_name_is_told_the_nearest_one_there_is() -> None:
    [reference] = find_references(document({"deployment": "Load/dayly"}))
    assert reference.problem(CATALOGUE) == "the server has no deployment 'Load/dayly'; did you mean 'Load/daily'?"


def test_a_name_like_no_other_is_told_all_there_are() -> None:
    [reference] = find_references(document({"deployment": "Quux/x"}))
    assert "there is 'Load/daily', 'Load/hourly'" in str(reference.problem(CATALOGUE))


@pytest.mark.parametrize("name", ["daily", "/daily", "Load/", 7, None, ["Load/daily"]])
def test_what_is_no_name_is_told_how_one_is_written(name: Any) -> None:
    [(field, message)] = malformed_references(document({"deployment": name}))
    assert field.startswith("actions[0].deployment")
    assert message.startswith("expected 'flow name/deployment name', got ")


def test_a_name_and_an_id_together_are_refused() -> None:
    both = document({"block": "apprise-alerts/alerts", "block_document_id": str(ALERTS)})
    [(_, message)] = malformed_references(both)
    assert "not both" in message
