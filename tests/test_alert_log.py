"""The local log of alerts."""

import multiprocessing
import stat
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from automations.alerting import alert_log
from automations.alerting.alert import Alert
from automations.alerting.delivery import Delivery

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
    text = alert_log.entry(Alert("Failed: daily", "Run: otter\nMessage: boom"), deliveries, NINE_IN_CHICAGO)
    assert text == (
        "2026-03-01 09:00:12 CST  Failed: daily\n"
        "    Run: otter\n"
        "    Message: boom\n"
        "    delivered to 1 (Slack)\n"
        "    NOT delivered to 2 (E-Mail): Connection refused\n"
    )


def test_an_entry_says_plainly_that_the_alert_is_nowhere_else() -> None:
    text = alert_log.entry(Alert("Failed", ""), [], NINE_IN_CHICAGO)
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
