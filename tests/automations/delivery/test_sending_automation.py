"""Our rendering of an automation's alert is Prefect's own, for every automation of this project that sends one."""

import json
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.server.events.jinja_filters import all_filters
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.schemas.responses import FlowRunResponse
from prefect.server.utilities.user_templates import (
    register_user_template_filters,
    render_user_template_sync,
    validate_user_template,
)
from prefect.settings import PREFECT_UI_URL, temporary_settings
from pydantic import BaseModel

from automations.delivery.events import PrefectEvent, Resource, SendingAutomation, in_files, on_server, render
from automations.delivery.models import ALERT_FIELDS, Alert, AlertMetadata, split, with_metadata, without_metadata
from automations.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "automations"
PAGE = "http://127.0.0.1:4200"
RUN = UUID(int=5)
AUTOMATIONS = {one.name: one for one in in_files(FOLDER)}
HOSTILE = '{{ 7 * 7 }}{% for x in y %}\nState: Completed\r\u2028bell: {"void": true} </b> @everyone \U0001f4a3 \'"\\'
names = pytest.mark.parametrize("name", sorted(AUTOMATIONS))


@pytest.fixture(autouse=True, scope="module")
def _as_the_server_renders() -> Generator[None, None, None]:  # pyright: ignore[reportUnusedFunction]
    register_user_template_filters(all_filters)
    with temporary_settings({PREFECT_UI_URL: PAGE}):
        yield


class Named(BaseModel):
    """What a template sees of an automation, as far as ours look."""

    name: str


def event(name: str, text: str = "brave-otter") -> dict[str, Any]:
    """Return an event that concerns an automation, with a text wherever others may have written."""
    trigger = AUTOMATIONS[name].trigger
    expected = (trigger.get("after") or trigger["expect"])[0].replace("*", "Failed")
    resource = str(trigger["match"]["prefect.resource.id"]).replace("*", str(RUN))
    return {
        "id": UUID(int=9),
        "occurred": datetime(2026, 3, 1, 15, 0, 12, tzinfo=UTC),
        "event": expected,
        "resource": {
            "prefect.resource.id": resource,
            "prefect.resource.name": text,
            "prefect.state-message": text,
            "prefect.state-name": text or "Failed",
            "prefect.state-type": "FAILED",
        },
        "related": [
            {"prefect.resource.id": f"prefect.{role}.1", "prefect.resource.role": role, "prefect.resource.name": text}
            for role in ("flow", "deployment", "work-pool")
        ]
        + [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in ("env:prod", text)],
        "payload": {
            "subject": text,
            "text": f"{text}\nFile: {text}",
            "inbox": text,
            "since": text,
            "reason": text,
            "waiting": 3,
        },
    }


def flow_run(text: str = "brave-otter") -> FlowRunResponse:
    return FlowRunResponse.model_validate(
        {
            "id": RUN,
            "flow_id": UUID(int=6),
            "name": text or "x",
            "parameters": {"source_url": text, "reload": [text]},
            "state_type": "RUNNING",
            "state_name": text or "Running",
            "work_pool_name": text,
            "expected_start_time": "2026-03-01T15:00:00Z",
            "start_time": "2026-03-01T15:00:01Z",
        }
    )


def theirs(template: str, name: str, given: dict[str, Any], run: FlowRunResponse | None) -> str:
    context = {"event": ReceivedEvent.model_validate(given), "automation": Named(name=name), "flow_run": run}
    return render_user_template_sync(template, context)


def happening(given: dict[str, Any]) -> PrefectEvent:
    related = [Resource(one) for one in given["related"]]
    resource = Resource(given["resource"])
    return PrefectEvent(str(given["id"]), given["event"], given["occurred"], resource, related, given["payload"])


def ours(template: str, name: str, given: dict[str, Any], run: FlowRunResponse | None) -> str:
    return render(template, name, happening(given), run.model_dump(mode="json") if run else None, PAGE)


