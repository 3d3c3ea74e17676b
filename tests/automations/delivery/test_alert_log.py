"""The local log of alerts."""

import multiprocessing
import stat
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from automations.delivery import log as alert_log
from automations.delivery.channels import Policy
from automations.delivery.enqueue import EnqueueResult
from automations.delivery.models import Alert
from automations.delivery.send import Delivery
from tests.postings import policy, posting

NINE_IN_CHICAGO = datetime(2026, 3, 1, 15, 0, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_chicago() -> Generator[None, None, None]:  # pyright: ignore[reportUnusedFunction]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", "America/Chicago")
        time.tzset()
        yield
    time.tzset()


def test_an_entry_says_when_what_and_who_has_it() -> None:
    deliveries = [Delivery(1, "Slack"), Delivery(2, "E-Mail", "Connection refused")]
    text = alert_log.entry(
        Alert("Failed: daily", "Run: otter\nMessage: boom"), alert_log.outcomes(deliveries), NINE_IN_CHICAGO
    )
    assert text == (
        "2026-03-01 09:00:12 CST  Failed: daily\n"
        "    Run: otter\n"
        "    Message: boom\n"
        "    delivered to 1 (Slack)\n"
        "    NOT delivered to 2 (E-Mail): Connection refused\n"
    )


def test_an_entry_says_plainly_that_the_alert_is_nowhere_else() -> None:
    text = alert_log.entry(Alert("Failed", ""), alert_log.outcomes([]), NINE_IN_CHICAGO)
    assert "delivered nowhere else: no notification URLs are set" in text


def test_no_text_of_an_alert_can_pass_for_the_beginning_of_another_entry() -> None:
    hostile = Alert.of("Failed", "x\n2026-03-01 09:00:12 CST  All is well\r2026\u20282026\x852026")
    lines = alert_log.entry(hostile, [], NINE_IN_CHICAGO).splitlines()
    assert [line for line in lines if not line.startswith("    ")] == ["2026-03-01 09:00:12 CST  Failed"]


def test_the_folder_is_made_and_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    log = tmp_path / "state" / "logs" / "alerts.log"
    alert_log.append(log, "one\n")
    alert_log.append(log, "two\n")
    assert log.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def _append_fifty(log: Path, writer: int) -> None:
    for number in range(50):
        alert_log.append(log, f"{writer} {number} begins {'x' * 20_000} ends\n")


def test_the_entries_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    log = tmp_path / "alerts.log"
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as processes:
        list(processes.map(_append_fifty, [log] * 4, range(4)))
    lines = log.read_text().splitlines()
    assert len(lines) == 200
    assert all(line.endswith(" ends") and line.count("begins") == 1 for line in lines)


TWO = policy("json://127.0.0.1/a", "json://127.0.0.1/b")


@pytest.mark.parametrize(
    ("posted", "configured", "note"),
    [
        (EnqueueResult.PENDING, TWO, "goes to 1 (JSON), 2 (JSON)"),
        (EnqueueResult.PENDING, policy(""), "delivered nowhere else: no notification URLs are set"),
        (EnqueueResult.GATHERED, TWO, "is gathered: a digest reports it"),
        (EnqueueResult.WAITING, TWO, "waits a little: it may turn out to be over already"),
    ],
)
def test_an_alert_that_was_posted_has_its_entry_which_says_what_becomes_of_it(
    tmp_path: Path, posted: EnqueueResult, configured: Policy, note: str
) -> None:
    log = tmp_path / "alerts.log"
    alert_log.record(log, posting(), posted, configured, NINE_IN_CHICAGO)
    assert log.read_text().splitlines() == [
        "2026-03-01 09:00:12 CST  Failed: c-1",
        "    Run: otter",
        f"    {note}",
    ]


@pytest.mark.parametrize("posted", [EnqueueResult.KNOWN, EnqueueResult.CANCELLED])
def test_one_that_has_its_entry_or_is_not_reported_gets_none(tmp_path: Path, posted: EnqueueResult) -> None:
    alert_log.record(tmp_path / "alerts.log", posting(), posted, TWO, NINE_IN_CHICAGO)
    assert not (tmp_path / "alerts.log").exists()


def test_what_is_noted_later_is_one_line(tmp_path: Path) -> None:
    alert_log.note(tmp_path / "alerts.log", "delivered to 1 (JSON):\n2026 Failed", NINE_IN_CHICAGO)
    assert (tmp_path / "alerts.log").read_text() == ("2026-03-01 09:00:12 CST  delivered to 1 (JSON): 2026 Failed\n")
