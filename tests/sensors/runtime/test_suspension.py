"""A process that was suspended draws no conclusions from the time in which it did not run."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from automations.alert_service import AlertService, automations_in_files
from sensors.alerts.overdue_runs import LostRunAlerts
from sensors.alerts.reconcile import MissedAlerts
from sensors.alerts.server_watch import ServerSilence
from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.daemon.inbox_loops import AFTER_START_SECONDS, Housekeeping
from sensors.files.stability import Writer
from sensors.inbox import scanner
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger
from sensors.ledger.arrivals import Arrival
from sensors.ledger.states import ArrivalState
from sensors.runs.api import PrefectApi, Run
from sensors.runs.facts import SILENT_FOR, LostRuns
from sensors.runs.receipts import FIRST_WAIT, is_overdue
from sensors.runtime.clock import LIMIT_SECONDS, Clock, Suspensions
from sensors.runtime.loop import STUCK_SECONDS, Loop
from tests.hand_clock import HandClock
from tests.prefect_server import PrefectServer
from tests.sensors.inbox.test_intake import names_staged, new_intake


class SleepyClock(HandClock):
    """A clock turned by hand that ticks as it is turned, unless it sleeps."""

    def __post_init__(self) -> None:
        self.suspensions = Suspensions(lambda: self.seconds, lambda: self.now, lambda: self.seconds)
        self.clock = Clock(lambda: self.now, lambda: self.seconds, self.suspensions.resumed)

    def run(self, seconds: float) -> None:
        """Let time pass while the process runs."""
        for _ in range(round(seconds)):
            self.turn(1)
            self.suspensions.resumed()

    def sleep(self, seconds: float) -> None:
        """Let time pass while the process is suspended."""
        self.turn(seconds)


@pytest.fixture
def sleepy() -> SleepyClock:
    return SleepyClock()


def test_a_process_that_ticks_was_never_suspended(sleepy: SleepyClock) -> None:
    sleepy.run(3600)
    assert sleepy.clock.resumed() is None


def test_a_tick_that_is_only_late_is_no_suspension(sleepy: SleepyClock) -> None:
    sleepy.sleep(LIMIT_SECONDS)
    assert sleepy.clock.resumed() is None


def test_the_first_to_ask_after_a_suspension_hears_of_it_before_any_tick(sleepy: SleepyClock) -> None:
    sleepy.run(60)
    sleepy.sleep(185)
    resumed = sleepy.clock.resumed()
    assert resumed is not None
    assert resumed.at == sleepy.now
    sleepy.run(30)
    assert sleepy.clock.resumed() == resumed


def test_silence_counts_from_the_end_of_the_suspension_on(sleepy: SleepyClock) -> None:
    before = sleepy.now
    sleepy.sleep(185)
    assert sleepy.clock.not_before_resumed(before) == sleepy.now
    later = sleepy.now + timedelta(seconds=5)
    sleepy.run(10)
    assert sleepy.clock.not_before_resumed(later) == later


def test_a_suspension_of_a_clock_that_was_set_back_since_delays_nothing(sleepy: SleepyClock) -> None:
    sleepy.sleep(185)
    sleepy.clock.resumed()
    sleepy.now -= timedelta(hours=2)
    assert sleepy.clock.not_before_resumed(sleepy.now) == sleepy.now


def test_the_machines_own_clock_is_watched_by_a_thread() -> None:
    suspensions = Suspensions()
    suspensions.start()
    assert suspensions.resumed() is None
    suspensions.stop()


# -- every verdict that rests on silence


def test_a_run_is_not_lost_because_it_and_the_sensor_were_suspended_but_when_it_is_silent_after_that(
    sleepy: SleepyClock, server: PrefectServer
) -> None:
    lost = LostRuns(PrefectApi(server.url, None), sleepy.clock)
    run = Run("r1", "otter", "Running", "RUNNING", "", ended=False, since=sleepy.now)
    sleepy.run(60)
    sleepy.sleep(185)
    assert lost.why_lost(run) == ""
    sleepy.run(SILENT_FOR.seconds - 1)
    assert lost.why_lost(run) == ""
    sleepy.run(2)
    assert lost.why_lost(run) == "its process has given no sign of life for 100 s"


def test_a_run_is_not_lost_on_evidence_from_before_a_suspension(
    sleepy: SleepyClock, server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = PrefectApi(server.url, None)
    ask = api.has_event

    def ask_and_sleep(name: str | None, resource_id: str, since: datetime) -> bool:
        answer = ask(name, resource_id, since)
        sleepy.sleep(185)
        return answer

    monkeypatch.setattr(api, "has_event", ask_and_sleep)
    run = Run("r1", "otter", "Running", "RUNNING", "", ended=False, since=sleepy.now)
    sleepy.run(SILENT_FOR.seconds + 1)
    assert LostRuns(api, sleepy.clock).why_lost(run) == ""


def test_no_lost_run_is_reported_because_it_and_the_sensor_were_suspended(
    sleepy: SleepyClock, server: PrefectServer, ringer: AlertService, ledger: Ledger
) -> None:
    api = PrefectApi(server.url, None)
    missed = MissedAlerts(api, ringer, ledger, "http://127.0.0.1:4200", automations_in_files())
    alerts = LostRunAlerts(api, missed, timedelta(seconds=120), sleepy.clock)
    run = server.failed_run("r1", sleepy.now, "Running")
    run["state_type"] = run["state"]["type"] = "RUNNING"
    heartbeat = {"prefect.resource.id": "prefect.flow-run.r1"}
    server.events.append(
        {"event": "prefect.flow-run.heartbeat", "resource": heartbeat, "occurred": sleepy.now.isoformat()}
    )
    sleepy.run(30)
    sleepy.sleep(185)
    for _ in range(11):
        alerts.step(sleepy.now)
        sleepy.run(10)
    assert server.emitted == []
    sleepy.run(20)
    alerts.step(sleepy.now)
    assert [event["event"] for event in server.emitted] == ["run.stuck"]


def test_the_server_is_not_silent_because_no_one_listened(sleepy: SleepyClock, ringer: AlertService) -> None:
    silence = ServerSilence(ringer, "http://127.0.0.1:4200", timedelta(seconds=60), sleepy.clock)
    silence.not_heard("no answer", sleepy.now)
    sleepy.sleep(185)
    for _ in range(60):
        silence.not_heard("no answer", sleepy.now)
        sleepy.run(1)
    assert ringer.bell.outbox.rows("SELECT 1 FROM alerts") == []
    silence.not_heard("no answer", sleepy.now)
    assert len(ringer.bell.outbox.rows("SELECT 1 FROM alerts")) == 1


def test_a_receipt_is_not_overdue_because_no_one_looked_for_it(sleepy: SleepyClock) -> None:
    arrival = Arrival("a", "metrics", Path("/a"), ArrivalState.ANNOUNCED, 7, sleepy.now, None, None, unanswered=1)
    sleepy.sleep(185)
    assert not is_overdue(arrival, sleepy.now, sleepy.clock.not_before_resumed)
    sleepy.run(FIRST_WAIT.seconds)
    assert is_overdue(arrival, sleepy.now, sleepy.clock.not_before_resumed)


def test_a_loop_is_not_stuck_because_the_process_was_suspended(sleepy: SleepyClock) -> None:
    loop = Loop("prefect", lambda: 60.0, sleepy.clock)
    sleepy.run(30)
    sleepy.sleep(185)
    assert loop.silent_seconds == 0
    sleepy.run(STUCK_SECONDS)
    assert loop.silent_seconds == STUCK_SECONDS


def test_a_file_does_not_settle_in_the_time_in_which_its_writer_was_suspended_together_with_the_sensor(
    sleepy: SleepyClock, inbox: Inbox, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "_observed", lambda place: (Writer.UNKNOWN, place.identity()))  # a network mount
    watch = Watch(inbox.path, polling=True)
    intake = new_intake(inbox, watch, ledger, tmp_path, sleepy)
    written = inbox.path / "a.csv"
    written.write_text("half of what ")
    intake.step()
    sleepy.run(1)
    intake.step()
    sleepy.sleep(185)
    intake.step()
    intake.step()
    assert names_staged(tmp_path) == []
    written.write_text("half of what is in it")
    for _ in range(round(inbox.unproven_quiet_seconds) + 3):
        sleepy.run(1)
        intake.step()
    assert [path.read_text() for path in (tmp_path / "arrivals").glob("*/*/[!.]*")] == ["half of what is in it"]
    watch.close()


def test_nothing_is_called_overdue_before_what_came_meanwhile_was_seen(sleepy: SleepyClock, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path)  # pyright: ignore[reportCallIssue]
    housekeeping = Housekeeping(settings, [], sleepy.clock)
    sleepy.run(AFTER_START_SECONDS)
    assert housekeeping.step() < AFTER_START_SECONDS
    sleepy.sleep(185)
    assert housekeeping.step() == AFTER_START_SECONDS
