"""The notification block, as Prefect and a person use it."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.abstract import NotificationError
from prefect.blocks.core import Block
from pydantic import ValidationError

from automations.block import AppriseAlerts
from tests.receiver import Receiver, receiving

# Apprise's mail plugin imports it, on the Pythons that have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "alerts.log"


def block(**fields: Any) -> AppriseAlerts:
    """Make the block as the server does, of plain strings."""
    return AppriseAlerts.model_validate(fields)


def test_prefect_finds_the_class_by_the_slug_of_its_block_type() -> None:
    assert Block.get_block_class_from_key("apprise-alerts") is AppriseAlerts


def test_prefect_takes_it_for_a_notification_block_with_secrets() -> None:
    assert AppriseAlerts.get_block_capabilities() == {"notify"}
    assert AppriseAlerts.model_json_schema()["secret_fields"] == ["urls", "routes"]


def test_an_alert_goes_to_every_url_and_into_the_log(receiver: Receiver, log: Path) -> None:
    urls = f"{receiver.url('one')}\n{receiver.url('two')}"
    block(urls=urls, log_file=str(log)).notify("Run: otter", "Failed")
    assert sorted(path for path, _ in receiver.posts) == ["/one", "/two"]
    assert [line.split("  ", 1)[1] for line in log.read_text().splitlines()] == [
        "Failed",
        "  Run: otter",
        "  delivered to 1 (JSON)",
        "  delivered to 2 (JSON)",
    ]


def test_without_urls_the_log_is_the_only_place_and_that_is_no_failure(log: Path) -> None:
    block(log_file=str(log)).notify("Run: otter", "Failed")
    assert "Failed" in log.read_text()


def test_a_url_that_fails_is_raised_for_prefect_to_record_without_its_credentials(
    receiver: Receiver, log: Path
) -> None:
    receiver.status = 500
    urls = f"{receiver.url()} {receiver.url('s3cr3tt0ken', user='me:hunter22@')}"
    with pytest.raises(NotificationError) as failure:
        block(urls=urls, log_file=str(log)).notify("body", "subject")
    assert "URL 1 (JSON): " in failure.value.log
    assert "URL 2 (JSON): " in failure.value.log
    for reported in (failure.value.log, log.read_text()):
        assert "s3cr3tt0ken" not in reported
        assert "hunter22" not in reported


def test_an_unwritable_log_fails_an_alert_that_is_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    with pytest.raises(NotificationError, match=r"alerts\.log"):
        block(log_file=str(tmp_path / "logs" / "alerts.log")).notify("body")


def test_an_unwritable_log_does_not_fail_an_alert_that_was_delivered(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    block(urls=receiver.url(), log_file=str(tmp_path / "logs" / "alerts.log")).notify("body")
    assert len(receiver.posts) == 1


def test_awaiting_it_leaves_the_event_loop_free_while_the_service_is_slow(
    receiver: Receiver,
) -> None:
    receiver.pause_seconds = 0.5
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def alert() -> None:
        ticking = asyncio.create_task(tick())
        sent: Any = block(urls=receiver.url()).notify("body", "subject")
        await sent
        ticking.cancel()

    asyncio.run(alert())
    assert len(receiver.posts) == 1
    assert ticks > 15


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"urls": "json://127.0.0.1 hunter22://x"}, "URL 2"),
        ({"urls": "slack://hunter22"}, "URL 1 (slack://...)"),
        ({"urls": ["hunter22"]}, "urls"),
        ({"log_file": "logs/alerts.log"}, "absolute path"),
        ({"log_file": "/etc/passwd"}, "ends in .log"),
        ({}, "go nowhere"),
    ],
)
def test_a_block_that_could_not_ring_is_refused_without_telling_a_secret(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        block(**fields)
    for reported in (str(error.value), repr(error.value)):
        assert expected in reported
        assert "hunter22" not in reported.replace("(hunter22://...)", "")


def test_the_urls_are_in_no_text_form_of_the_block() -> None:
    alerts = block(urls="json://me:hunter22@127.0.0.1")
    assert "hunter22" not in f"{alerts} {alerts!r} {alerts.model_dump()} {alerts.model_dump_json()}"
