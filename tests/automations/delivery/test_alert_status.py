"""What the status and the page say of alerts that did not get through, or perhaps did."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from automations.delivery import deliver
from automations.delivery.enqueue import post
from automations.delivery.outbox import Outbox
from sensors.config.settings import Settings
from sensors.reports.days import PendingAlerts, read_pending_alerts
from sensors.reports.files import NeedsAttention, read_alerts
from sensors.web.attention import attention_of
from tests.postings import policy, posting


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, state_dir=tmp_path)  # pyright: ignore[reportCallIssue]


def leave(settings: Settings, *, is_open: bool) -> None:
    """Have the one alert fail, or left without an answer."""
    [channel] = policy().channels("alerts", ())
    now = datetime.now(UTC)
    with Outbox(settings.state_dir / "alerts.db") as outbox:
        post(outbox, posting(), policy(), now)
        claimed = deliver.claim(outbox, channel.id, now)
        assert claimed is not None
        deliver.record_failed(outbox, claimed, channel, "no answer", now, is_open=is_open)
        outbox.change("UPDATE channels SET failing_since = '2026-01-01T00:00:00+00:00'")


def test_an_alert_that_was_sent_without_an_answer_is_perhaps_delivered(settings: Settings) -> None:
    leave(settings, is_open=True)
    found = read_alerts(settings)
    assert (found.undelivered, found.perhaps_delivered) == (0, 1)
    [line] = found.needs_a_person
    assert line.startswith("1 alerts are perhaps delivered: sent, and no answer came, the oldest at ")
    [matter] = attention_of(NeedsAttention(), found, (), 0).matters
    assert matter.title == "Alerts are perhaps delivered"
    assert read_pending_alerts(settings.state_dir / "alerts.db") == PendingAlerts(1, 1)


def test_one_that_was_not_taken_is_not(settings: Settings) -> None:
    leave(settings, is_open=False)
    found = read_alerts(settings)
    assert (found.undelivered, found.perhaps_delivered) == (1, 0)
    assert "are not delivered to 1 (JSON)" in found.needs_a_person[0]
