"""Missed alerts: what should have led to one and did not, because the server was killed or does not answer."""

import logging
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from automations.alert_service import AlertService, Dispatcher, SendingAutomation, automations_in_files
from sensors.alerts.reconcile import EVERY, GRACE, OVERLAP, UNSENT_FOR, MissedAlerts
from sensors.ledger import Ledger, notices
from sensors.ledger.notices import Notice
from sensors.runs.api import ApiError, PrefectApi
from tests.postings import NOW, at, policy, posting
from tests.prefect_server import PrefectServer

MINUTE = timedelta(minutes=1)
LATER = GRACE + timedelta(seconds=1)


@pytest.fixture
def ringer(tmp_path: Path) -> Generator[AlertService, None, None]:
    bell = Dispatcher(tmp_path / "alerts.db", tmp_path / "alerts.log", policy(storm="99/1s"))
    ringer = AlertService(bell)
    yield ringer
    ringer.close()
    bell.close()


@pytest.fixture
def missed(server: PrefectServer, ringer: AlertService, ledger: Ledger) -> MissedAlerts:
    """Make one that has looked already, at nine o'clock."""
    made = started_anew(server, ringer, ledger)
    made.step(NOW)
    return made


def started_anew(server: PrefectServer, ringer: AlertService, ledger: Ledger) -> MissedAlerts:
    return MissedAlerts(PrefectApi(server.url, None), ringer, ledger, "http://127.0.0.1:4200", automations_in_files())


def causes(ringer: AlertService) -> list[str]:
    return [row["cause"] for row in ringer.bell.outbox.rows("SELECT cause FROM alerts ORDER BY rowid")]


