"""The outbox's file: who makes it, who may read it, and what several connections to it do to each other."""

import multiprocessing
import os
import sqlite3
import stat
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from importlib.resources import files as resources
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from automations.delivery import deliver
from automations.delivery.enqueue import post
from automations.delivery.outbox import ALIVE_SECONDS, Outbox, OutboxError
from automations.sqlite_file import stamp
from tests.postings import NOW, policy, posting

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "alerts.db"


def _together(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - how a pool hands something to its processes
    _barrier = barrier


def _make_and_post(path: Path, number: int) -> None:
    _barrier.wait(30)
    with Outbox(path) as outbox:
        post(outbox, posting(f"c-{number}"), policy(), NOW)


def test_several_processes_that_make_it_at_once_all_write_into_it(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(2)
    with ProcessPoolExecutor(2, mp_context=SPAWN, initializer=_together, initargs=(barrier,)) as processes:
        for turn in range(6):
            path = tmp_path / str(turn) / "alerts.db"
            list(processes.map(_make_and_post, [path] * 2, range(2)))
            with Outbox(path) as outbox:
                assert len(outbox.rows("SELECT * FROM alerts")) == 2


def test_several_threads_that_make_it_at_once_all_write_into_it(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)

    def make_and_post(path: Path, number: int) -> None:
        barrier.wait(30)
        with Outbox(path) as outbox:
            post(outbox, posting(f"c-{number}"), policy(), NOW)

    with ThreadPoolExecutor(4) as threads:
        for turn in range(10):
            path = tmp_path / str(turn) / "alerts.db"
            list(threads.map(make_and_post, [path] * 4, range(4)))
            with Outbox(path) as outbox:
                assert len(outbox.rows("SELECT * FROM alerts")) == 4


def test_only_its_owner_can_read_it_and_what_sqlite_puts_next_to_it(path: Path) -> None:
    before = os.umask(0)
    try:
        with Outbox(path) as outbox:
            post(outbox, posting(), policy(), NOW)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("alerts.db", "alerts.db-wal", "alerts.db-shm"), 0o600)


def test_what_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, however long it is " * 100)
    before = path.read_bytes()
    with pytest.raises(OutboxError, match="move it away"):
        Outbox(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, Outbox.VERSION))
def test_one_of_an_earlier_version_is_brought_up_to_date_and_keeps_what_it_has(path: Path, version: int) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:
        for number in range(1, version + 1):
            old.executescript(resources("automations.delivery").joinpath("schema", f"{number}.sql").read_text("utf-8"))
        old.execute("INSERT INTO progress VALUES ('failed runs', '2026')")
        old.execute(f"PRAGMA user_version = {version}")
    old.close()
    with Outbox(path) as outbox:
        assert [row["until"] for row in outbox.rows("SELECT until FROM progress")] == ["2026"]
        assert outbox.rows("SELECT alias, perhaps_at FROM alerts LEFT JOIN deliveries USING (cause)") == []


@pytest.mark.parametrize("version", range(1, Outbox.VERSION))
def test_what_waits_in_an_outbox_of_an_earlier_version_is_delivered(path: Path, version: int) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as old:
        for number in range(1, version + 1):
            old.executescript(resources("automations.delivery").joinpath("schema", f"{number}.sql").read_text("utf-8"))
        old.execute(f"PRAGMA user_version = {version}")
        channel = policy().channels("alerts", ())[0]
        old.execute(
            "INSERT INTO alerts (cause, block, kind, group_name, tags, type, subject, body, state, occurred_at,"
            " posted_at, told_at) VALUES ('c-1', 'alerts', 'alert', '', '[]', 'failure', 's', 'b', 'pending', ?, ?, ?)",
            (stamp(NOW),) * 3,
        )
        old.execute(
            "INSERT INTO deliveries (cause, channel, is_fallback, state, attempts, next_at, failure)"
            " VALUES ('c-1', ?, 0, 'pending', 3, ?, 'refused')",
            (channel.id, stamp(NOW)),
        )
        old.execute(
            "INSERT INTO channels (channel, name, failures, rest_until, failing_since, failure)"
            " VALUES (?, '1 (JSON)', 3, ?, ?, 'refused')",
            (channel.id, stamp(NOW), stamp(NOW)),
        )
    old.close()
    with Outbox(path) as outbox:
        claimed = deliver.claim(outbox, channel.id, NOW)
        assert claimed is not None
        assert (claimed.cause, claimed.attempt, claimed.perhaps_at) == ("c-1", 4, None)