@names
@pytest.mark.parametrize("text", ["brave-otter", "", HOSTILE])
@pytest.mark.parametrize("gone", [False, True])
def test_our_rendering_is_prefects_own(name: str, text: str, *, gone: bool) -> None:
    one, given, run = AUTOMATIONS[name], event(name, text), None if gone else flow_run(text)
    for template in (one.subject, one.body):
        assert ours(template, name, given, run) == theirs(template, name, given, run)


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_it_is_prefects_own_whatever_a_run_is_called_and_says(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    name = "alert-on-failure"
    one, given, run = AUTOMATIONS[name], event(name, text), flow_run(text)
    assert ours(one.body, name, given, run) == theirs(one.body, name, given, run)


@names
def test_the_dispatcher_gets_the_cause_and_no_one_else_reads_it(name: str) -> None:
    posting = AUTOMATIONS[name].posting(happening(event(name)), flow_run().model_dump(mode="json"), PAGE)
    assert posting.cause.id == f"{UUID(int=9)}/{name}" == AUTOMATIONS[name].cause(happening(event(name)))
    assert posting.cause.kind != "alert"
    assert "bell:" not in posting.alert.body


NOTICE = {"inbox": "north-east", "subject": "s", "text": "t"}
OF_A_RUN = {"tags": ("auto-scheduled", "env:prod")}
OF_AN_INBOX = {"group": "inbox north-east", "tags": ("inbox:north-east",), "occurred": True}
PLACE = "Enterprise Data Pipeline/production-etl"
NO_WORKER = f"prefect.work-pool.{RUN}"
UNLESS = {"after": datetime(2026, 3, 1, 15, 0, 12, tzinfo=UTC), "wait_seconds": 15}
METADATA: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("cancelled-run", "", {}, {"kind": "run-cancelled", "group": PLACE, "occurred": True, **OF_A_RUN}),
    ("failed-arrival", "", NOTICE, {"kind": "arrival-failed", **OF_AN_INBOX}),
    ("failure", "", {}, {"kind": "run-failed", "group": f"{PLACE}, schedule", "occurred": True, **OF_A_RUN,
        "alias": f"prefect.flow-run.{RUN}/2/alert-on-failure"}),
    ("late-run", "", {}, {"kind": "run-late", "group": f"{PLACE}, schedule", "void": True, **OF_A_RUN}),
    ("long-run", "", {}, {"kind": "run-long", "group": f"{PLACE}, schedule", **OF_A_RUN}),
    ("missing-run", "", {}, {"kind": "run-missing", "group": PLACE, "occurred": True, **OF_A_RUN}),
    ("overdue-file", "inbox.overdue", NOTICE, {"kind": "file-overdue", **OF_AN_INBOX,
        "group": "inbox north-east, expected files"}),
    ("overdue-file", "inbox.recovered", NOTICE, {"kind": "file-overdue", **OF_AN_INBOX, "type": "success",
        "group": "inbox north-east, expected files"}),
    ("pool-without-worker", "", {}, {"kind": "no-worker", "opens": NO_WORKER,
        "unless": {"event": "prefect.work-pool.ready", "resource": NO_WORKER, **UNLESS}}),
    ("rejected-file", "inbox.files.rejected", NOTICE, {"kind": "file-rejected", "type": "warning", **OF_AN_INBOX}),
    ("rejected-file", "inbox.files.waiting", NOTICE, {"kind": "file-waiting", "type": "warning", **OF_AN_INBOX}),
    ("sensor-back", "", {}, {"kind": "sensor-back", "type": "success", "ends": f"sensor.{RUN}", "occurred": True}),
    ("silent-sensor", "", {}, {"kind": "sensor-silent", "opens": f"sensor.{RUN}",
        "unless": {"event": "sensor.heartbeat", "resource": f"sensor.{RUN}", **UNLESS}}),
    ("stalled-arrival", "", NOTICE, {"kind": "arrival-stalled", **OF_AN_INBOX,
        "group": "inbox north-east, arrivals without a run"}),
    ("stuck-run", "", {}, {"kind": "run-stuck", "group": "Enterprise Data Pipeline, schedule", **OF_A_RUN}),
    ("undelivered-alert", "", {}, {"kind": "undelivered", "occurred": True}),
    ("waiting-run", "run.waiting", {"trouble": "run.hold.pool"}, {"kind": "run-waiting", "group": "waiting runs",
        "opens": "run.hold.pool", "occurred": True, **OF_A_RUN}),
    ("waiting-run", "run.released", {"trouble": "run.hold.pool"}, {"kind": "run-waiting", "group": "waiting runs",
        "ends": "run.hold.pool", "type": "success", "occurred": True, **OF_A_RUN}),
    ("widened-columns", "", NOTICE, {"kind": "columns-widened", "type": "info", **OF_AN_INBOX}),
    ("worker-back", "", {}, {"kind": "worker-back", "type": "success", "ends": NO_WORKER, "occurred": True}),
]  # fmt: skip


