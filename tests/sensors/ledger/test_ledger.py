"""The ledger: its states, its transactions, and that each step can be taken once."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from importlib.resources import files as resources
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sensors.arrivals.staging import new_arrival
from sensors.files.beneath import Identity
from sensors.ledger import Ledger, LedgerError, announcements, arrivals, files, maintenance
from sensors.ledger.announcements import Announcement, FileOutcome, Receipt
from sensors.ledger.database import VERSION
from sensors.ledger.files import Dropped
from sensors.ledger.notices import Notice
from sensors.ledger.states import ArrivalState, FileState
from sensors.reports.arrivals import balance
from tests.dropped_arrivals import record_arrival, waiting_files

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def dropped(name: str, identity: Identity) -> Dropped:
    return Dropped(Path("/inbox") / name, name, identity)


@pytest.mark.parametrize(("table", "states"), [("arrivals", ArrivalState), ("files", FileState)])
def test_the_schema_knows_the_same_states_as_the_code(table, states):
    schema = "".join(
        resources("sensors.ledger").joinpath("schema", f"{n}.sql").read_text() for n in range(1, VERSION + 1)
    )
    body = re.findall(rf"CREATE TABLE {table}(?:_\d+)? \((.*?)\) STRICT;", schema, re.DOTALL)[-1]
    (listed,) = re.findall(r"CHECK \(state IN \((.*?)\)\)", body, re.DOTALL)
    assert set(re.findall(r"'(\w+)'", listed)) == set(states)


def test_a_ledger_of_a_newer_version_is_not_touched(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match=f"version 99, this program knows {VERSION}: update the program"):
        Ledger(path)


def test_a_file_that_is_no_ledger_says_what_to_do(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(LedgerError, match="`just rebuild` puts it aside"):
        Ledger(path)


def test_what_was_begun_and_not_ended_is_undone(ledger):
    def fail_half_way() -> None:
        with ledger.transaction():
            ledger.change(
                "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES ('a','b','c','staged','d')"
            )
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert ledger.rows("SELECT * FROM arrivals") == []


def test_a_commit_that_fails_leaves_nothing_open(ledger):
    files.record_seen(ledger, "metrics", [dropped("a.csv", Identity(1, 1, 1, 1))], NOW)
    limit = ledger.rows("PRAGMA page_count")[0][0]
    ledger.rows(f"PRAGMA max_page_count = {limit}")  # what a full disk is to SQLite
    many = [dropped(f"{n}-{'x' * 180}.csv", Identity(1, n, 1, 1)) for n in range(1000)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        files.record_seen(ledger, "metrics", many, NOW)
    ledger.rows("PRAGMA max_page_count = 1000000")
    assert files.record_seen(ledger, "metrics", many, NOW) == 1000


def test_what_is_read_at_one_moment_stays_as_it_is_whatever_is_written_meanwhile(ledger, tmp_path):
    with Ledger.at_one_moment(tmp_path / "ledger.db") as reading:
        assert reading.rows("SELECT * FROM arrivals") == []
        record_arrival(ledger, "m-1", datetime(2026, 11, 26, tzinfo=UTC), {"a.csv": "loaded"})
        assert reading.rows("SELECT * FROM files") == []
    with Ledger.at_one_moment(tmp_path / "ledger.db") as reading:
        assert len(reading.rows("SELECT * FROM files")) == 1


def test_the_ledger_survives_a_power_cut(ledger):
    assert ledger.rows("PRAGMA journal_mode")[0][0] == "wal"
    assert ledger.rows("PRAGMA synchronous")[0][0] == 2  # FULL


def test_an_inode_of_64_bits_is_kept(ledger):
    identity = Identity(device=2**63, inode=2**64 - 1, size=1, mtime_ns=1)
    files.record_seen(ledger, "metrics", [dropped("a.csv", identity)], NOW)
    (file,) = waiting_files(ledger, "metrics")
    assert file.identity == identity


class LedgerMachine(RuleBasedStateMachine):
    """Files and arrivals driven through their steps in any order, late and double ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.ledger = Ledger(Path(self.folder.name) / "ledger.db")
        self.now = NOW
        self.dropped = 0
        self.pruned = 0
        self.ended: dict[str, str] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    @rule(count=st.integers(1, 4))
    def drop(self, count: int) -> None:
        new = [dropped(f"{self.dropped + n}.csv", Identity(1, self.dropped + n, 1, 1)) for n in range(count)]
        assert files.record_seen(self.ledger, "metrics", new, self.tick()) == count
        self.dropped += count
        assert files.record_seen(self.ledger, "metrics", new, self.tick()) == 0

    @rule()
    def settle(self) -> None:
        waiting = waiting_files(self.ledger, "metrics", "state = 'seen'")
        assert files.record_settled(
            self.ledger, [Dropped(f.path, f.name, f.identity) for f in waiting], self.tick()
        ) == len(waiting)

    @rule()
    def change(self) -> None:
        settled = [file.path for file in files.settled(self.ledger, "metrics", 2)]
        assert files.record_unsettled(self.ledger, settled) == len(settled)

    @rule()
    def refuse(self) -> None:
        waiting = waiting_files(self.ledger, "metrics")[:1]
        refused = [files.RejectedInPlace(str(file.path), file.name, file.identity, "no") for file in waiting]
        files.record_rejected_in_place(
            self.ledger, "metrics", refused, Notice(str(self.tick()), "e", "metrics", {}), self.now
        )

    @rule(limit=st.integers(1, 5), duplicates=st.booleans())
    def begin(self, limit: int, duplicates: bool) -> None:
        batch = files.settled(self.ledger, "metrics", limit)
        arrival = new_arrival("metrics", Path("/arrivals"), self.tick(), is_duplicate=duplicates)
        assert arrivals.begin(self.ledger, arrival, batch, self.now, {}) == len(batch)
        assert arrivals.begin(self.ledger, new_arrival("metrics", Path("/arrivals"), self.now), batch, self.now) == 0

    @rule(share=st.sampled_from(["staged", "returned", "gone"]))
    def finish_staging(self, share: str) -> None:
        for arrival in arrivals.in_state(self.ledger, ArrivalState.STAGING):
            ids = [file.id for file in arrivals.files_to_stage(self.ledger, arrival.id)]
            parts = {"staged": ids[1:], "returned": [], "gone": []}
            parts[share] = [*parts[share], *ids[:1]]
            arrivals.finish_staging(self.ledger, arrival.id, **parts, now=self.tick())

    @rule(again=st.booleans())
    def announce(self, again: bool) -> None:
        for arrival in arrivals.to_announce(self.ledger, self.tick()):
            intent = Announcement(f"{arrival.id}/{arrival.attempt + 1}", arrival.id, arrival.attempt + 1, self.now)
            assert announcements.record_intent(self.ledger, intent)
            assert not announcements.record_intent(self.ledger, intent)
            if again:
                assert announcements.record_unannounced(self.ledger, arrival.id, self.now, "no receipt")

    @rule()
    def receipt(self) -> None:
        for one in announcements.awaiting_receipt(self.ledger):
            announcements.record_receipt(self.ledger, Receipt(one.event_id, f"run-{one.event_id}", "run"), self.tick())

    @rule(reason=st.sampled_from(["not found", "invalid"]))
    def fail_to_start(self, reason: str) -> None:
        for one in announcements.awaiting_receipt(self.ledger)[:1]:
            announcements.record_failure(self.ledger, one.event_id, reason)
            assert announcements.count_failures(self.ledger, one.arrival_id) >= 1
            announcements.record_unannounced(self.ledger, one.arrival_id, self.tick(), reason)

    @rule()
    def resume(self) -> None:
        for arrival in arrivals.failed_since(self.ledger, NOW, 1):
            assert announcements.record_resumed(self.ledger, arrival.id, str(arrival.run_id))
            assert not announcements.record_resumed(self.ledger, arrival.id, str(arrival.run_id))
            self.ended.pop(arrival.id, None)

    @rule(reload=st.booleans())
    def replay(self, reload: bool) -> None:
        for arrival_id in list(self.ended)[:1]:
            assert arrivals.record_replayed(self.ledger, arrival_id, ["*"] if reload else [])
            assert not arrivals.record_replayed(self.ledger, arrival_id, [])
            again = arrivals.get(self.ledger, arrival_id)
            assert (again.state, again.run_id, again.unanswered) == (ArrivalState.STAGED, None, 0)
            assert again.reload == (("*",) if reload else ())
            del self.ended[arrival_id]

    @rule()
    def prune(self) -> None:
        for arrival_id, _ in maintenance.prunable(self.ledger, "metrics", self.tick(), 1):
            before = self.ledger.rows("SELECT count(*) FROM files")[0][0]
            with self.ledger.transaction():
                assert maintenance.forget(self.ledger, arrival_id)
            self.pruned += before - self.ledger.rows("SELECT count(*) FROM files")[0][0]
            self.ended.pop(arrival_id, None)

    @precondition(lambda self: arrivals.in_state(self.ledger, ArrivalState.RUNNING))
    @rule(state=st.sampled_from([ArrivalState.LOADED, ArrivalState.FAILED]), named=st.booleans())
    def end(self, state: ArrivalState, named: bool) -> None:
        arrival = arrivals.in_state(self.ledger, ArrivalState.RUNNING)[0]
        names, _ = arrivals.contents(self.ledger, arrival.id)
        reported = [FileOutcome(names[0], FileState.REJECTED, 0, "bad")] if named else []
        assert announcements.record_outcome(self.ledger, arrival.id, state, reported, None, self.tick())
        assert not announcements.record_outcome(self.ledger, arrival.id, ArrivalState.FAILED, [], "late", self.now)
        self.ended[arrival.id] = state

    @invariant()
    def no_file_is_lost_and_the_books_balance(self) -> None:
        counts = {
            FileState(row["state"]): row["n"]
            for row in self.ledger.rows("SELECT state, count(*) AS n FROM files GROUP BY state")
        }
        assert sum(counts.values()) == self.dropped - self.pruned
        books = balance(counts)
        assert books.seen == books.waiting + books.in_flight + books.loaded + books.rejected + books.failed
        assert books.seen == self.dropped - self.pruned - counts.get(FileState.WITHDRAWN, 0)

    @invariant()
    def an_outcome_is_final(self) -> None:
        for arrival_id, state in self.ended.items():
            (row,) = self.ledger.rows("SELECT state FROM arrivals WHERE id = ?", (arrival_id,))
            assert row["state"] == state

    @invariant()
    def no_arrival_is_empty_and_none_has_two_first_runs(self) -> None:
        assert (
            self.ledger.rows(
                "SELECT id FROM arrivals WHERE NOT EXISTS (SELECT 1 FROM files WHERE arrival_id = arrivals.id)"
            )
            == []
        )
        assert self.ledger.rows("SELECT id FROM arrivals WHERE state = 'running' AND run_id IS NULL") == []


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_any_order_of_steps_keeps_the_promises = LedgerMachine.TestCase