def test_a_database_of_a_later_version_is_refused(path: Path) -> None:
    Outbox(path).close()
    with sqlite3.connect(path) as later:
        later.execute(f"PRAGMA user_version = {Outbox.VERSION + 1}")
    later.close()
    with pytest.raises(OutboxError, match=f"version {Outbox.VERSION + 1}"):
        Outbox(path)


def test_a_folder_that_cannot_be_made_is_reported_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(OutboxError, match=r"state/alerts\.db"):
        Outbox(tmp_path / "state" / "alerts.db")


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(path: Path) -> None:
    with Outbox(path) as outbox:
        with pytest.raises(sqlite3.IntegrityError), outbox.transaction():  # noqa: PT012 - the second one fails
            for _ in range(2):
                outbox.change("INSERT INTO progress (what, until) VALUES ('a', 'b')")
        with outbox.transaction():
            assert outbox.rows("SELECT * FROM progress") == []


def _can_write(path: Path) -> bool:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def test_another_connection_of_the_process_that_comes_and_goes_leaves_a_transaction_its_lock(path: Path) -> None:
    with Outbox(path) as outbox, ProcessPoolExecutor(1, mp_context=SPAWN) as another:
        with outbox.transaction():
            Outbox(path).close()
            assert outbox.is_in_place
            assert not another.submit(_can_write, path).result()
        assert another.submit(_can_write, path).result()


def test_what_others_have_changed_is_noticed_and_ones_own_changes_are_not(path: Path) -> None:
    with Outbox(path) as outbox, Outbox(path) as other:
        before = outbox.changes_of_others()
        post(outbox, posting("own"), policy(), NOW)
        assert outbox.changes_of_others() == before
        post(other, posting("others"), policy(), NOW)
        assert outbox.changes_of_others() != before


def test_a_dispatcher_is_counted_on_for_some_seconds_after_it_said_that_it_is_alive(path: Path) -> None:
    with Outbox(path) as outbox:
        assert not outbox.has_dispatcher(NOW)
        outbox.record_heartbeat()
        said = NOW.timestamp()
        os.utime(f"{path}.alive", (said, said))
        assert outbox.has_dispatcher(NOW + timedelta(seconds=ALIVE_SECONDS - 1))
        assert not outbox.has_dispatcher(NOW + timedelta(seconds=ALIVE_SECONDS + 1))


def test_a_dispatcher_that_says_so_from_the_future_is_not_counted_on(path: Path) -> None:
    with Outbox(path) as outbox:
        outbox.record_heartbeat()
        said = (NOW + timedelta(hours=1)).timestamp()
        os.utime(f"{path}.alive", (said, said))
        assert not outbox.has_dispatcher(NOW)


@pytest.mark.parametrize("instead", [False, True])
def test_it_notices_that_it_was_moved_away(path: Path, *, instead: bool) -> None:
    with Outbox(path) as outbox:
        assert outbox.is_in_place
        path.rename(path.with_name("broken.db"))
        if instead:
            Outbox(path).close()
        assert not outbox.is_in_place


def test_moments_are_written_so_that_their_order_is_that_of_their_texts() -> None:
    moments = [NOW - timedelta(hours=1), NOW, NOW + timedelta(microseconds=1), NOW + timedelta(seconds=1)]
    stamps = [stamp(one.astimezone()) for one in reversed(moments)]
    assert sorted(stamps) == [stamp(one) for one in moments]
