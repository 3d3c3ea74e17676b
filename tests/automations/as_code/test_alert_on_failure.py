"""What the templates of alert-on-failure.yaml make of an event, rendered by Prefect's own environment."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.server.events.jinja_filters import all_filters
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent, RelatedResource
from prefect.server.schemas.responses import FlowRunResponse
from prefect.server.utilities.user_templates import register_user_template_filters, render_user_template_sync
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect.types import DateTime
from pydantic import BaseModel

from automations.as_code.plan import FOLDER
from automations.delivery import digests
from automations.delivery.enqueue import EnqueueResult, NewAlert, post
from automations.delivery.models import Alert, split, with_metadata
from automations.delivery.outbox import Outbox
from tests.postings import NOW, at, policy

RUN = UUID(int=5)


class Named(BaseModel):
    """What a template sees of an automation, as far as ours look."""

    name: str


HOSTILE = "{{ 7 * 7 }}{% for x in y %}\nRun: all is well\r\u2028Message: fine </b>"
DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "alert-on-failure.yaml").read_text())
ACTION = with_metadata(DOCUMENT["actions"][0], DOCUMENT["trigger"])


def failure(message: str = "boom", *, state: str = "Failed", kind: str = "FAILED", **related: str) -> ReceivedEvent:
    """Return a run's event as the server emits it (recorded from Prefect 3.8.8)."""
    names = {"flow": "Enterprise Data Pipeline", "deployment": "production-etl", **related}
    return ReceivedEvent(
        id=UUID(int=9),
        occurred=DateTime(2026, 3, 1, 15, 0, 12).astimezone(),
        event=f"prefect.flow-run.{state}",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{RUN}",
            "prefect.resource.name": "brave-otter",
            "prefect.run-count": "2",
            "prefect.state-message": message,
            "prefect.state-name": state,
            "prefect.state-type": kind,
        },
        related=[
            {
                "prefect.resource.id": f"prefect.{role}.{UUID(int=6)}",
                "prefect.resource.role": role,
                "prefect.resource.name": name,
            }
            for role, name in names.items()
        ],
    )


def rendered(field: str, event: ReceivedEvent, parameters: dict[str, Any] | None = None, *, gone: bool = False) -> str:
    register_user_template_filters(all_filters)
    run = FlowRunResponse(id=RUN, flow_id=UUID(int=6), name="brave-otter", parameters=parameters or {})
    with temporary_settings({PREFECT_UI_URL: "http://127.0.0.1:4200"}):
        return render_user_template_sync(
            ACTION[field],
            {"event": event, "automation": Named(name="alert-on-failure"), "flow_run": None if gone else run},
        )


def test_the_subject_says_what_and_where() -> None:
    assert rendered("subject", failure()) == "Failed: Enterprise Data Pipeline/production-etl, run brave-otter"


def body(event: ReceivedEvent, parameters: dict[str, Any] | None = None, *, gone: bool = False) -> str:
    """Return what a person reads; the bell takes the last line away."""
    return split(rendered("body", event, parameters, gone=gone))[0]


def test_the_body_is_six_lines_that_end_in_a_link() -> None:
    lines = body(failure(), {"source_url": "file:///a", "arrival_id": None}).splitlines()
    assert [line.split(":")[0] for line in lines] == ["Flow", "Run", "State", "Message", "Parameters", "http"]
    assert lines[4] == "Parameters: source_url=file:///a, arrival_id=None"
    assert lines[5] == f"http://127.0.0.1:4200/runs/flow-run/{RUN}"


def test_values_are_put_in_as_they_are_and_stay_in_their_line() -> None:
    lines = body(failure(HOSTILE), {"source_url": HOSTILE}).splitlines()
    one_line = "{{ 7 * 7 }}{% for x in y %} Run: all is well Message: fine </b>"
    assert len(lines) == 6
    assert lines[3] == f"Message: {one_line}"
    assert lines[4] == f"Parameters: source_url={one_line}"


def test_a_message_of_megabytes_is_cut() -> None:
    assert len(body(failure("x" * 2_000_000), {"source_url": "y" * 2_000_000})) < 1500


@pytest.mark.parametrize("names", [["*"], ["north/a.csv", "it's.csv"], [HOSTILE]])
def test_the_files_to_reload_are_reported_in_the_line_of_the_parameters(names: list[str]) -> None:
    lines = body(failure(), {"arrival_id": "a-1", "reload": names}).splitlines()
    assert len(lines) == 6
    assert lines[4] == f"Parameters: arrival_id=a-1, reload={' '.join(str(names).split())}"


