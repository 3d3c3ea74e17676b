"""Settled files become an arrival."""

import grp
import re
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.arrivals.staging import Stager, _sync, new_arrival, next_batch
from sensors.files.beneath import Identity
from sensors.ledger import arrivals, files
from sensors.ledger.files import Dropped, WaitingFile
from sensors.ledger.states import FileState
from sensors.reports.files import journey_of
from sensors.runtime.clock import Clock
from tests.dropped_arrivals import identity_at
from tests.other_user import needs_root


@pytest.fixture
def stager(ledger, tmp_path, hand_clock):
    return Stager(ledger, tmp_path / "arrivals", hand_clock.clock)


def settled(ledger, inbox, clock: Clock, **contents: str) -> None:
    """Drop files and have them settled."""
    found = []
    for name, text in contents.items():
        path = inbox.path / f"{name}.csv"
        path.write_text(text)
        found.append(Dropped(path, path.name, identity_at(path)))
    files.record_seen(ledger, inbox.name, found, clock.utc())
    assert files.record_settled(ledger, found, clock.utc()) == len(found)


def found(inbox, name: str) -> Dropped:
    path = inbox.path / f"{name}.csv"
    return Dropped(path, path.name, identity_at(path))


def state(ledger, name: str) -> FileState:
    return journey_of(ledger, f"{name}.csv").state


def staged_contents(tmp_path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "arrivals").glob("*/*/[!.]*")}


def test_all_that_has_settled_becomes_one_arrival(stager, ledger, inbox, hand_clock, tmp_path):
    settled(ledger, inbox, hand_clock.clock, one="1", two="2")
    assert stager.step(inbox)
    assert staged_contents(tmp_path) == {"one.csv": "1", "two.csv": "2"}
    assert list(inbox.path.iterdir()) == []
    assert len(arrivals.to_announce(ledger, hand_clock.now)) == 1
    assert not stager.step(inbox)


def test_while_too_many_arrivals_are_unfinished_settled_files_gather(stager, ledger, inbox, hand_clock):
    inbox = inbox.model_copy(update={"max_in_flight": 1})
    settled(ledger, inbox, hand_clock.clock, one="1")
    assert stager.step(inbox)
    settled(ledger, inbox, hand_clock.clock, two="2", three="3")
    assert not stager.step(inbox)
    assert {state(ledger, "two"), state(ledger, "three")} == {FileState.SETTLED}


def test_an_arrival_id_sorts_by_time_and_names_its_inbox(tmp_path, hand_clock):
    arrival = new_arrival("metrics", tmp_path, hand_clock.now)
    assert re.fullmatch(r"metrics-20261124-090000-[0-9a-f]{6}", arrival.id)
    assert arrival.folder == tmp_path / "2026-11-24" / arrival.id


def test_a_batch_ends_before_it_is_too_large_but_a_huge_file_goes_alone(ledger, inbox, hand_clock):
    settled(ledger, inbox, hand_clock.clock, a="x" * 10, b="x" * 80, c="x" * 11)
    waiting = files.settled(ledger, inbox.name, 100)
    assert [file.name for file in next_batch(waiting, 100)] == ["a.csv", "b.csv"]
    assert [file.name for file in next_batch(waiting, 5)] == ["a.csv"]
    assert next_batch([], 5) == []


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 200))
def test_batches_take_every_file_in_order_and_none_is_too_large_but_a_single_file(sizes, max_bytes):
    waiting = [WaitingFile(n, Path(f"/{n}.csv"), f"{n}.csv", Identity(1, n, size, 1)) for n, size in enumerate(sizes)]
    batches: list[list[WaitingFile]] = []
    while waiting:
        batches.append(next_batch(waiting, max_bytes))
        waiting = waiting[len(batches[-1]) :]
    assert [file.id for batch in batches for file in batch] == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) == 1 or sum(file.identity.size for file in batch) <= max_bytes
    for batch, following in pairwise(batches):
        assert sum(file.identity.size for file in [*batch, following[0]]) > max_bytes, "a file waited needlessly"


def test_a_file_that_changed_after_it_settled_waits_again(stager, ledger, inbox, hand_clock, tmp_path):
    settled(ledger, inbox, hand_clock.clock, kept="1", changed="2")
    (inbox.path / "changed.csv").write_text("2 and more")
    assert stager.step(inbox)
    assert staged_contents(tmp_path) == {"kept.csv": "1"}
    assert state(ledger, "changed") is FileState.SEEN


