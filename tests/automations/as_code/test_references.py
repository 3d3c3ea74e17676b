"""References by name in an automation's file."""

from typing import Any
from uuid import UUID

import pytest

from automations.as_code.files import check
from automations.as_code.references import Catalogue, Kind, by_name, find_references, malformed_references, resolve

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


def test_a_misspelt_name_is_reported_with_the_nearest_one_there_is() -> None:
    [reference] = find_references(document({"deployment": "Load/dayly"}))
    assert reference.problem(CATALOGUE) == "the server has no deployment 'Load/dayly'; did you mean 'Load/daily'?"


def test_a_name_like_no_other_is_reported_with_all_there_are() -> None:
    [reference] = find_references(document({"deployment": "Quux/x"}))
    assert "there is 'Load/daily', 'Load/hourly'" in str(reference.problem(CATALOGUE))


@pytest.mark.parametrize("name", ["daily", "/daily", "Load/", 7, None, ["Load/daily"]])
def test_what_is_no_name_is_reported_with_how_one_is_written(name: Any) -> None:
    [(field, message)] = malformed_references(document({"deployment": name}))
    assert field.startswith("actions[0].deployment")
    assert message.startswith("expected 'flow name/deployment name', got ")


def test_names_in_the_labels_of_a_trigger_become_the_ids_of_resources() -> None:
    trigger = {
        "type": "compound",
        "triggers": [
            {"match": {"deployment": "Load/daily", "x": "y"}, "match_related": {"flow": ["Load", "Load"]}},
            {"type": "sequence", "triggers": [{"match_related": [{"work_pool": "pool"}, {"x": "y"}]}]},
        ],
    }
    catalogue = {**CATALOGUE, Kind.FLOW: {"Load": UUID(int=7)}, Kind.WORK_POOL: {"pool": UUID(int=8)}}
    written = {"name": "one", "trigger": trigger}
    resolved = resolve(written, catalogue)
    first, second = resolved["trigger"]["triggers"]
    load = f"prefect.flow.{UUID(int=7)}"
    assert first["match"] == {"x": "y", "prefect.resource.id": f"prefect.deployment.{DAILY}"}
    assert first["match_related"] == {"prefect.resource.id": [load, load]}
    assert second["triggers"][0]["match_related"] == [
        {"prefect.resource.id": f"prefect.work-pool.{UUID(int=8)}"},
        {"x": "y"},
    ]
    assert by_name(resolved, catalogue) == written
    assert [reference.field for reference in find_references(written)] == [
        "trigger.triggers[0].match.deployment",
        "trigger.triggers[0].match_related.flow[0]",
        "trigger.triggers[0].match_related.flow[1]",
        "trigger.triggers[1].triggers[0].match_related[0].work_pool",
    ]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.id_field])
def test_every_kind_stands_for_an_id_in_an_action_and_back(kind: Kind) -> None:
    name = "a/b" if "/" in kind.form else "a"
    catalogue = {kind: {name: DAILY}}
    resolved = resolve(document({kind: name}), catalogue)
    assert resolved["actions"] == [{kind.id_field: str(DAILY)}]
    assert by_name(resolved, catalogue)["actions"] == [{kind: name}]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"deployment": "Load/daily", "flow": "Load"}, "give either flow or deployment, not both"),
        ({"flow": "Load", "prefect.resource.id": "x"}, "give either flow or prefect.resource.id, not both"),
        ({"flow": 7}, "expected 'flow name', got 7"),
        ({"work_queue": ["pool/queue", "queue"]}, "expected 'work pool name/work queue name', got 'queue'"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(labels: dict[str, Any], message: str) -> None:
    [(_, reported)] = malformed_references({"name": "one", "trigger": {"match": labels}})
    assert reported == message


def test_where_there_is_no_deployment_at_all_the_way_to_make_them_is_reported() -> None:
    [reference] = find_references(document({"deployment": "Load/daily"}))
    assert str(reference.problem({})).endswith("`just deploy` puts those of prefect.yaml there")


def test_a_name_and_an_id_together_are_refused() -> None:
    both = document({"block": "apprise-alerts/alerts", "block_document_id": str(ALERTS)})
    [(_, message)] = malformed_references(both)
    assert "not both" in message


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"alert": "low"}, "", "expected a mapping, {} at least, got 'low'"),
        ({"alert": {"kynd": "low"}}, ".kynd", "an alert has no such field; did you mean 'kind'?"),
        ({"alert": {"tags": ["a"]}}, ".tags", "expected a text"),
        ({"alert": {}, "block": "slack/x"}, "", "only blocks of the type apprise-alerts read it"),
        ({"alert": {}, "body": "a\nbell: {}"}, "", "the body has a line 'bell:' of its own; give either that or alert"),
    ],
)
def test_what_is_wrong_with_the_metadata_of_an_alert_is_reported_with_its_field(
    given: dict[str, Any], field: str, message: str
) -> None:
    action = {"type": "send-notification", "block": "apprise-alerts/alerts", "body": "x", **given}
    assert malformed_references(document(action)) == [(f"actions[0].alert{field}", message)]


def test_an_alert_of_an_action_that_sends_nothing_is_unknown_to_prefect_and_its_templates_are_checked() -> None:
    other = check({"name": "a", "trigger": {"expect": ["b"]}, "actions": [{"type": "do-nothing", "alert": {}}]})
    assert [field for field, _ in other] == ["actions[0].alert"]
    send = {"type": "send-notification", "block": "apprise-alerts/alerts", "body": "x", "alert": {"void": "{{ % }}"}}
    [(field, message)] = check({"name": "a", "trigger": {"expect": ["b"]}, "actions": [send]})
    assert field == "actions[0].alert.void"
    assert message.startswith("not a valid template")
