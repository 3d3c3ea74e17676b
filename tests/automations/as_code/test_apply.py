"""Applying the automations to a real server."""

from collections.abc import Generator
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.as_code.diff import Changes
from automations.as_code.drift import drift
from automations.as_code.export import export
from automations.as_code.plan import apply, plan
from automations.errors import ConfigurationError
from automations.settings import AlertSettings

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

AUTOMATION = """
name: watch
description: As it was written first.
trigger:
  expect: [a.b]
actions:
  - type: run-deployment
    deployment: Work/daily
  - type: send-notification
    block: apprise-alerts/alerts
    body: "{{ event.payload.text }}"
"""
BARE = {"trigger": {"expect": ["a.b"]}, "actions": [{"type": "do-nothing"}]}


@pytest.fixture
def client(api_url: str) -> Generator[SyncPrefectClient, None, None]:
    """Give a client of a server that has the deployment Work/daily and no automation."""

    @flow(name="Work")
    def work() -> None:
        pass

    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        client.create_deployment(flow_id=client.create_flow(work), name="daily")
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watch.yaml").write_text(AUTOMATION)
    return tmp_path


def settings(folder: Path, urls: str = "json://127.0.0.1/one") -> AlertSettings:
    return AlertSettings.model_validate({"state_dir": folder / "state", "notify_urls": urls})


def outcomes(result: Changes) -> list[tuple[str, str]]:
    """Return what became of each automation."""
    return [(change.name, str(change.outcome)) for change in result.changes if change.kind == "automation"]


def ids(client: SyncPrefectClient) -> list[UUID]:
    return [automation.id for automation in client.read_automations()]


def test_applying_twice_changes_nothing_the_second_time(client: SyncPrefectClient, folder: Path) -> None:
    first = apply(folder, settings(folder))
    there = client.read_automations()
    second = apply(folder, settings(folder))
    assert outcomes(first) == [("watch", "created")]
    assert {str(change.outcome) for change in second.changes} == {"unchanged"}
    assert not second.changed
    assert client.read_automations() == there


def test_a_plan_shows_what_apply_then_does_and_writes_nothing(client: SyncPrefectClient, folder: Path) -> None:
    planned = plan(folder, settings(folder))
    assert client.read_automations() == []
    done = apply(folder, settings(folder))
    assert [(one.name, one.outcome, one.differences) for one in planned.changes] == [
        (one.name, one.outcome, one.differences) for one in done.changes
    ]
    assert not plan(folder, settings(folder)).changed


def test_names_are_the_ids_of_the_deployment_and_of_our_own_block(client: SyncPrefectClient, folder: Path) -> None:
    result = apply(folder, settings(folder))
    [automation] = client.read_automations()
    run, send = (action.model_dump() for action in automation.actions)
    assert run["deployment_id"] == client.read_deployment_by_name("Work/daily").id
    assert send["block_document_id"] == result.changes[0].id


def test_a_changed_file_updates_the_automation_in_its_place(client: SyncPrefectClient, folder: Path) -> None:
    apply(folder, settings(folder))
    before = ids(client)
    (folder / "watch.yaml").write_text(AUTOMATION.replace("description: As it was written first.", "enabled: false"))
    [change] = [one for one in apply(folder, settings(folder)).changes if one.kind == "automation"]
    assert (str(change.outcome), change.note) == ("updated", "the file, or what it refers to, has changed")
    assert [(one.field, one.old, one.new) for one in change.differences] == [
        ("description", "As it was written first.", ""),
        ("enabled", True, False),
    ]
    [automation] = client.read_automations()
    assert [automation.id] == before
    assert (automation.description, automation.enabled) == ("", False)
    assert not apply(folder, settings(folder)).changed


def test_changed_urls_update_the_block_in_its_place_and_are_not_shown(client: SyncPrefectClient, folder: Path) -> None:
    before = apply(folder, settings(folder)).changes[0]
    result = apply(folder, settings(folder, "json://me:hunter22@127.0.0.1 json://127.0.0.1/two"))
    changed = result.changes[0]
    assert (changed.name, str(changed.outcome), changed.id) == ("apprise-alerts/alerts", "updated", before.id)
    assert [one.as_json() for one in changed.differences] == [{"field": "urls", "secret": True}]
    assert changed.note.startswith("goes to 2 URLs and ")
    assert "hunter22" not in repr(result) + str(result.as_json())
    stored = client.read_block_document(before.id, include_secrets=False)
    assert "hunter22" not in repr(stored)


