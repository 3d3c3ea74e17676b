"""The outbox as a state machine: whatever happens in whatever order, no alert is lost and none is told twice.

The model knows what was posted and what a receiver has; how the outbox comes to it is not its concern.
"""

import shutil
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from automations.delivery import deliver, digests, dispatcher
from automations.delivery.channels import Policy
from automations.delivery.deliver import CLAIM, DeliveryClaim
from automations.delivery.enqueue import EnqueueResult, post
from automations.delivery.outbox import Outbox
from tests.postings import NOW, policy, posting

LIMIT = 2
WINDOW = timedelta(minutes=10)
URLS = {name: f"json://127.0.0.1/{name}" for name in ("one", "two", "fallback", "prod")}
POLICIES = (
    policy(URLS["one"], storm="2/10m"),
    policy(URLS["one"], URLS["two"], storm="2/10m", fallback_urls=URLS["fallback"]),
    policy(URLS["two"], storm="2/10m", fallback_urls=URLS["fallback"], routes=f"env:prod={URLS['prod']}"),
    policy(URLS["one"], storm="2/10m", silence="09:00-09:20 UTC", silence_except="env:prod"),
)
CHANNELS = {channel.id: channel for one in POLICIES for channel in one.all_channels.values()}
OVER = {"delivered", "summed up", "cancelled"}


