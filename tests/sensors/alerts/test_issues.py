"""Issues of the sensor itself: what is one, and when it is worth an alert."""

import errno
import sqlite3
from collections.abc import Callable

import pytest

from automations.alert_service import OutboxError
from sensors.alerts.issues import (
    ADOPTED_CALM_SECONDS,
    CALM_SECONDS,
    ChangeKind,
    Issue,
    IssueTracker,
    issues_of,
    kind_of,
)
from sensors.files.file_systems import DiskSpaceError
from sensors.ledger import LedgerError
from sensors.runs.api import ApiError, NotReachedError
from sensors.runtime.clock import Clock
from sensors.runtime.loop import STUCK_SECONDS, Loop
from tests.hand_clock import HandClock

PATIENCE = 60.0


def issue(key: str = "ledger", *parts: str, **more: object) -> Issue:
    return Issue(key, f"title of {key}", dict.fromkeys(parts or ("announce",), "why"), "mend", **more)  # pyright: ignore[reportArgumentType]


def turns(tracker: IssueTracker, issues: list[Issue], seconds: range) -> list[tuple[int, ChangeKind]]:
    """Look once a second; return what was worth an alert, and when."""
    return [(second, change.turn) for second in seconds for change in tracker.look(issues, second)]


@pytest.fixture
def tracker() -> IssueTracker:
    return IssueTracker(PATIENCE)


def test_an_issue_is_reported_once_when_it_has_lasted_and_once_when_it_is_over(tracker: IssueTracker) -> None:
    assert turns(tracker, [issue()], range(500)) == [(60, ChangeKind.BEGUN)]
    assert turns(tracker, [], range(500, 1000)) == [(499 + CALM_SECONDS, ChangeKind.OVER)]


def test_one_that_is_over_before_its_time_is_not_reported(tracker: IssueTracker) -> None:
    assert turns(tracker, [issue()], range(59)) == []
    assert turns(tracker, [], range(59, 500)) == []


def test_a_step_that_succeeds_now_and_then_ends_nothing(tracker: IssueTracker) -> None:
    found: list[ChangeKind] = []
    for second in range(600):
        issues = [] if second % 20 > 15 else [issue()]
        found += [change.turn for change in tracker.look(issues, second)]
    assert found == [ChangeKind.BEGUN]


def test_it_is_one_alert_however_many_loops_fail_for_the_same_cause(tracker: IssueTracker) -> None:
    assert turns(tracker, [issue("ledger", "announce")], range(70)) == [(60, ChangeKind.BEGUN)]
    assert turns(tracker, [issue("ledger", "announce", "inbox metrics")], range(70, 500)) == []


def test_another_loop_that_gets_stuck_later_is_another_alert(tracker: IssueTracker) -> None:
    def stuck(*names: str) -> Issue:
        return issue("stuck", *names, patience_seconds=0, grows=True)

    assert turns(tracker, [stuck("inbox a")], range(100)) == [(0, ChangeKind.BEGUN)]
    assert turns(tracker, [stuck("inbox a", "inbox b")], range(100, 200)) == [(100, ChangeKind.GROWN)]
    assert turns(tracker, [stuck("inbox a")], range(200, 300)) == []
    assert turns(tracker, [], range(300, 400)) == [(299 + CALM_SECONDS, ChangeKind.OVER)]


def test_what_began_before_a_suspension_has_its_time_again(tracker: IssueTracker) -> None:
    tracker.look([issue()], 0)
    assert tracker.look([issue()], 185, 185) == []
    assert tracker.look([issue()], 244, 185) == []
    assert [change.turn for change in tracker.look([issue()], 245, 185)] == [ChangeKind.BEGUN]


def test_after_a_restart_what_lasts_is_not_reported_again_and_its_end_is(tracker: IssueTracker) -> None:
    tracker.adopt({"ledger": "The ledger cannot be used", "page": "The drop page does not answer"}, 0)
    changes = [
        (second, change.turn, change.issue.title)
        for second in range(300)
        for change in tracker.look([issue("ledger")], second)
    ]
    assert changes == [(ADOPTED_CALM_SECONDS, ChangeKind.OVER, "The drop page does not answer")]


# -- what is wrong with loops