def test_a_block_for_each_of_the_two_settings_of_urls_is_kept(client: SyncPrefectClient, folder: Path) -> None:
    result = apply(folder, settings(folder))
    assert [one.name for one in result.changes if one.kind == "block"] == [
        "apprise-alerts/alerts",
        "apprise-alerts/fallback",
    ]
    fallback = client.read_block_document_by_name("fallback", "apprise-alerts")
    assert fallback.data["log_file"] == str(settings(folder).alert_log)


def test_a_second_one_that_somebody_else_made_is_reported_and_left_alone(
    client: SyncPrefectClient, folder: Path
) -> None:
    apply(folder, settings(folder))
    [ours] = client.read_automations()
    stranger = client.create_automation(AutomationCore.model_validate(ours.model_dump(exclude={"id", "tags"})))
    (folder / "watch.yaml").write_text(AUTOMATION + "enabled: false\n")
    result = apply(folder, settings(folder))
    assert outcomes(result) == [("watch", "updated"), ("watch", "duplicate")]
    assert result.changes[-1].id == stranger
    assert sorted(ids(client)) == sorted([ours.id, stranger])


def test_a_second_one_that_bears_our_mark_is_deleted(client: SyncPrefectClient, folder: Path) -> None:
    apply(folder, settings(folder))
    [ours] = client.read_automations()
    client.create_automation(AutomationCore.model_validate(ours.model_dump(exclude={"id"})))
    assert outcomes(apply(folder, settings(folder))) == [("watch", "unchanged"), ("watch", "deleted")]
    assert ids(client) == [ours.id]


def test_an_automation_that_has_lost_its_file_is_deleted_and_those_of_others_stay(
    client: SyncPrefectClient, folder: Path
) -> None:
    (folder / "other.yaml").write_text(AUTOMATION.replace("watch", "other"))
    apply(folder, settings(folder))
    (folder / "watch.yaml").unlink()
    assert outcomes(plan(folder, settings(folder))) == [("other", "unchanged"), ("watch", "deleted")]
    stranger = client.create_automation(AutomationCore.model_validate({**BARE, "name": "by hand"}))
    marked = client.create_automation(AutomationCore.model_validate({**BARE, "name": "x", "tags": ["kept-in:others"]}))
    assert outcomes(apply(folder, settings(folder))) == [("other", "unchanged"), ("watch", "deleted")]
    assert {stranger, marked} < {*ids(client)}
    assert len(ids(client)) == 3


def test_one_of_the_same_name_is_adopted_with_its_id(client: SyncPrefectClient, folder: Path) -> None:
    there = client.create_automation(AutomationCore.model_validate({**BARE, "name": "watch", "tags": ["mine"]}))
    [change] = [one for one in plan(folder, settings(folder)).changes if one.kind == "automation"]
    assert (str(change.outcome), change.note) == ("updated", "adopted: the server has it without our mark")
    apply(folder, settings(folder))
    [automation] = client.read_automations()
    assert automation.id == there
    assert automation.tags[0] == "kept-in:prefect-blueprint"


def test_one_that_another_owner_keeps_is_not_taken_over(client: SyncPrefectClient, folder: Path) -> None:
    apply(folder, settings(folder), owner="somebody")
    with pytest.raises(ConfigurationError, match=r"watch\.yaml:2: name: the server has one that is kept in 'somebody'"):
        apply(folder, settings(folder))


def test_an_edit_on_the_server_is_distinguished_from_a_changed_file_and_put_back(
    client: SyncPrefectClient, folder: Path
) -> None:
    apply(folder, settings(folder))
    client.pause_automation(ids(client)[0])
    [change] = [one for one in plan(folder, settings(folder)).changes if one.kind == "automation"]
    assert change.note == "disabled on the server since the last apply"
    assert [(one.field, one.old, one.new) for one in change.differences] == [("enabled", False, True)]
    apply(folder, settings(folder))
    assert client.read_automations()[0].enabled
    assert not plan(folder, settings(folder)).changed


