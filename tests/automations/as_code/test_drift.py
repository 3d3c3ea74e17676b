"""The content of an automation, its marks, and what has changed on the server since."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.as_code import drift, files
from automations.as_code.plan import FOLDER, apply
from automations.settings import AlertSettings as AutomationSettings
from sensors.config.settings import Auth, Settings
from sensors.runs.api import open_api
from sensors.stack.status import read_drift

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def automation(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "created": "2026-01-01T00:00:00Z",
        "name": "one",
        "description": "",
        "enabled": True,
        "tags": ["b", "a"],
        "trigger": {"type": "event", "id": "2", "expect": ["y", "x"], "match": {"l": "v"}, "within": 5.0},
        "actions": [{"type": "run-deployment", "parameters": {"none": None}, "job_variables": None}],
        "owner_resource": None,
        **changes,
    }


def applied(**changes: Any) -> dict[str, Any]:
    return {**automation(), "tags": ["b", "a", *drift.marks("me", automation())], **changes}


@pytest.mark.parametrize(
    "same",
    [
        automation(id="7", created="2027-01-01T00:00:00Z"),
        automation(tags=["a", "b"]),
        automation(tags=["a", "b", "kept-in:somebody", "applied:0123456789ab"]),
        automation(trigger={"type": "event", "expect": ["x", "y"], "match": {"l": ["v"]}, "within": 5, "after": None}),
        automation(actions=[{"type": "run-deployment", "parameters": {"none": None}}]),
    ],
)
def test_what_only_looks_different_has_the_same_hash(same: dict[str, Any]) -> None:
    assert drift.content_hash(same) == drift.content_hash(automation())


@pytest.mark.parametrize(
    "other",
    [
        automation(enabled=False),
        automation(tags=["a"]),
        automation(actions=[{"type": "run-deployment", "parameters": {}}]),
        automation(trigger={**automation()["trigger"], "within": 5.5}),
    ],
)
def test_what_says_something_else_has_another_hash(other: dict[str, Any]) -> None:
    assert drift.content_hash(other) != drift.content_hash(automation())


@given(st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_the_canonical_form_is_its_own(parameters: Any) -> None:
    once = drift.canonical(automation(actions=[{"parameters": parameters}]))
    assert drift.canonical(once) == once


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"enabled": False}, "disabled"),
        ({"description": "by hand"}, "edited"),
        ({"description": "by hand", "enabled": False}, "edited"),
        ({"description": "by hand", "tags": []}, None),  # nobody knows what was applied
    ],
)
def test_how_it_was_changed_is_reported(changes: dict[str, Any], expected: str | None) -> None:
    assert drift.drift(applied(**changes)) == expected


def test_the_marks_say_whose_it_is_and_are_no_tags_of_the_users() -> None:
    tags = applied()["tags"]
    assert drift.owner_of(tags) == "me"
    assert drift.without_marks(tags) == ["b", "a"]


def test_the_sensors_side_needs_no_prefect_for_it() -> None:
    code = "import sys, sensors.stack.status; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_of_this_project_has_drifted_when_it_was_just_applied(api_url: str, tmp_path: Path) -> None:
    @flow(name="Enterprise Data Pipeline")
    def pipeline() -> None:
        pass

    port = urlsplit(api_url).port
    here = Settings.model_validate({"state_dir": tmp_path, "api_port": port, "auth": Auth.OFF})
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        for one in client.read_automations():
            client.delete_automation(one.id)
        client.create_deployment(flow_id=client.create_flow(pipeline), name="production-etl")
        apply(FOLDER, AutomationSettings.model_validate({"state_dir": tmp_path}))
        by_client = [drift.drift(files.content(one)) for one in client.read_automations()]
        assert len(by_client) == len([*FOLDER.glob("*.yaml")])
        assert {*by_client} == {None}
        assert read_drift(here) == {}
        with open_api(here) as api:
            raw = list(api.results("/automations/filter", {}))
        hashes = {one.name: drift.content_hash(files.content(one)) for one in client.read_automations()}
        assert {one["name"]: drift.content_hash(one) for one in raw} == hashes
        paused = client.read_automations_by_name("run-on-arrival")[0]
        client.pause_automation(paused.id)
        assert read_drift(here) == {"run-on-arrival": "disabled"}
        client.delete_automation(paused.id)
        assert read_drift(here) == {}


def test_a_server_that_does_not_answer_is_somebody_elses_news(tmp_path: Path) -> None:
    assert read_drift(Settings(state_dir=tmp_path, api_port=1)) == {}