def test_no_step_of_a_file_reads_the_whole_table(ledger):
    file = dropped("a.csv", Identity(1, 1, 1, 1))
    refused = files.RejectedInPlace("/inbox/b.pdf", "b.pdf", file.identity, "no")
    said: list[str] = []
    ledger._connection.set_trace_callback(said.append)
    files.record_seen(ledger, "metrics", [file], NOW)
    files.record_settled(ledger, [file], NOW)
    files.record_unsettled(ledger, [file.path])
    files.record_settled(ledger, [file], NOW)
    arrival = new_arrival("metrics", Path("/arrivals"), NOW)
    batch = files.settled(ledger, "metrics", 10)
    files.record_content(ledger, [(batch[0].id, "digest")])
    files.first_with_content(ledger, "metrics", "digest")
    arrivals.begin(ledger, arrival, batch, NOW)
    arrivals.finish_staging(ledger, arrival.id, [batch[0].id], [], [], NOW)
    files.record_withdrawn(ledger, [file.path], NOW)
    files.record_rejected_in_place(ledger, "metrics", [refused], Notice("k", "e", "metrics", {}), NOW)
    ledger._connection.set_trace_callback(None)
    plans = {
        statement: [row["detail"] for row in ledger.rows(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in said
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE"))
    }
    assert len(plans) > 10
    assert {statement: plan for statement, plan in plans.items() if any("SCAN files" in step for step in plan)} == {}