def test_automations_may_refer_to_each_other_and_none_has_to_be_there(client: SyncPrefectClient, folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "name: pauses watch\ntrigger: {match: {automation: watch}}\n"
        "actions: [{type: pause-automation, automation: watch}]\n"
    )
    assert outcomes(apply(folder, settings(folder))) == [("watch", "created"), ("pauses watch", "created")]
    watch, pauses = sorted(client.read_automations(), key=lambda one: one.name, reverse=True)
    assert pauses.actions[0].model_dump()["automation_id"] == watch.id
    assert pauses.trigger.model_dump()["match"] == {"prefect.resource.id": f"prefect.automation.{watch.id}"}
    assert not plan(folder, settings(folder)).changed


def test_values_of_the_environment_and_of_prefect_are_filled_in(
    client: SyncPrefectClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "Chicago")
    client.create_variable(VariableCreate(name="pause", value={"seconds": 7}, tags=[]))
    (folder / "watch.yaml").write_text(
        AUTOMATION.replace("{{ event.payload.text }}", "{{ $PLACE }} {{ event.id }}")
        + "  - {type: run-deployment, deployment: Work/daily, parameters: {p: '{{ prefect.variables.pause }}'}}\n"
    )
    try:
        apply(folder, settings(folder))
    finally:
        client.delete_variable_by_name("pause")
    _, send, run = (action.model_dump() for action in client.read_automations()[0].actions)
    assert send["body"] == "Chicago {{ event.id }}"
    assert run["parameters"] == {"p": {"seconds": 7}}
    with pytest.raises(ConfigurationError, match=r"actions\[2\]\.parameters\.p: the server has no variable 'pause'"):
        apply(folder, settings(folder))


def test_nothing_is_written_if_anything_is_wrong_and_all_of_it_is_reported(
    client: SyncPrefectClient, folder: Path
) -> None:
    (folder / "a.yaml").write_text(AUTOMATION.replace("watch", "first"))
    (folder / "b.yaml").write_text(AUTOMATION.replace("expect", "expekt"))
    (folder / "watch.yaml").write_text(AUTOMATION.replace("Work/daily", "Work/dayly"))
    with pytest.raises(ConfigurationError) as failure:
        apply(folder, settings(folder, "nonsense"))
    assert [problem.where for problem in failure.value.problems] == [
        "b.yaml:5: trigger.expekt",
        "NOTIFY_URLS",
        "watch.yaml:8: actions[0].deployment",
    ]
    assert "did you mean 'Work/daily'?" in failure.value.problems[2].message
    assert client.read_automations() == []


SHORT = AUTOMATION + "    alert: {kind: low, group: stock}\n"
BY_HAND = AUTOMATION.replace(
    '"{{ event.payload.text }}"', "|-\n      Text\n      bell: {{ {'id': event.id} | tojson }}"
)


def test_a_short_alert_is_written_once_with_its_metadata_and_exported_as_it_was(
    client: SyncPrefectClient, folder: Path
) -> None:
    (folder / "watch.yaml").write_text(SHORT)
    planned = plan(folder, settings(folder)).changes[-1]
    shown = {one.field: one.new for one in planned.differences}
    assert (shown["actions[1].body"], shown["actions[1].alert.kind"]) == ("{{ event.payload.text }}", "low")
    apply(folder, settings(folder))
    [automation] = client.read_automations()
    body = automation.actions[1].model_dump()["body"]
    assert body.count("bell: {{") == 1
    assert drift(automation.model_dump(mode="json")) is None
    assert not plan(folder, settings(folder)).changed
    [path] = export(folder / "exported").written
    exported = yaml.safe_load(path.read_text())["actions"][1]
    assert (exported["body"], exported["alert"]) == ("{{ event.payload.text }}", {"group": "stock", "kind": "low"})
    assert not plan(folder / "exported", settings(folder), owner="prefect-blueprint").changed


def test_an_alert_of_a_release_with_the_whole_line_in_its_file_is_updated_to_the_short_form(
    client: SyncPrefectClient, folder: Path
) -> None:
    (folder / "watch.yaml").write_text(BY_HAND)
    apply(folder, settings(folder))
    [automation] = client.read_automations()
    assert automation.actions[1].model_dump()["body"] == "Text\nbell: {{ {'id': event.id} | tojson }}"
    assert not plan(folder, settings(folder)).changed
    (folder / "watch.yaml").write_text(SHORT)
    change = apply(folder, settings(folder)).changes[-1]
    assert {one.field for one in change.differences} == {"actions[1].alert", "actions[1].body"}
    assert not plan(folder, settings(folder)).changed
