"""What the tests of the bell post, and what is configured in them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from automations.delivery.channels import ALERTS, Policy
from automations.delivery.enqueue import NewAlert
from automations.delivery.models import Alert, AlertMetadata

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LOCAL = "json://127.0.0.1/alerts"


def at(seconds: float) -> datetime:
    """Return a moment so many seconds after nine o'clock."""
    return NOW + timedelta(seconds=seconds)


def posting(cause: str = "c-1", *, subject: str = "", body: str = "Run: otter", block: str = ALERTS, **more: Any):
    """Return an alert about something."""
    return NewAlert(Alert.of(subject or f"Failed: {cause}", body), AlertMetadata(id=cause, **more), block)


def policy(*urls: str, **more: str) -> Policy:
    """Return a policy; without URLs one channel on this machine at which nobody listens."""
    texts = {"fallback_urls": "", "routes": "", "storm": "5/10m", "silence": "", "silence_except": "", **more}
    return Policy.read(urls=" ".join(urls or (LOCAL,)), **texts)
