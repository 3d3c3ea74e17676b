"""How often a remote inbox is listed: as configured, more rarely where listing is slow, and never too rarely."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from sensors.arrivals.failed_links import FailedFolder
from sensors.config.inboxes import Inbox
from sensors.inbox.pending_files import PendingFiles
from sensors.inbox.rejections import Rejections
from sensors.remote.scanner import LONGEST_LISTING_PAUSE_SECONDS, RemoteScanner
from sensors.remote.source import RemoteSource
from sensors.remote.store import RemoteFile


@pytest.fixture
def slow(ledger, tmp_path, hand_clock):
    """Give a lookout whose listings take the seconds of this list, one after the other, then none."""

    class SlowStore:
        appears_whole = True
        seconds: list[float] = []  # noqa: RUF012

        def listing(self, *, subfolders: bool) -> Iterator[RemoteFile]:
            hand_clock.turn(self.seconds.pop(0) if self.seconds else 0.0)
            return iter(())

    inbox = Inbox.model_validate({"name": "partner", "path": tmp_path, "url": "s3://bucket/in"})
    rejections = Rejections(inbox, ledger, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)
    origin = RemoteSource(inbox, cast("Any", SlowStore()))
    return RemoteScanner(inbox, origin, rejections, PendingFiles(), hand_clock.clock), SlowStore.seconds


def pause_after_look(lookout: RemoteScanner, hand_clock) -> float:
    hand_clock.turn(max(0.0, lookout.scan_due - hand_clock.seconds))
    lookout.look(hand_clock.seconds)
    return lookout.scan_due - hand_clock.seconds


def test_one_slow_listing_is_followed_by_the_usual_pause(slow, hand_clock):
    lookout, seconds = slow
    seconds += [0.0, 60.0, 0.0]
    assert [pause_after_look(lookout, hand_clock) for _ in range(3)] == [5.0, 5.0, 5.0]


def test_a_store_that_lists_slowly_for_good_is_listed_seldom_but_within_bounds(slow, hand_clock):
    lookout, seconds = slow
    seconds += [600.0] * 4
    assert pause_after_look(lookout, hand_clock) == 5.0
    pauses = [pause_after_look(lookout, hand_clock) for _ in range(3)]
    assert pauses[-1] == LONGEST_LISTING_PAUSE_SECONDS
    assert pause_after_look(lookout, hand_clock) == 5.0, "it is as fast as ever once it lists quickly again"
