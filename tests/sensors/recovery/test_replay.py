"""Retry and replay: which arrivals a person means, and what becomes of them."""

from datetime import UTC, datetime, timedelta

import pytest

from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals
from sensors.ledger.database import stamp
from sensors.recovery.replay import ReplayError, Selection, moment_of, replay, retry

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


@pytest.fixture
def ledger(settings):
    """A ledger with an arrival of every state, an hour apart; the newest first in the list."""
    states = ["loaded", "failed", "skipped", "running", "staged"]
    with Ledger(settings.ledger_path) as opened:
        for hours, state in enumerate(states, start=1):
            opened.change(
                "INSERT INTO arrivals (id, inbox, folder, state, attempt, is_duplicate, created_at, run_id)"
                " VALUES (?, 'metrics', '/', ?, 3, ?, ?, 'r')",
                (state, state, int(state == "skipped"), (NOW - timedelta(hours=hours)).isoformat()),
            )
            for name in (f"{state}.csv", "same.csv"):
                file_state = state if state in {"loaded", "failed", "skipped"} else "staged"
                opened.change(
                    "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
                    " VALUES ('metrics', ?, ?, '1', '1', 1, 1, ?, ?, '2026')",
                    (f"{state}/{name}", name, file_state, state),
                )
        yield opened


def state(ledger, arrival_id: str) -> tuple[str, int, tuple[str, ...]]:
    arrival = arrivals.get(ledger, arrival_id)
    return arrival.state, arrival.given_up, arrival.reload


@pytest.mark.parametrize("ended", ["loaded", "failed", "skipped"])
def test_an_arrival_that_has_ended_is_announced_again_as_if_never_before(settings, ledger, ended):
    assert retry(settings, ended) == [f"arrival {ended} (2 files) is announced again; it was {ended}"]
    assert state(ledger, ended) == ("staged", 3, ())
    arrival = arrivals.get(ledger, ended)
    assert (arrival.run_id, arrival.is_duplicate) == (None, False)
    assert {row["state"] for row in ledger.rows("SELECT state FROM files WHERE arrival_id = ?", (ended,))} == {"staged"}


def test_one_that_is_under_way_is_left_alone_and_says_so(settings, ledger):
    with pytest.raises(ReplayError, match="arrival running is running: it is under way"):
        retry(settings, "running")
    assert state(ledger, "running") == ("running", 0, ())


def test_one_that_waits_for_its_next_announcement_does_not_wait_any_longer(settings, ledger):
    ledger.change("UPDATE arrivals SET announce_after = ? WHERE id = 'staged'", (stamp(NOW + timedelta(minutes=5)),))
    retry(settings, "staged")
    assert [one.id for one in arrivals.to_announce(ledger, NOW)] == ["staged"]


def test_an_arrival_that_is_not_there_is_reported_as_such(settings, ledger):
    with pytest.raises(ReplayError, match=r"there is no arrival x\\x1b"):
        retry(settings, "x\x1b")


def test_before_anything_was_dropped_there_is_nothing_to_try_again(settings):
    with pytest.raises(ReplayError, match="nothing has been dropped yet"):
        retry(settings, "a")


def test_failed_means_the_failed_ones(settings, ledger):
    assert replay(settings, Selection(failed=True)) == [
        "arrival failed (2 files) is announced again; it was failed",
        "1 of 1 arrivals are announced again; what is loaded already is skipped",
    ]


def test_since_means_those_that_came_since(settings, ledger):
    lines = replay(settings, Selection(since=NOW - timedelta(hours=2, minutes=1)))
    assert [line.split()[1] for line in lines[:-1]] == ["failed", "loaded"]


def test_since_counts_what_is_under_way_and_leaves_it_alone(settings, ledger):
    lines = replay(settings, Selection(since=NOW - timedelta(days=1)))
    assert lines[-2:] == [
        "2 are under way and left alone",
        "3 of 5 arrivals are announced again; what is loaded already is skipped",
    ]


def test_a_file_means_the_arrivals_that_it_is_in(settings, ledger):
    replay(settings, Selection(file="loaded.csv"), reload=True)
    assert state(ledger, "loaded") == ("staged", 3, ("loaded.csv",))
    assert state(ledger, "failed") == ("failed", 0, ())


def test_file_and_failed_mean_both(settings, ledger):
    assert replay(settings, Selection(file="same.csv", failed=True))[0].startswith("arrival failed")


def test_a_reload_without_a_file_replaces_the_rows_of_all(settings, ledger):
    lines = replay(settings, Selection(failed=True), reload=True)
    assert lines[-1].endswith("their rows are replaced")
    assert state(ledger, "failed") == ("staged", 3, ("*",))


def test_nothing_said_must_not_mean_everything(settings, ledger):
    with pytest.raises(ReplayError, match="FILE, --since TIME or --failed"):
        replay(settings, Selection())


def test_what_finds_nothing_says_what_was_looked_for(settings, ledger):
    with pytest.raises(ReplayError, match=r"no arrival was found with a file nowhere.csv that failed"):
        replay(settings, Selection(file="nowhere.csv", failed=True))


@pytest.mark.parametrize(
    ("text", "moment"),
    [("30m", NOW - timedelta(minutes=30)), ("2h", NOW - timedelta(hours=2)), ("3d", NOW - timedelta(days=3))],
)
def test_a_time_may_be_said_as_so_long_ago(text, moment):
    assert moment_of(text, NOW) == moment


def test_a_time_may_be_a_local_one():
    assert moment_of("2026-11-24 09:00", NOW) == datetime(2026, 11, 24, 9, 0).astimezone(UTC)


def test_a_time_that_is_none_says_what_was_expected():
    with pytest.raises(ReplayError, match="--since: expected a time such as 2h, 3d"):
        moment_of("yesterday", NOW)


def test_a_replay_reads_by_the_rules_of_the_arrival_or_by_those_of_today(settings, ledger, tmp_path):
    ledger.change('UPDATE arrivals SET rules = \'{"contract": "freeze"}\'')
    inboxes = tmp_path / "inboxes.yaml"
    today = settings.model_copy(update={"inboxes_file": inboxes})
    inboxes.write_text("inboxes:\n  metrics: {contract: discard}\n")
    replay(today, Selection(file="loaded.csv"))
    assert arrivals.get(ledger, "loaded").rules == '{"contract": "freeze"}'
    lines = replay(today, Selection(failed=True), rules="now")
    assert lines[-1].endswith("what is loaded already is skipped; files are read by today's rules")
    assert arrivals.get(ledger, "failed").rules == '{"contract": "discard"}'
    replay(today, Selection(since=NOW - timedelta(days=1)), rules="now")
    assert arrivals.get(ledger, "running").rules == '{"contract": "freeze"}', "it is under way"
    inboxes.write_text("inboxes:\n  metrics: {}\n")
    ledger.change("UPDATE arrivals SET state = 'loaded'")
    replay(today, Selection(file="skipped.csv"), rules="now")
    assert arrivals.get(ledger, "skipped").rules is None


def test_rules_of_an_inbox_that_is_gone_and_a_wrong_word_announce_nothing(settings, ledger, tmp_path):
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text("inboxes:\n  other: {}\n")
    with pytest.raises(ReplayError, match="there is no inbox metrics in "):
        replay(settings.model_copy(update={"inboxes_file": inboxes}), Selection(failed=True), rules="now")
    with pytest.raises(ReplayError, match="--rules: expected arrival or now, got then"):
        replay(settings, Selection(failed=True), rules="then")
    assert state(ledger, "failed")[0] == "failed"
