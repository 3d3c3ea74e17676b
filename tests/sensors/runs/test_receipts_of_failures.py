"""What becomes of an arrival whose run is not started: the pauses, the limit, and who is told."""

from datetime import timedelta

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.ledger import announcements, arrivals, notices
from sensors.ledger.announcements import Announcement, Receipt
from sensors.runs.api import EVENTS_PAGE, PrefectApi
from sensors.runs.receipts import (
    EXECUTED,
    FAILED,
    FAILED_LIMIT,
    FIRST_WAIT,
    STALLED,
    STALLED_ATTEMPTS,
    ReceiptFinder,
    patience,
)
from tests.prefect_server import prefect_answering


@pytest.fixture
def api():
    with prefect_answering() as server:
        yield server


@pytest.fixture
def clerk(ledger, api, tmp_path, hand_clock):
    with PrefectApi(api.url, None) as client:
        yield ReceiptFinder(ledger, client, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)


@pytest.fixture
def arrival(ledger, tmp_path):
    folder = tmp_path / "arrivals" / "m-1"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("a")
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES ('m-1', 'metrics', ?, 'staged', '2026')",
        (str(folder),),
    )
    ledger.change(
        "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
        " VALUES ('metrics', 'a', 'a.csv', '1', '1', 1, 1, 'staged', 'm-1', '2026')"
    )
    return "m-1"


def announce(ledger, hand_clock, arrival: str) -> Announcement:
    before = arrivals.get(ledger, arrival)
    made = Announcement(f"event-{before.attempt + 1}", arrival, before.attempt + 1, hand_clock.now)
    assert announcements.record_intent(ledger, made)
    return made


def fail(clerk, api, announcement: Announcement, reason: str = "Deployment 'x' not found") -> None:
    api.action(FAILED, announcement.event_id, reason=reason)
    clerk.step()
    api.events.clear()


def test_after_a_failed_action_it_is_announced_again_with_growing_pauses(ledger, clerk, api, hand_clock, arrival):
    pauses: list[float] = []
    for _ in range(FAILED_LIMIT - 1):
        fail(clerk, api, announce(ledger, hand_clock, arrival))
        waited = 0.0
        while not arrivals.to_announce(ledger, hand_clock.now):
            hand_clock.turn(0.5)
            waited += 0.5
        pauses.append(waited)
    assert pauses == [4, 8, 16, 32]


def test_a_receipt_is_found_behind_the_events_of_all_other_automations_that_react_to_arrivals(
    ledger, clerk, api, hand_clock, arrival
):
    made = announce(ledger, hand_clock, arrival)
    for _ in range(EVENTS_PAGE + 10):
        api.action(EXECUTED, made.event_id, action_type="send-notification")
    api.action(EXECUTED, made.event_id)
    run = {"prefect.resource.role": "flow-run", "prefect.resource.id": "prefect.flow-run.r1"}
    api.events[-1]["related"].append({**run, "prefect.resource.name": "otter"})
    assert clerk.step()
    assert arrivals.get(ledger, arrival).run_id == "r1"


def test_the_reason_is_shown_while_it_is_tried(ledger, clerk, api, hand_clock, arrival):
    fail(clerk, api, announce(ledger, hand_clock, arrival))
    (row,) = ledger.rows("SELECT reason FROM arrivals")
    assert row["reason"] == "no run was started: Deployment 'x' not found"


def fail_for_good(ledger, clerk, api, hand_clock, arrival) -> None:
    for _ in range(FAILED_LIMIT):
        fail(clerk, api, announce(ledger, hand_clock, arrival))
        hand_clock.turn(100)


def test_after_the_limit_it_has_failed_with_the_reason_and_the_report_says_what_to_do(
    ledger, clerk, api, hand_clock, arrival, tmp_path
):
    fail_for_good(ledger, clerk, api, hand_clock, arrival)
    ended = arrivals.get(ledger, arrival)
    assert ended.state == "failed"
    assert arrivals.to_announce(ledger, hand_clock.now) == []
    (row,) = ledger.rows("SELECT state, reason FROM files")
    assert tuple(row) == ("failed", "no run was started, 5 times: Deployment 'x' not found")
    assert (tmp_path / "failed" / "arrivals" / "m-1" / "links" / "a.csv").read_text() == "a"
    (reported,) = notices.unsent(ledger, 10)
    assert reported.notice.event == STALLED
    assert reported.notice.payload["subject"] == "Arrival m-1 has no run"
    assert "Next: put it right, then `just retry m-1`" in reported.notice.payload["text"]


def test_tried_again_by_a_person_it_has_all_its_attempts_once_more(ledger, clerk, api, hand_clock, arrival):
    fail_for_good(ledger, clerk, api, hand_clock, arrival)
    assert arrivals.record_replayed(ledger, arrival, ())
    fail(clerk, api, announce(ledger, hand_clock, arrival))
    assert arrivals.get(ledger, arrival).state == "staged"
    hand_clock.turn(100)
    for _ in range(FAILED_LIMIT - 1):
        fail(clerk, api, announce(ledger, hand_clock, arrival))
        hand_clock.turn(100)
    assert arrivals.get(ledger, arrival).state == "failed"
    assert len(notices.unsent(ledger, 10)) == 2, "each try is reported"


def test_a_missing_receipt_is_reported_once_and_it_goes_on(ledger, clerk, hand_clock, arrival):
    for attempt in range(1, STALLED_ATTEMPTS + 4):
        announce(ledger, hand_clock, arrival)
        clerk.step()
        assert arrivals.get(ledger, arrival).state == "announced"
        hand_clock.turn(patience(attempt).total_seconds())
        clerk.step()
        assert arrivals.get(ledger, arrival).state == "staged"
        assert len(notices.unsent(ledger, 10)) == (attempt >= STALLED_ATTEMPTS)


def test_the_failure_of_an_earlier_announcement_does_not_touch_a_later_one(ledger, clerk, api, hand_clock, arrival):
    first = announce(ledger, hand_clock, arrival)
    hand_clock.turn(patience(1).total_seconds())
    clerk.step()
    announce(ledger, hand_clock, arrival)
    fail(clerk, api, first)
    assert arrivals.get(ledger, arrival).state == "announced"
    assert hand_clock.now - arrivals.get(ledger, arrival).announced_at < timedelta(seconds=1)


def test_patience_grows_with_announcements_that_led_to_no_run_and_not_with_runs_that_crashed(
    ledger, clerk, hand_clock, arrival
):
    for attempt in range(1, 5):
        made = announce(ledger, hand_clock, arrival)
        announcements.record_receipt(ledger, Receipt(made.event_id, f"run-{attempt}", "run"), hand_clock.now)
        announcements.record_unannounced(ledger, arrival, hand_clock.now, "its run crashed")
    announce(ledger, hand_clock, arrival)
    assert arrivals.get(ledger, arrival).unanswered == 1
    hand_clock.turn(FIRST_WAIT.total_seconds())
    clerk.step()
    assert arrivals.get(ledger, arrival).state == "staged"