class OutboxMachine(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.outbox = Outbox(self.folder / "alerts.db")
        self.policy = POLICIES[0]
        self.now = NOW
        self.posted: set[str] = set()
        self.taken: Counter[tuple[str, str]] = Counter()
        """How often each channel has taken each alert."""
        self.unsure: set[tuple[str, str]] = set()
        """Where a claim has lapsed: nobody knows whether the alert got through."""
        self.sending: dict[tuple[str, str], datetime] = {}
        """Since when an attempt is under way whose result is not known."""
        self.open: dict[str, str] = {}
        """The alert with which a trouble has begun."""

    def teardown(self) -> None:
        """Let time pass until everything is over, with receivers that work."""
        for _ in range(60):
            self.pass_time(600)
            digests.release_waiting(self.outbox, self.policy, lambda _: False, self.now)
            self.dispatcher_looks()
            for channel in self.policy.all_channels.values():
                while claimed := self._claim(channel.id):
                    self._take(claimed, channel.id)
        self.nothing_is_lost()
        self.no_alert_was_sent_twice()
        states = Counter(row["state"] for row in self.outbox.rows("SELECT state FROM alerts"))
        assert {*states} <= OVER, states
        for row in self.outbox.rows("SELECT cause, told_by FROM alerts WHERE state = 'summed up'"):
            assert self._somebody_has(row["told_by"]), "a digest that nobody got"
        for row in self.outbox.rows("SELECT cause FROM alerts WHERE state = 'delivered'"):
            assert self._somebody_has(row["cause"]), "delivered, and nobody has it"
        self.outbox.close()
        shutil.rmtree(self.folder)

    def _somebody_has(self, cause: str) -> bool:
        return any(taken for (one, _), taken in self.taken.items() if one == cause)

    @rule(number=st.integers(0, 25), group=st.sampled_from(["", "daily", "weekly"]), prod=st.booleans())
    def post(self, number: int, group: str, *, prod: bool) -> None:
        cause = f"c-{number}"
        tags = ("env:prod",) if prod else ()
        result = post(self.outbox, posting(cause, group=group, tags=tags), self.policy, self.now)
        assert (result is EnqueueResult.KNOWN) is (cause in self.posted)
        self.posted.add(cause)

    @rule(count=st.integers(3, 12), group=st.sampled_from(["daily", "weekly"]))
    def storm(self, count: int, group: str) -> None:
        for number in range(count):
            cause = f"storm-{len(self.posted)}-{number}"
            post(self.outbox, posting(cause, group=group), self.policy, self.now)
            self.posted.add(cause)

    @rule(key=st.sampled_from(["server", "sensor"]), waits=st.booleans())
    def trouble_begins(self, key: str, *, waits: bool) -> None:
        cause = f"begin-{key}-{len(self.posted)}"
        unless = {"event": "e", "resource": key, "after": self.now.isoformat(), "wait_seconds": 15} if waits else None
        post(self.outbox, posting(cause, opens=key, unless=unless), self.policy, self.now)
        self.posted.add(cause)
        self.open[key] = cause

    @rule(key=st.sampled_from(["server", "sensor"]))
    def trouble_ends(self, key: str) -> None:
        cause = f"end-{key}-{len(self.posted)}"
        opened = self.open.pop(key, None)
        was_told = opened is not None and self._state(opened) not in {"waiting", "cancelled"}
        result = post(self.outbox, posting(cause, ends=key), self.policy, self.now)
        assert (result is not EnqueueResult.CANCELLED) is was_told
        self.posted.add(cause)

    @rule(has_come=st.booleans())
    def watchman_verifies(self, *, has_come: bool) -> None:
        digests.release_waiting(self.outbox, self.policy, lambda _: has_come, self.now)

    @rule(target=claims, data=st.data())
    def begin_delivery(self, data: st.DataObject):
        channel = data.draw(st.sampled_from(sorted(self.policy.all_channels)))
        claimed = self._claim(channel)
        return multiple() if claimed is None else (claimed, channel)

    def _claim(self, channel: str) -> DeliveryClaim | None:
        claimed = deliver.claim(self.outbox, channel, self.now)
        if claimed is not None:
            pair = claimed.cause, channel
            if pair in self.sending and pair not in self.unsure:
                assert self.now - self.sending[pair] >= CLAIM, "claimed by two at once"
                self.unsure.add(pair)
            self.sending[pair] = self.now
        return claimed

    @rule(claim=consumes(claims))
    def the_receiver_takes_it(self, claim) -> None:
        self._take(*claim)

    def _take(self, claimed: DeliveryClaim, channel: str) -> None:
        self.taken[claimed.cause, channel] += 1
        self.sending.pop((claimed.cause, channel), None)
        deliver.record_delivered(self.outbox, claimed, CHANNELS[channel], self.now)

    @rule(claim=consumes(claims))
    def the_receiver_refuses_it(self, claim) -> None:
        claimed, channel = claim
        self.sending.pop((claimed.cause, channel), None)
        deliver.record_failed(self.outbox, claimed, CHANNELS[channel], "refused", self.now)

    @rule(claim=consumes(claims), got_through=st.booleans())
    def the_process_is_killed_while_it_sends(self, claim, *, got_through: bool) -> None:
        claimed, channel = claim
        self.taken[claimed.cause, channel] += got_through
        self.restart()

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.folder / "alerts.db")

    @rule()
    def dispatcher_looks(self) -> None:
        digests.sum_up_due(self.outbox, self.policy, self.now)
        dispatcher.step(self.outbox, self.policy, self.now)

    @rule(seconds=st.sampled_from([1, 15, 31, 60, 120, 600, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(configured=st.sampled_from(POLICIES))
    def configure(self, configured: Policy) -> None:
        self.policy = configured
        # What is on its way to a URL that is taken away is sent again if that is put back before its result is known.
        self.unsure |= {pair for pair in self.sending if pair[1] not in configured.all_channels}
        deliver.retarget(self.outbox, configured, self.now)

    def _state(self, cause: str) -> str:
        return self.outbox.rows("SELECT state FROM alerts WHERE cause = ?", (cause,))[0]["state"]

    @invariant()
    def nothing_is_lost(self) -> None:
        known = {row["cause"] for row in self.outbox.rows("SELECT cause FROM alerts")}
        assert self.posted <= known

    @invariant()
    def no_alert_was_sent_twice(self) -> None:
        again = {one for one, times in self.taken.items() if times > 1}
        assert again <= self.unsure

    @invariant()
    def a_group_has_at_most_so_many_messages_of_its_own_in_a_window(self) -> None:
        rows = self.outbox.rows(
            "SELECT cause, group_name, told_at FROM alerts WHERE group_name <> '' AND told_at IS NOT NULL"
            " ORDER BY told_at, rowid"
        )
        for group in ("daily", "weekly"):
            reported = [row["told_at"] for row in rows if row["group_name"] == group]
            # One more takes a digest's place: in a storm one that is alone is told itself.
            for first, later in zip(reported, reported[LIMIT + 1 :], strict=False):
                assert datetime.fromisoformat(later) - datetime.fromisoformat(first) >= WINDOW, reported


OutboxMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_whatever_happens_no_alert_is_lost_or_told_twice = OutboxMachine.TestCase
