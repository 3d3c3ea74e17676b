"""The bell at work: real receivers, real threads, and a clock that is handed in."""

import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from automations.alert_service import AlertService, Dispatcher, policy_of_blocks
from automations.delivery import deliver
from automations.delivery.channels import FALLBACK, Policy
from automations.delivery.enqueue import EnqueueResult, post
from automations.delivery.outbox import Outbox, OutboxError
from automations.sqlite_file import stamp
from tests.postings import policy, posting
from tests.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Generator[Receiver, None, None]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def opened(tmp_path: Path) -> Generator[Callable[[Policy], Dispatcher], None, None]:
    """Open bells on one outbox, and close them in the end."""
    bells: list[Dispatcher] = []

    def open_dispatcher(configured: Policy) -> Dispatcher:
        bell = Dispatcher(tmp_path / "alerts.db", tmp_path / "alerts.log", configured)
        bells.append(bell)
        return bell

    yield open_dispatcher
    for bell in bells:
        bell.close()


def now() -> datetime:
    return datetime.now(UTC)


def end_pauses(bell: Dispatcher) -> None:
    bell.outbox.change("UPDATE deliveries SET next_at = ''")
    bell.outbox.change("UPDATE channels SET rest_until = ''")


def ring_until(bell: Dispatcher, is_so: Callable[[], bool]) -> None:
    """Let the bell look again and again until something is so."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        bell.step(now())
        time.sleep(0.01)


def states(bell: Dispatcher) -> dict[str, str]:
    with Outbox(bell.outbox.path) as outbox:
        return {row["cause"]: row["state"] for row in outbox.rows("SELECT cause, state FROM alerts")}


def test_what_another_process_posts_is_delivered_without_waiting_for_the_next_look(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    configured = policy(receiver.url())
    bell = opened(configured)
    moment = now()
    bell.step(moment)
    with Outbox(bell.outbox.path) as another:
        post(another, posting(), configured, moment)
    bell.step(moment)
    deadline = time.monotonic() + 10
    while not receiver.posts and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(receiver.posts) == 1


def test_while_nothing_changes_it_looks_once_a_second(opened: Callable[[Policy], Dispatcher]) -> None:
    bell = opened(policy())
    bell.step(now())
    alive = Path(f"{bell.outbox.path}.alive")
    alive.unlink()
    bell.step(now())
    assert not alive.exists()
    bell.step(now() + timedelta(seconds=1.5))
    assert alive.exists()


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_set_stops_no_look(opened: Callable[[Policy], Dispatcher], hours: int) -> None:
    bell = opened(policy())
    bell.step(now())
    alive = Path(f"{bell.outbox.path}.alive")
    alive.unlink()
    bell.step(now() + timedelta(hours=hours))
    assert alive.exists()


def test_a_receiver_that_was_down_has_each_alert_once_in_the_end(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    configured = policy(receiver.url(), storm="99/1s")
    bell = opened(configured)
    receiver.status = 500
    ringer = AlertService(bell)
    for number in range(10):
        assert ringer.post(posting(f"c-{number}"), now()) is EnqueueResult.PENDING
    ring_until(bell, lambda: bool(bell.outbox.rows("SELECT 1 FROM channels")))
    receiver.status = 200
    receiver.posts.clear()
    end_pauses(bell)
    ring_until(bell, lambda: {*states(bell).values()} == {"delivered"})
    assert sorted(alert["title"] for _, alert in receiver.posts) == [f"Failed: c-{number}" for number in range(10)]
    ringer.close()


def test_a_receiver_that_hangs_holds_up_no_other(receiver: Receiver, opened: Callable[[Policy], Dispatcher]) -> None:
    with receiving() as hanging:
        hanging.pause_seconds = 1.5
        bell = opened(policy(hanging.url(), receiver.url(), storm="99/1s"))
        ringer = AlertService(bell)
        for number in range(5):
            ringer.post(posting(f"c-{number}"), now())
        begun = time.monotonic()
        ring_until(bell, lambda: len(receiver.posts) == 5)
        assert time.monotonic() - begun < 1.5
        ringer.close()
        bell.close()


def test_a_receiver_that_is_down_has_its_alerts_at_the_fallback_after_half_a_minute(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    bell = opened(policy("json://127.0.0.1:1/closed", fallback_urls=receiver.url("reserve")))
    ringer = AlertService(bell)
    ringer.post(posting(), now())
    ring_until(bell, lambda: bool(ringer.failing_channels(now() + timedelta(seconds=31))))
    assert receiver.posts == []
    bell.outbox.change("UPDATE alerts SET told_at = ?", (stamp(now() - timedelta(seconds=31)),))
    ring_until(bell, lambda: bool(receiver.posts))
    assert [where for where, _ in receiver.posts] == ["/reserve"]
    ringer.close()


def test_settings_that_are_older_than_the_servers_blocks_lose_nothing(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    on_the_page = policy(receiver.url())
    bell = opened(policy(""))  # nothing in .env
    post(bell.outbox, posting(), on_the_page, now())
    bell.step(now())
    assert states(bell) == {"c-1": "pending"}
    bell.policy = on_the_page
    ring_until(bell, lambda: states(bell) == {"c-1": "delivered"})
    assert len(receiver.posts) == 1


def test_what_waits_for_a_url_that_is_taken_away_goes_to_the_one_that_took_its_place(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    bell = opened(policy("json://127.0.0.1:1/closed"))
    post(bell.outbox, posting(), bell.policy, now())
    ring_until(bell, lambda: bool(bell.outbox.rows("SELECT 1 FROM channels")))
    bell.policy = policy(receiver.url())
    ring_until(bell, lambda: len(receiver.posts) == 1)


def test_a_policy_that_is_set_while_another_is_put_in_force_is_put_in_force_as_well(
    opened: Callable[[Policy], Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = policy("json://127.0.0.1:1/first"), policy("json://127.0.0.1:1/second")
    bell = opened(policy("json://127.0.0.1:1/old"))
    post(bell.outbox, posting(), bell.policy, now())
    retarget = deliver.retarget

    def set_meanwhile(outbox: Outbox, configured: Policy, moment: datetime) -> None:
        retarget(outbox, configured, moment)
        bell.policy = second

    monkeypatch.setattr(deliver, "retarget", set_meanwhile)
    bell.policy = first
    bell.step(now())
    bell.step(now())
    waiting = {row["channel"] for row in bell.outbox.rows("SELECT channel FROM deliveries")}
    assert waiting == set(second.all_channels)


def test_an_outbox_that_was_moved_away_is_not_served_any_longer(opened: Callable[[Policy], Dispatcher]) -> None:
    bell = opened(policy())
    bell.step(now())
    bell.outbox.path.rename(bell.outbox.path.with_name("broken.db"))
    with pytest.raises(OutboxError, match="moved away"):
        bell.step(now() + timedelta(seconds=2))


def test_a_dispatcher_that_is_closed_ends_with_the_alert_that_it_is_sending(
    receiver: Receiver, opened: Callable[[Policy], Dispatcher]
) -> None:
    receiver.pause_seconds = 0.2
    bell = opened(policy(receiver.url(), storm="999/1s"))
    for number in range(50):
        post(bell.outbox, posting(f"c-{number}"), bell.policy, now())
    ring_until(bell, lambda: bool(receiver.posts))
    bell.close()
    for thread in threading.enumerate():
        if thread.name.startswith("bell"):
            thread.join(5)
    assert len(receiver.posts) < 5
    with Outbox(bell.outbox.path) as outbox:
        assert outbox.rows("SELECT 1 FROM deliveries WHERE state = 'sending'") == []


def test_a_look_with_ten_thousand_alerts_waiting_is_quick(opened: Callable[[Policy], Dispatcher]) -> None:
    bell = opened(policy("json://127.0.0.1:1/a", "json://127.0.0.1:1/b", fallback_urls="json://127.0.0.1:1/f"))
    moment = now()
    rows = [(f"c-{number}", f"2026-11-24T09:00:{number:05}") for number in range(10_000)]
    with bell.outbox.transaction():
        for cause, posted in rows:
            bell.outbox.change(
                "INSERT INTO alerts VALUES (?, 'alerts', 'k', '', '[]', 'failure', 's', 'b', 'pending', ?, ?, ?,"
                " NULL, NULL, NULL, NULL, NULL)",
                (cause, posted, posted, posted),
            )
            for channel in bell.policy.channels("alerts", ()):
                bell.outbox.change(
                    "INSERT INTO deliveries (cause, channel, is_fallback, state, next_at)"
                    " VALUES (?, ?, 0, 'pending', '')",
                    (cause, channel.id),
                )
        for channel in bell.policy.all_channels:
            bell.outbox.change(
                "INSERT INTO channels (channel, name, failures, rest_until, failing_since, failure)"
                " VALUES (?, 'n', 1, ?, ?, 'refused')",
                (channel, (moment + timedelta(seconds=60)).isoformat(), moment.isoformat()),
            )
    begun = time.process_time()
    for number in range(10):
        bell.step(moment + timedelta(seconds=2 * number))
    assert (time.process_time() - begun) / 10 < 0.1


@pytest.mark.parametrize("wrong", [{"storm": "often"}, {"silence": "at night"}, {"routes": "hunter22"}])
def test_a_block_that_cannot_be_read_changes_nothing_and_is_reported_without_a_secret(
    wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert policy_of_blocks({"urls": "json://127.0.0.1", **wrong}, {}) is None
    assert "cannot be read" in caplog.text
    assert "hunter22" not in caplog.text


def test_the_policy_of_the_blocks_is_what_they_say_and_else_what_is_usual() -> None:
    read = policy_of_blocks({"urls": "json://127.0.0.1/a", "silence": None}, {"urls": "json://127.0.0.1/b"})
    assert read == policy("json://127.0.0.1/a", fallback_urls="json://127.0.0.1/b")
    assert read is not None
    assert [one.name for one in read.channels(FALLBACK, ())] == ["fallback 1 (JSON)"]
