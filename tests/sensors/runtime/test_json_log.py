"""The sensor's log as JSON: one object a line, by which an arrival can be followed."""

import io
import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.config.settings import Settings
from sensors.runs.announcer import Announcer
from sensors.runs.api import PrefectApi
from sensors.runs.facts import LostRuns
from sensors.runs.outcomes import RunFollower
from sensors.runs.receipts import EXECUTED, ReceiptFinder
from sensors.runtime.json_logging import LogFormat, about_arrival, about_inbox, formatter
from sensors.stack.errors import StackError, checked_settings
from tests.dropped_arrivals import record_arrival

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
ARRIVAL = "metrics-20261124-090000-3f9a1c"


@pytest.fixture
def log():
    """Give what our loggers write as JSON."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter(LogFormat.JSON))
    ours = logging.getLogger("sensors")
    ours.addHandler(handler)
    level = ours.level
    ours.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    ours.removeHandler(handler)
    ours.setLevel(level)


def test_a_record_is_a_line_with_its_time_in_utc_and_what_it_is_about(log):
    logging.getLogger("sensors.x").warning("arrival %s: two\nlines", ARRIVAL, extra=about_arrival(ARRIVAL))
    [line] = log()
    assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
    del line["time"]
    assert line == {
        "level": "WARNING",
        "logger": "sensors.x",
        "message": f"arrival {ARRIVAL}: two\nlines",
        "thread": "MainThread",
        "arrival_id": ARRIVAL,
        "inbox": "metrics",
    }


def test_an_inbox_whose_name_has_hyphens_is_read_off_the_id_as_well():
    assert about_arrival("web-shop-orders-20261124-090000-3f9a1c")["inbox"] == "web-shop-orders"


def test_a_record_about_an_inbox_has_no_arrival_and_one_about_neither_has_neither(log):
    logging.getLogger("sensors.x").info("one", extra=about_inbox("orders"))
    logging.getLogger("sensors.x").info("two")
    one, two = log()
    assert one["inbox"] == "orders"
    assert "arrival_id" not in one
    assert {"arrival_id", "inbox"}.isdisjoint(two)


def test_a_traceback_stays_in_its_line(log):
    logging.getLogger("sensors.x").error("it went wrong", exc_info=RuntimeError("boom"))
    [line] = log()
    assert "RuntimeError: boom" in line["exception"]


def test_the_usual_log_is_text_for_a_person():
    record = logging.LogRecord("sensors.x", logging.INFO, __file__, 1, "watching %s", ("a",), sys.exc_info())
    assert "INFO    watching a" in formatter(LogFormat.TEXT).format(record)
    assert Settings().log_format is LogFormat.TEXT


def test_the_format_is_a_setting_and_a_wrong_one_is_reported_with_those_that_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert checked_settings().log_format is LogFormat.JSON
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(StackError, match="LOG_FORMAT: Input should be 'text' or 'json', got 'xml'"):
        checked_settings()


def test_an_arrival_can_be_followed_by_its_id_from_its_announcement_to_its_outcome(
    log, ledger, server, hand_clock, tmp_path
):
    record_arrival(ledger, ARRIVAL, NOW, {"a.csv": "staged"}, state="staged")
    failed = FailedFolder(ledger, tmp_path / "failed")
    with PrefectApi(server.url, None) as api:
        Announcer(ledger, api, hand_clock.clock).step()
        server.action(EXECUTED, server.emitted[0]["id"])
        run = {"prefect.resource.role": "flow-run", "prefect.resource.id": "prefect.flow-run.r1"}
        server.events[0]["related"].append(run)
        ReceiptFinder(ledger, api, failed, hand_clock.clock).step()
        server.run("r1", "COMPLETED", ARRIVAL)
        RunFollower(ledger, api, failed, LostRuns(api, hand_clock.clock), hand_clock.clock).step()
    messages = [line["message"] for line in log() if line.get("arrival_id") == ARRIVAL]
    assert [message.split(": ")[1].split()[0] for message in messages] == ["announced", "run", "loaded"]
