"""The record of what was sent without the outbox: shared by processes, of one size, and bounded."""

import multiprocessing
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from automations.delivery.outbox import CLAIM_SECONDS, SLOTS, SentRecord
from tests.postings import NOW, at

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def record(tmp_path: Path) -> SentRecord:
    record = SentRecord(tmp_path / "alerts.db.sent")
    record.prepare()
    return record


def _claim(path: Path) -> bool:
    return SentRecord(path).claim("c-1", "slack", NOW)


def test_of_several_processes_one_claims_a_delivery(record: SentRecord) -> None:
    with ProcessPoolExecutor(2, mp_context=SPAWN) as processes:
        assert sorted(processes.map(_claim, [record.path] * 4)) == [False, False, False, True]


def test_what_was_sent_is_known_to_another_process_and_after_a_restart(record: SentRecord) -> None:
    record.claim("c-1", "slack", NOW)
    record.record_sent("c-1", "slack", NOW)
    another = SentRecord(record.path)
    assert another.was_sent("c-1", "slack")
    assert not another.was_sent("c-1", "mail")
    assert not another.claim("c-1", "slack", at(10 * CLAIM_SECONDS))


def test_a_claim_is_not_yet_a_delivery(record: SentRecord) -> None:
    assert record.claim("c-1", "slack", NOW)
    assert not SentRecord(record.path).was_sent("c-1", "slack")


def test_a_claim_that_was_given_back_or_whose_process_was_killed_can_be_claimed_again(record: SentRecord) -> None:
    record.claim("c-1", "slack", NOW)
    record.release("c-1", "slack")
    assert SentRecord(record.path).claim("c-1", "slack", NOW)
    assert not SentRecord(record.path).claim("c-1", "slack", at(CLAIM_SECONDS - 1))
    assert SentRecord(record.path).claim("c-1", "slack", at(CLAIM_SECONDS))


def test_a_claim_of_a_clock_that_was_set_back_since_keeps_no_alert_waiting(record: SentRecord) -> None:
    record.claim("c-1", "slack", NOW)
    assert SentRecord(record.path).claim("c-1", "slack", NOW - timedelta(hours=1))


def test_the_file_never_grows_and_the_oldest_gives_way(record: SentRecord) -> None:
    size = record.path.stat().st_size
    for number in range(SLOTS + 10):
        record.record_sent(f"c-{number}", "slack", at(number))
    assert record.path.stat().st_size == size
    another = SentRecord(record.path)
    assert [another.was_sent(f"c-{number}", "slack") for number in (0, 9, 10, SLOTS + 9)] == [False, False, True, True]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        record = SentRecord(tmp_path / "alerts.db.sent")
        record.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(record.path.stat().st_mode) == 0o600


def test_it_is_not_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "another"
    target.write_text("mine")
    (tmp_path / "alerts.db.sent").symlink_to(target)
    record = SentRecord(tmp_path / "alerts.db.sent")
    record.prepare()
    record.record_sent("c-1", "slack", NOW)
    assert target.read_text() == "mine"
    assert record.was_sent("c-1", "slack")


@pytest.mark.parametrize("content", [b"", b"\xff\x00" * 50_000, b"short"])
def test_where_the_file_cannot_be_used_this_process_remembers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "alerts.db.sent"
    path.write_bytes(content)
    record = SentRecord(path)
    assert record.claim("c-1", "slack", NOW)
    record.record_sent("c-1", "slack", NOW)
    assert not record.claim("c-1", "slack", NOW)
    assert record.was_sent("c-1", "slack")