def failing(name: str, error: BaseException, clock: Clock) -> Loop:
    loop = Loop(name, lambda: 60.0, clock)
    loop.error, loop.trouble = error, f"{type(error).__name__}: {error}"
    return loop


def locked() -> sqlite3.OperationalError:
    return sqlite3.OperationalError("database is locked")


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


@pytest.mark.parametrize(
    ("error", "loop", "kind"),
    [
        (locked(), "inbox metrics", "ledger"),
        (locked(), "bell", "outbox"),
        (full(), "bell", "disk full"),
        (OSError(errno.ENOSPC, "No space left on device"), "inbox metrics", "disk full"),
        (DiskSpaceError("nearly full"), "announce", "disk full"),
        (OSError(errno.EMFILE, "Too many open files"), "inbox metrics", "descriptors"),
        (NotReachedError("no server listens: [Errno 24] Too many open files"), "prefect", "descriptors"),
        (LedgerError("the ledger is corrupt"), "prefect", "ledger"),
        (OutboxError("cannot be opened"), "bell", "outbox"),
        (ApiError("500"), "prefect", "api"),
        (PermissionError(errno.EACCES, "Permission denied"), "inbox metrics", "loop inbox metrics"),
        (KeyError("x"), "run names", "loop run names"),
    ],
)
def test_errors_with_one_cause_are_one_kind(error: BaseException, loop: str, kind: str) -> None:
    assert kind_of(error, loop) == kind


def test_loops_that_fail_for_one_cause_are_one_issue(hand_clock: HandClock) -> None:
    clock = hand_clock.clock
    loops = [failing(name, locked(), clock) for name in ("announce", "inbox metrics", "watchman")]
    loops.append(failing("inbox other", PermissionError("no"), clock))
    found = issues_of(loops, is_server_silent=False)
    assert {key: sorted(one.parts) for key, one in found.items()} == {
        "ledger": ["announce", "inbox metrics", "watchman"],
        "loop inbox other": ["inbox other"],
    }
    assert found["ledger"].detail == "announce, inbox metrics, watchman: OperationalError: database is locked"


@pytest.mark.parametrize(("is_server_silent", "expected"), [(True, []), (False, ["api"])])
def test_what_a_silent_server_costs_the_loops_has_its_own_alert(
    hand_clock: HandClock, is_server_silent: bool, expected: list[str]
) -> None:
    loops = [failing("announce", NotReachedError("no server listens"), hand_clock.clock)]
    assert list(issues_of(loops, is_server_silent=is_server_silent)) == expected


def test_while_the_watchman_cannot_say_whether_the_server_is_silent_only_its_own_trouble_is_an_issue(
    hand_clock: HandClock,
) -> None:
    loops = [failing("announce", NotReachedError("no server listens"), hand_clock.clock)]
    loops.append(failing("watchman", OSError(errno.EMFILE, "Too many open files"), hand_clock.clock))
    assert list(issues_of(loops, is_server_silent=False)) == ["descriptors"]


@pytest.fixture
def run(hand_clock: HandClock) -> Callable[[str, Callable[[], float]], Loop]:
    def start(name: str, step: Callable[[], float]) -> Loop:
        loop = Loop(name, step, hand_clock.clock)
        loop.start()
        return loop

    return start


def test_a_loop_that_hangs_in_a_step_is_stuck_after_a_minute(
    hand_clock: HandClock, run: Callable[[str, Callable[[], float]], Loop]
) -> None:
    import threading

    begun, over = threading.Event(), threading.Event()

    def hang() -> float:
        begun.set()
        over.wait(20)  # as a folder of a network that does not answer
        return 60

    loop = run("inbox metrics", hang)
    assert begun.wait(5)
    hand_clock.turn(STUCK_SECONDS - 1)
    assert issues_of([loop], is_server_silent=False) == {}
    hand_clock.turn(1)
    assert list(issues_of([loop], is_server_silent=False)) == ["stuck"]
    loop.stop()
    over.set()
    loop.join(5)


def test_a_thread_that_has_ended_by_itself_is_an_issue(
    hand_clock: HandClock, run: Callable[[str, Callable[[], float]], Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "_one_step", lambda _: float("nan"))  # nothing waits for that long
    loop = run("inbox metrics", lambda: 60.0)
    loop.stop()
    loop.join(5)
    loop._stopping = False
    assert list(issues_of([loop], is_server_silent=False)) == ["ended"]