def test_a_failed_run_without_an_alert_is_rung_for_once(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    server.failed_run("r1", NOW)
    assert missed.step(NOW + LATER)
    for turn in range(2, 20):
        assert not missed.step(NOW + turn * LATER)
    assert causes(ringer) == ["state-r1/alert-on-failure"]
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    assert alert["subject"] == "Failed: Enterprise Data Pipeline/production-etl, run run-r1"
    assert "http://127.0.0.1:4200/runs/flow-run/r1" in alert["body"]
    assert alert["group_name"] == "Enterprise Data Pipeline/production-etl, by hand"
    assert '"env:prod"' in alert["tags"]


def test_prefect_has_a_while_for_its_own_alert(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    server.failed_run("r1", NOW)
    assert not missed.step(NOW + GRACE)
    ringer.post(posting("state-r1/alert-on-failure"), NOW + GRACE)
    assert not missed.step(NOW + 2 * GRACE)
    assert causes(ringer) == ["state-r1/alert-on-failure"]


def test_every_one_of_many_that_failed_while_the_sensor_was_down_is_rung_for(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService, ledger: Ledger
) -> None:
    for number in range(30):
        server.failed_run(f"r{number}", NOW + number * MINUTE)
    again = started_anew(server, ringer, ledger)
    again.step(NOW + timedelta(hours=3))
    assert len(causes(ringer)) == 30


def test_what_failed_before_the_first_start_is_no_ones_concern(
    server: PrefectServer, ringer: AlertService, ledger: Ledger
) -> None:
    server.failed_run("r1", NOW - OVERLAP - MINUTE)
    assert not started_anew(server, ringer, ledger).step(NOW)


def test_a_state_that_bears_the_time_of_a_clock_that_is_behind_is_rung_for(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    missed.step(NOW + 5 * MINUTE)
    server.failed_run("r1", NOW - MINUTE)
    assert missed.step(NOW + 6 * MINUTE)


def test_after_the_clock_was_set_back_the_look_goes_on_from_now(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    missed.step(NOW + timedelta(days=1))
    server.failed_run("r1", NOW + MINUTE)
    assert missed.step(NOW + 2 * MINUTE)


def test_nothing_is_looked_through_more_often_than_every_few_seconds(
    missed: MissedAlerts, server: PrefectServer
) -> None:
    server.asked.clear()
    for tenth in range(1, 100):
        missed.step(NOW + tenth * timedelta(seconds=0.1))
    assert server.asked.count("/api/flow_runs/filter") == 9.9 // EVERY.total_seconds()


def test_what_no_automation_sends_an_alert_for_is_not_rung_for(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    server.failed_run("r1", NOW)
    server.stored["flows"][0]["name"] = "Another Flow"
    assert not missed.step(NOW + LATER)
    missed.automations = []
    assert not missed.step(NOW + 2 * LATER)


def test_a_look_that_the_server_breaks_off_is_made_up_for(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    server.failed_run("r1", NOW + MINUTE)
    server.status = 500
    for hours in (1, 2):
        with pytest.raises(ApiError):
            missed.step(NOW + timedelta(hours=hours))
    server.status = 200
    assert missed.step(NOW + timedelta(hours=3))


@pytest.mark.parametrize(
    ("state", "run_id", "rings"), [("failed", "r1", True), ("staged", "r1", False), ("failed", "r2", False)]
)
def test_an_arrival_that_failed_with_a_run_that_no_automation_is_about_is_rung_for_once(
    missed: MissedAlerts,
    server: PrefectServer,
    ringer: AlertService,
    ledger: Ledger,
    state: str,
    run_id: str,
    *,
    rings: bool,
) -> None:
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, run_id)"
        " VALUES ('m-1', 'metrics', '/m-1', ?, 1, '2026', ?)",
        (state, run_id),
    )
    server.failed_run("r1", NOW, parameters={"arrival_id": "m-1"})
    server.stored["flows"][0]["name"] = "Another Flow"
    for turn in range(1, 5):
        missed.step(NOW + turn * LATER)
    assert causes(ringer) == (["state-r1/alert-on-failed-arrival"] if rings else [])


def test_a_run_that_a_limit_cancelled_rings_and_one_of_an_arrival_or_by_a_person_does_not(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    limit = "Deployment concurrency limit reached."
    for run_id, message, parameters in (("r1", limit, {}), ("r2", limit, {"arrival_id": "m-1"}), ("r3", "enough", {})):
        run = server.failed_run(run_id, NOW, "Cancelled", message, parameters=parameters, run_count=0)
        run["state_type"] = run["state"]["type"] = "CANCELLED"
    missed.step(NOW + LATER)
    assert causes(ringer) == ["state-r1/alert-on-cancelled-run"]


def somebodys(body: str, **more: object) -> SendingAutomation:
    trigger = {"posture": "Reactive", "expect": ["prefect.flow-run.*"]}
    return SendingAutomation("somebody's", trigger, "alerts", "Failed", body)


def test_an_automation_without_a_cause_for_the_dispatcher_does_not_alert_again_and_again(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    missed.automations = [somebodys("{{ event.resource.name }}"), somebodys("x\nbell: {broken")]
    server.failed_run("r1", NOW)
    for turn in range(1, 10):
        assert not missed.step(NOW + turn * LATER)
    assert causes(ringer) == []


def test_one_that_names_its_cause_in_its_own_way_is_known_by_that(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService, caplog: pytest.LogCaptureFixture
) -> None:
    missed.automations = [somebodys("x\nbell: {{ {'id': 'mine/' ~ event.id} | tojson }}")]
    server.failed_run("r1", NOW)
    ringer.post(posting("mine/state-r1"), NOW)
    with caplog.at_level(logging.WARNING):
        assert not missed.step(NOW + LATER)
    assert caplog.text == ""


def test_what_is_void_is_not_rung_for_again_and_again(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService, caplog: pytest.LogCaptureFixture
) -> None:
    missed.automations = [somebodys("x\nbell: {{ {'id': event.id, 'void': true} | tojson }}")]
    server.failed_run("r1", NOW)
    assert not missed.step(NOW + LATER)
    assert caplog.text == ""


def test_a_template_that_fails_stops_no_other_automation(
    missed: MissedAlerts, server: PrefectServer, ringer: AlertService
) -> None:
    missed.automations = [somebodys("{{ 1 / 0 }}"), *missed.automations]
    server.failed_run("r1", NOW)
    missed.step(NOW + LATER)
    missed.step(NOW + 2 * LATER)
    assert causes(ringer) == ["state-r1/somebody's", "state-r1/alert-on-failure"]


def write(ledger: Ledger, now: datetime, event: str = "inbox.files.rejected", key: str = "k-1") -> Notice:
    payload = {"subject": "Rejected: a.csv", "text": "a.csv: not a table"}
    notice = Notice(key, event, "metrics", payload, event_id=f"event-of-{key}")
    with ledger.transaction():
        notices.write(ledger, notice, now)
    return notice


def test_a_notice_that_prefect_has_and_made_no_alert_of_is_rung_for_once(
    missed: MissedAlerts, ledger: Ledger, ringer: AlertService
) -> None:
    notices.record_sent(ledger, [write(ledger, NOW)], NOW)
    assert not missed.step(NOW + GRACE)
    assert missed.step(NOW + GRACE + EVERY)
    assert not missed.step(NOW + 10 * MINUTE)
    assert causes(ringer) == ["event-of-k-1/alert-on-rejected-file"]
    [alert] = ringer.bell.outbox.rows("SELECT * FROM alerts")
    assert alert["subject"] == "Rejected: a.csv"
    assert alert["body"].startswith("a.csv: not a table\n")
    assert alert["group_name"] == "inbox metrics"


def test_a_notice_that_was_sent_just_before_the_machine_died_is_rung_for_when_it_is_back(
    missed: MissedAlerts, server: PrefectServer, ledger: Ledger, ringer: AlertService
) -> None:
    notices.record_sent(ledger, [write(ledger, NOW)], NOW)
    assert started_anew(server, ringer, ledger).step(NOW + timedelta(hours=8))


def test_while_the_server_is_silent_a_notice_is_rung_for_after_a_minute_and_only_once(
    missed: MissedAlerts, ledger: Ledger, ringer: AlertService
) -> None:
    write(ledger, NOW)
    missed.ring_unsent(NOW + UNSENT_FOR)
    assert causes(ringer) == []
    for second in (1, 2, 3):
        missed.ring_unsent(NOW + UNSENT_FOR + timedelta(seconds=second))
    assert causes(ringer) == ["event-of-k-1/alert-on-rejected-file"]


@pytest.mark.parametrize(
    ("event", "automation"),
    [
        ("inbox.overdue", "alert-on-overdue-file"),
        ("inbox.recovered", "alert-on-overdue-file"),
        ("inbox.arrival.stalled", "alert-on-stalled-arrival"),
        ("inbox.files.rejected", "alert-on-rejected-file"),
        ("inbox.files.waiting", "alert-on-rejected-file"),
        ("inbox.columns.widened", "alert-on-widened-columns"),
    ],
)
def test_every_kind_of_notice_has_its_alert(
    missed: MissedAlerts, ledger: Ledger, ringer: AlertService, event: str, automation: str
) -> None:
    write(ledger, NOW, event)
    missed.ring_unsent(at(3600))
    assert causes(ringer) == [f"event-of-k-1/{automation}"]


def test_times_are_compared_whatever_their_zone(missed: MissedAlerts, server: PrefectServer) -> None:
    server.failed_run("r1", NOW.astimezone(ZoneInfo("Asia/Kathmandu")))
    assert missed.step((NOW + LATER).astimezone(UTC))