def test_a_run_for_an_arrival_can_be_routed_by_its_inbox_whether_or_not_it_has_its_tags_yet() -> None:
    def tags(event: ReceivedEvent, **more: Any) -> list[str]:
        return json.loads(rendered("body", event, **more).splitlines()[-1].removeprefix("bell: "))["tags"]

    arrival = {"arrival_id": "north-east-20261124-140509-3f9a1c"}
    tagged = failure()
    tagged.related.append(
        RelatedResource({"prefect.resource.id": "prefect.tag.inbox:north-east", "prefect.resource.role": "tag"})
    )
    assert tags(failure(), parameters=arrival) == ["inbox:north-east"]
    assert tags(tagged, parameters=arrival) == ["inbox:north-east"]
    assert tags(failure(), parameters={"arrival_id": None}) == []
    assert tags(failure(), gone=True) == []


def tagged(event: ReceivedEvent, *tags: str) -> ReceivedEvent:
    event.related += [
        RelatedResource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}) for tag in tags
    ]
    return event


def test_the_rate_limit_counts_each_cause_of_a_run_separately() -> None:
    def group(event: ReceivedEvent, arrival: str | None = None, *, gone: bool = False) -> str:
        return split(rendered("body", event, {"arrival_id": arrival}, gone=gone))[1].group

    deployment = "Enterprise Data Pipeline/production-etl"
    arrival = "north-east-20261124-140509-3f9a1c"
    assert group(failure(), arrival) == f"{deployment}, inbox north-east"
    assert group(tagged(failure(), "inbox:north-east"), arrival) == f"{deployment}, inbox north-east"
    assert group(tagged(failure(), "env:prod", "auto-scheduled")) == f"{deployment}, schedule"
    assert group(tagged(failure(), "auto-scheduled"), gone=True) == f"{deployment}, schedule"
    assert group(failure()) == f"{deployment}, by hand"


def test_five_bad_files_do_not_hide_the_failure_of_nine_o_clock(tmp_path: Path) -> None:
    with Outbox(tmp_path / "alerts.db") as outbox:
        for number in range(30):
            event = failure("no column id")
            event.id = UUID(int=100 + number)
            event.resource["prefect.run-count"] = str(number)
            post_failure(outbox, event, {"arrival_id": f"metrics-20261124-140509-{number:06}"})
        nine = tagged(failure("the source is unreachable"), "auto-scheduled")
        assert post_failure(outbox, nine, {}) is EnqueueResult.PENDING
        sent = [row["body"] for row in outbox.rows("SELECT a.body FROM deliveries JOIN alerts a USING (cause)")]
        assert len(sent) == 6
        assert [body for body in sent if "the source is unreachable" in body]
        [digest] = digests.sum_up_due(outbox, policy(), at(61))
        assert "25 alerts of Enterprise Data Pipeline/production-etl, inbox metrics" in digest.alert.subject
        assert digest.alert.body.count(": no column id") == 25
        assert digest.alert.body.count(f"http://127.0.0.1:4200/runs/flow-run/{RUN}") == 25


def post_failure(outbox: Outbox, event: ReceivedEvent, parameters: dict[str, Any]) -> EnqueueResult:
    """Enqueue the alert of a failed run as the server does."""
    text, cause = split(rendered("body", event, parameters))
    cause = cause.model_copy(update={"alias": None})
    return post(outbox, NewAlert(Alert.of(rendered("subject", event), text), cause, "alerts"), policy(), NOW)


@pytest.mark.parametrize("message", ["", " \n "])
def test_a_run_without_a_message_parameters_or_a_place_on_the_server_is_alerted_too(message: str) -> None:
    assert "Parameters: none" in body(failure(message))
    reported = body(failure(message), gone=True)
    assert f"Run {RUN} could not be read: it was deleted, or the server was too busy." in reported
    assert "Parameters: unknown" in reported


def test_a_run_that_reports_its_crash_twice_is_named_the_same_by_both() -> None:
    first, second = failure(state="Crashed", kind="CRASHED"), failure(state="Crashed", kind="CRASHED")
    second.id = UUID(int=10)
    causes = [split(rendered("body", event))[1] for event in (first, second)]
    assert causes[0].alias == causes[1].alias == f"prefect.flow-run.{RUN}/2/alert-on-failure"
    assert causes[0].id != causes[1].id


@pytest.mark.parametrize(
    ("event", "rings"),
    [
        (failure(), True),
        (failure(state="Crashed", kind="CRASHED"), True),
        (failure(state="TimedOut", kind="FAILED"), True),
        (failure(state="Rejected", kind="FAILED"), True),
        (failure(state="AwaitingRetry", kind="SCHEDULED"), False),
        (failure(state="Completed", kind="COMPLETED"), False),
        (failure(state="Cancelled", kind="CANCELLED"), False),
        (failure(deployment="another"), False),
        (failure(flow="another"), False),
    ],
)
def test_only_a_run_of_ours_that_is_over_and_did_not_succeed_rings(event: ReceivedEvent, *, rings: bool) -> None:
    assert EventTrigger.model_validate(DOCUMENT["trigger"]).covers(event) is rings
