"""The history: the latest arrivals as a person and as a script reads them."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from sensors.cli.history import history_table, read_history, show_history
from sensors.config.settings import Settings
from sensors.reports.arrivals import latest, latest_failed
from sensors.stack.errors import StackError
from tests.dropped_arrivals import record_arrival

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger):
    record_arrival(ledger, "m-1", NOW, {"b.csv": "loaded", "a.csv": "rejected"}, state="failed")
    record_arrival(ledger, "o-1", NOW + timedelta(hours=1), {"x.json": "loaded"}, inbox="orders")
    record_arrival(ledger, "m-2", NOW + timedelta(hours=2), {"[d]\x1b[2J.csv": "staged"}, state="running")
    return ledger


@pytest.fixture
def settings(ledger, tmp_path):
    return Settings(state_dir=tmp_path)


def read(settings, inbox=None, *, limit=20, failed=False):
    return [one.id for one in read_history(settings, inbox, limit=limit, failed=failed)]


def drawn(arrivals, width):
    out = io.StringIO()
    Console(file=out, width=width).print(history_table(arrivals, width))
    return out.getvalue()


def test_the_newest_comes_first_and_no_more_than_asked_for(settings):
    assert read(settings) == ["m-2", "o-1", "m-1"]
    assert read(settings, limit=1) == ["m-2"]


def test_one_inbox_or_only_what_failed_can_be_asked_for(settings):
    assert read(settings, "metrics") == ["m-2", "m-1"]
    assert read(settings, failed=True) == ["m-1"]
    assert read(settings, "orders", failed=True) == []


def test_an_inbox_that_there_is_not_is_reported_with_those_that_there_are(settings):
    with pytest.raises(StackError, match="there is no inbox ordres; there is metrics, orders"):
        read(settings, "ordres")


def test_before_anything_was_dropped_the_history_is_empty(tmp_path, capsys):
    show_history(Settings(state_dir=tmp_path), None, limit=20, failed=False, as_json=False)
    assert capsys.readouterr().out == "no arrivals yet; `just drop FILE` makes one\n"


def test_an_arrival_is_a_line_with_its_local_time_its_counts_and_its_seconds(ledger):
    text = drawn(latest(ledger, 3), 200)
    running, orders, _ = text.splitlines()[1:]
    taken = f"{(NOW + timedelta(hours=1)).astimezone():%Y-%m-%d %H:%M:%S}"
    cells = ["o-1", "x.json", "orders", "loaded", "1", "10", "0.50", "s", "1.10", "s", "1"]
    assert orders.split() == [*taken.split(), *cells]
    assert r"[d]\x1b[2J.csv" in running
    assert "\x1b" not in text


def test_a_failed_one_shows_how_many_of_its_files_are_bad(ledger):
    text = drawn(latest_failed(ledger, 3), 200)
    assert "b.csv +1" in text
    assert "2 (1 bad)" in text


def test_on_a_narrow_screen_nothing_is_cut_off_and_no_id_broken_in_two(ledger):
    record_arrival(ledger, "metrics-20261124-140509-3f9a1c", NOW, {"a-rather-long-name-of-a-file.csv": "loaded"})
    text = drawn(latest(ledger, 9, inbox="metrics"), 80)
    assert "…" not in text
    assert "metrics-20261124-140509-3f9a1c" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_json_is_in_utc_and_in_seconds(settings, capsys):
    show_history(settings, "orders", limit=20, failed=False, as_json=True)
    [arrival] = json.loads(capsys.readouterr().out)["arrivals"]
    assert arrival["title"] == "x.json"
    assert arrival["created_at"] == "2026-11-24T10:00:00+00:00"
    assert arrival["seconds_to_end"] == pytest.approx(1.1)
    assert arrival["rows"] == 10
