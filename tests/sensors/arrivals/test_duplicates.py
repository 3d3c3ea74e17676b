"""Duplicates by content, as the intake takes, skips or refuses them."""

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Duplicates
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import arrivals
from sensors.ledger.states import ArrivalState, FileState
from sensors.reports.arrivals import balance


@pytest.fixture
def intake(request, inbox, ledger, tmp_path, hand_clock):
    inbox = inbox.model_copy(update={"duplicates": request.param, "max_in_flight": 100})
    stager = Stager(ledger, tmp_path / "arrivals", hand_clock.clock)
    rejections = Rejections(inbox, ledger, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)
    return Intake(inbox, Watch(inbox.path, polling=True), ledger, stager, rejections, hand_clock.clock)


@pytest.fixture
def drop(intake, hand_clock):
    def write_and_wait(**files: str) -> None:
        for name, text in files.items():
            (intake.inbox.path / f"{name}.csv").write_text(text)
        for _ in range(6):
            hand_clock.turn(1.1)
            intake.step()

    return write_and_wait


def states(ledger) -> dict[str, str]:
    return {row["name"]: row["state"] for row in ledger.rows("SELECT name, state FROM files ORDER BY id")}


def reason(ledger, name: str) -> str:
    return ledger.rows("SELECT reason FROM files WHERE name = ? ORDER BY id DESC", (name,))[0]["reason"]


@pytest.mark.parametrize("intake", [Duplicates.LOAD], indirect=True)
def test_as_it_comes_an_inbox_takes_the_same_content_twice(intake, drop, ledger):
    drop(a="x")
    drop(b="x")
    assert states(ledger) == {"a.csv": "staged", "b.csv": "staged"}


@pytest.mark.parametrize("intake", [Duplicates.SKIP], indirect=True)
def test_a_duplicate_that_is_skipped_is_kept_recorded_and_never_announced(intake, drop, ledger, hand_clock, tmp_path):
    drop(a="x")
    drop(b="x", c="y")
    assert states(ledger) == {"a.csv": "staged", "b.csv": "skipped", "c.csv": "staged"}
    (first,) = [one.id for one in arrivals.to_announce(ledger, hand_clock.now)][:1]
    assert reason(ledger, "b.csv") == f"a duplicate: the same content as a.csv of arrival {first}"
    (skipped,) = arrivals.in_state(ledger, ArrivalState.SKIPPED)
    assert (skipped.folder / "b.csv").read_text() == "x"
    assert list(intake.inbox.path.iterdir()) == []
    counts = {
        FileState(row["state"]): row["n"] for row in ledger.rows("SELECT state, count(*) n FROM files GROUP BY 1")
    }
    assert balance(counts).loaded == 1
    assert balance(counts).in_flight == 2


@pytest.mark.parametrize("intake", [Duplicates.SKIP], indirect=True)
def test_of_two_that_come_together_the_second_is_the_duplicate(intake, drop, ledger):
    drop(a="x", b="x")
    assert sorted(states(ledger).values()) == ["skipped", "staged"]


@pytest.mark.parametrize("intake", [Duplicates.SKIP], indirect=True)
def test_what_failed_may_come_again(intake, drop, ledger):
    drop(a="x")
    ledger.change("UPDATE files SET state = 'failed'")
    ledger.change("UPDATE arrivals SET state = 'failed'")
    drop(b="x")
    assert states(ledger)["b.csv"] == "staged"


@pytest.mark.parametrize("intake", [Duplicates.REJECT], indirect=True)
def test_a_duplicate_that_is_rejected_stays_is_linked_and_reported_once(intake, drop, ledger, tmp_path):
    drop(a="x")
    drop(b="x")
    drop(c="z")
    assert states(ledger) == {"a.csv": "staged", "b.csv": "rejected", "c.csv": "staged"}
    assert "a duplicate: the same content as a.csv" in reason(ledger, "b.csv")
    assert (intake.inbox.path / "b.csv").read_text() == "x"
    assert (tmp_path / "failed" / "inboxes" / "metrics" / "links" / "b.csv").read_text() == "x"
    (notice,) = ledger.rows("SELECT payload FROM notices")
    assert "1 file rejected in inbox metrics" in notice["payload"]


@pytest.mark.parametrize("intake", [Duplicates.REJECT], indirect=True)
def test_a_rejected_duplicate_that_gets_other_content_is_taken(intake, drop, ledger):
    drop(a="x")
    drop(b="x")
    drop(b="something else")
    rows = ledger.rows("SELECT state FROM files WHERE name = 'b.csv' ORDER BY id")
    assert [row["state"] for row in rows] == ["withdrawn", "staged"]