def test_a_file_that_is_open_for_writing_again_waits(stager, ledger, inbox, hand_clock, tmp_path):
    settled(ledger, inbox, hand_clock.clock, busy="1")
    with (inbox.path / "busy.csv").open("a"):
        assert stager.step(inbox)
    assert staged_contents(tmp_path) == {}
    assert state(ledger, "busy") is FileState.SEEN
    assert arrivals.to_announce(ledger, hand_clock.now) == []


def test_a_file_that_its_owner_took_away_is_withdrawn(stager, ledger, inbox, hand_clock):
    settled(ledger, inbox, hand_clock.clock, gone="1")
    (inbox.path / "gone.csv").unlink()
    assert stager.step(inbox)
    assert state(ledger, "gone") is FileState.WITHDRAWN
    assert arrivals.count_unfinished(ledger, inbox.name) == 0


def test_a_symlink_that_was_put_in_its_place_is_not_followed(stager, ledger, inbox, hand_clock, tmp_path):
    settled(ledger, inbox, hand_clock.clock, swapped="1")
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    (inbox.path / "swapped.csv").unlink()
    (inbox.path / "swapped.csv").symlink_to(secret)
    stager.step(inbox)
    assert staged_contents(tmp_path) == {}
    assert secret.read_text() == "secret"


@pytest.mark.parametrize("moved", [0, 1, 2], ids=["none", "one", "all"])
def test_staging_that_a_crash_interrupted_is_finished(stager, ledger, inbox, hand_clock, tmp_path, moved):
    settled(ledger, inbox, hand_clock.clock, one="1", two="2")
    arrival = new_arrival(inbox.name, tmp_path / "arrivals", hand_clock.now)
    batch = files.settled(ledger, inbox.name, 10)
    arrivals.begin(ledger, arrival, batch, hand_clock.now)
    arrival.folder.mkdir(parents=True)
    for file in batch[:moved]:
        file.path.rename(arrival.folder / file.name)
    stager.recover(inbox)
    stager.recover(inbox)
    assert staged_contents(tmp_path) == {"one.csv": "1", "two.csv": "2"}
    assert list(inbox.path.iterdir()) == []
    assert [one.id for one in arrivals.to_announce(ledger, hand_clock.now)] == [arrival.id]


def test_duplicates_that_changed_meanwhile_leave_no_marked_folder_behind(stager, ledger, inbox, hand_clock, tmp_path):
    inbox = inbox.model_copy(update={"duplicates": "skip"})
    settled(ledger, inbox, hand_clock.clock, one="1")
    assert stager.step(inbox)
    settled(ledger, inbox, hand_clock.clock, again="1")
    with (inbox.path / "again.csv").open("a"):
        stager.step(inbox)
    assert len(list((tmp_path / "arrivals").glob("*/*"))) == 1
    stager.step(inbox)
    assert files.record_settled(ledger, [found(inbox, "again")], hand_clock.now) == 1
    assert stager.step(inbox)
    (marked,) = (tmp_path / "arrivals").glob("*/*/.duplicates")
    assert (marked.parent / "again.csv").read_text() == "1"


def test_a_file_that_waits_because_another_stands_where_its_folder_would_holds_up_nothing(tmp_path):
    (tmp_path / "a.csv").touch()
    waiting = WaitingFile(1, Path("/in/a.csv/b.csv"), "a.csv/b.csv", Identity(1, 1, 1, 1))
    _sync(tmp_path, [waiting])


@needs_root
def test_an_arrival_can_be_read_by_the_group_that_may(ledger, inbox, hand_clock, tmp_path):
    group = grp.getgrnam("games").gr_gid
    stager = Stager(ledger, tmp_path / "arrivals", hand_clock.clock, readers=group)
    settled(ledger, inbox, hand_clock.clock, orders="1")
    (inbox.path / "orders.csv").chmod(0o600)
    assert stager.step(inbox)
    (staged,) = (tmp_path / "arrivals").glob("*/*/orders.csv")
    found = {path: (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) for path in (staged, *staged.parents[:2])}
    assert found == {staged: (group, 0o640), staged.parent: (group, 0o2750), staged.parents[1]: (group, 0o2750)}