def real_event(name: str, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return an event with the labels and the payload that Prefect or the sensor gives it."""
    given = event(name)
    is_of_a_run = str(given["resource"]["prefect.resource.id"]).startswith(("prefect.flow", "prefect.dep", "run.hold"))
    names = {"flow": "Enterprise Data Pipeline", "deployment": "production-etl"}
    related = [
        {"prefect.resource.id": f"prefect.{role}.1", "prefect.resource.role": role, "prefect.resource.name": one}
        for role, one in names.items()
    ]
    related += [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in OF_A_RUN["tags"]
    ]
    resource = {**given["resource"], "prefect.run-count": "2"}
    changed = {"resource": resource, "related": related if is_of_a_run else [], "payload": payload}
    return {**given, "event": kind or given["event"], **changed}


@pytest.mark.parametrize(("name", "kind", "payload", "expected"), METADATA)
def test_each_alert_has_the_metadata_that_it_had_when_it_was_written_into_its_file_by_hand(
    name: str, kind: str, payload: dict[str, Any], expected: dict[str, Any]
) -> None:
    name = f"alert-on-{name}"
    given = real_event(name, kind, payload)
    if expected.get("occurred"):
        expected = {**expected, "occurred": given["occurred"]}
    found = split(theirs(AUTOMATIONS[name].body, name, given, flow_run()))[1]
    assert found == AlertMetadata.model_validate({"id": f"{UUID(int=9)}/{name}", **expected})


def test_every_alert_of_this_project_has_its_metadata_compared() -> None:
    assert {f"alert-on-{name}" for name, *_ in METADATA} == set(AUTOMATIONS)


def derived(event: ReceivedEvent | None, trigger: dict[str, Any], **alert: Any) -> AlertMetadata:
    """Return the metadata of an automation of a user that writes `alert:` only."""
    action = with_metadata({"type": "send-notification", "body": "Text", "alert": alert}, trigger)
    context = {"event": event, "automation": Named(name="alert-on-low-stock"), "flow_run": None}
    text, metadata = split(render_user_template_sync(action["body"], context))
    assert text == "Text"
    return metadata


def test_an_alert_that_says_nothing_more_is_named_after_its_automation_and_knows_its_event() -> None:
    given = ReceivedEvent.model_validate(real_event("alert-on-failed-arrival", "stock.low", {}))
    metadata = derived(given, {"expect": ["stock.low"]})
    assert (metadata.id, metadata.kind) == (f"{given.id}/alert-on-low-stock", "low-stock")
    assert (metadata.group, metadata.tags, metadata.type) == ("", (), "failure")
    assert metadata.occurred == given.occurred
    assert derived(given, {}, occurred=None, tags="team:sales env:prod").occurred is None
    assert derived(given, {}, occurred=None, tags="team:sales env:prod").tags == ("team:sales", "env:prod")
    assert derived(given, {}, void=True).void
    empty = derived(given, {}, **dict.fromkeys(ALERT_FIELDS))
    assert (empty.id, empty.kind, empty.type) == (metadata.id, metadata.kind, metadata.type)


def test_two_firings_without_an_event_are_two_alerts() -> None:
    trigger = {"posture": "Proactive", "expect": ["stock.low"]}
    action = with_metadata({"type": "send-notification", "body": "Text", "alert": {}}, trigger)
    bodies = [
        render_user_template_sync(action["body"], {"event": None, "automation": Named(name="a"), "firing": {"id": one}})
        for one in ("1", "2")
    ]
    assert [split(body)[1].id for body in bodies] == ["1/a", "2/a"]


@pytest.mark.parametrize(
    "alert",
    [{}, {"kind": "low"}, {"void": "{{ state == 'RUNNING' }}", "occurred": "", "group": "a\n{{ event.id }} {# b #}"}],
)
@pytest.mark.parametrize("trigger", [{}, {"posture": "Proactive", "after": ["a"], "expect": ['it\'s "b" }}']}])
def test_what_is_added_to_the_body_can_be_taken_off_again(alert: dict[str, Any], trigger: dict[str, Any]) -> None:
    written = {"type": "send-notification", "body": "Run: {{ event.id }}", "alert": alert}
    sent = with_metadata(written, trigger)
    validate_user_template(sent["body"])
    assert without_metadata(sent, trigger) == written
    edited = {**sent, "body": f"{sent['body']} "}
    assert without_metadata(edited, trigger) == edited


@names
def test_nothing_that_others_wrote_can_pass_for_the_cause(name: str) -> None:
    plain = split(theirs(AUTOMATIONS[name].body, name, event(name), flow_run()))[1]
    hostile = split(theirs(AUTOMATIONS[name].body, name, event(name, HOSTILE), flow_run(HOSTILE)))[1]
    assert (hostile.id, hostile.kind, hostile.type, hostile.void) == (plain.id, plain.kind, plain.type, plain.void)


@names
def test_an_alert_reads_well_on_a_phone(name: str) -> None:
    posting = AUTOMATIONS[name].posting(happening(event(name)), flow_run().model_dump(mode="json"), PAGE)
    assert len(posting.alert.subject) <= 100
    assert len(posting.alert.body.splitlines()) <= 6
    assert "None" not in posting.alert.subject + posting.alert.body


@pytest.mark.parametrize("name", [name for name, one in AUTOMATIONS.items() if "event.payload.text" not in one.body])
def test_what_others_wrote_starts_no_line_and_mentions_no_one(name: str) -> None:
    # The other alerts' lines are the sensor's, which makes the names of files harmless itself.
    plain, hostile = (
        AUTOMATIONS[name].posting(happening(event(name, text)), flow_run(text).model_dump(mode="json"), PAGE).alert
        for text in ("brave-otter", HOSTILE)
    )
    assert len(hostile.body.splitlines()) == len(plain.body.splitlines())
    assert "@everyone" not in hostile.subject + hostile.body


@names
def test_an_alert_of_megabytes_is_cut(name: str) -> None:
    long = "x" * 50_000
    posting = AUTOMATIONS[name].posting(happening(event(name, long)), flow_run(long).model_dump(mode="json"), PAGE)
    assert len(posting.alert.body) < 6_000
    assert len(posting.cause.group) <= 200


@pytest.mark.parametrize(
    ("name", "state", "is_void"),
    [
        ("alert-on-late-run", "SCHEDULED", False),
        ("alert-on-late-run", "PENDING", False),
        ("alert-on-late-run", "RUNNING", True),
        ("alert-on-late-run", None, True),
        ("alert-on-long-run", "RUNNING", False),
        ("alert-on-long-run", "SCHEDULED", False),  # it waits for a retry
        ("alert-on-long-run", "PAUSED", False),
        ("alert-on-long-run", "COMPLETED", True),
        ("alert-on-long-run", "FAILED", True),
        ("alert-on-long-run", None, True),
        ("alert-on-stuck-run", "RUNNING", False),
        ("alert-on-stuck-run", "CRASHED", True),
    ],
)
def test_what_is_over_when_it_could_be_reported_is_void(name: str, state: str | None, *, is_void: bool) -> None:
    run = FlowRunResponse.model_validate({**flow_run().model_dump(), "state_type": state}) if state else None
    cause = split(theirs(AUTOMATIONS[name].body, name, event(name), run))[1]
    assert cause.void is is_void


def automation(body: str = "Run\nbell: {{ {'id': event.id} | tojson }}", **more: Any) -> SendingAutomation:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["a"], "threshold": 1}
    return SendingAutomation("mine", trigger, "alerts", "Failed: {{ event.event }}", body, **more)


HAPPENED = PrefectEvent("9", "a", datetime(2026, 3, 1, tzinfo=UTC), Resource({"prefect.resource.id": "r"}))


@pytest.mark.parametrize(
    "body",
    [
        "{{ 1 / 0 }}",
        "{{ event.nothing() }}",
        "{% if %}",
        "{{ 'a' | humanize_naturaltime }}",
        "{{ ''.__class__.mro() }}",
    ],
)
def test_what_only_the_server_can_render_is_reported_plainly(body: str) -> None:
    posting = automation(body).posting(HAPPENED, None, PAGE)
    assert posting.alert == Alert("a: r", "")
    assert posting.cause.id == "9/mine"


def test_one_that_says_nothing_to_the_dispatcher_has_a_cause_of_its_own_each_time() -> None:
    assert automation("Run: otter").posting(HAPPENED, None, PAGE).cause.is_its_own
    assert not automation().posting(HAPPENED, None, PAGE).cause.is_its_own


def test_it_concerns_no_event_from_before_it_was_there() -> None:
    assert automation().concerns(HAPPENED)
    assert automation(created=datetime(2026, 2, 1, tzinfo=UTC)).concerns(HAPPENED)
    assert not automation(created=datetime(2026, 3, 2, tzinfo=UTC)).concerns(HAPPENED)


def test_of_a_server_those_count_that_are_enabled_and_send_through_our_blocks() -> None:
    def stored(name: str, block: str, **more: Any) -> dict[str, Any]:
        action = {"type": "send-notification", "block_document_id": block, "subject": "s", "body": "b"}
        return {"name": name, "trigger": {}, "actions": [{"type": "do-nothing"}, action], **more}

    found = on_server(
        [
            stored("ours", "1", created="2026-03-01T00:00:00Z"),
            stored("fallback", "2"),
            stored("disabled", "1", enabled=False),
            stored("another's", "3"),
        ],
        {"1": "alerts", "2": "fallback"},
    )
    assert [(one.name, one.block) for one in found] == [("ours", "alerts"), ("fallback", "fallback")]
    assert found[0].created == datetime(2026, 3, 1, tzinfo=UTC)


def test_of_a_folder_those_files_count_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [")
    (tmp_path / "b.yaml").write_text("- a list")
    (tmp_path / "c.yaml").write_bytes(b"name: \xff")
    action = {"type": "send-notification", "block": "apprise-alerts/alerts", "body": "b"}
    (tmp_path / "d.yaml").write_text(json.dumps({"name": "d", "trigger": {}, "actions": [action]}))
    assert [one.name for one in in_files(tmp_path)] == ["d"]


def test_every_alert_of_this_project_is_sent_through_our_blocks() -> None:
    assert {path.stem for path in FOLDER.glob("alert-on-*.yaml")} == set(AUTOMATIONS)
    for path in FOLDER.glob("alert-on-*.yaml"):
        assert yaml.safe_load(path.read_text())["name"] == path.stem
