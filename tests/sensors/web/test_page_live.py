"""Pages that are open are told of every change of the ledger, which is looked up once for all of them."""

import asyncio
import json
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from sensors.config.inboxes import read_inboxes
from sensors.ledger import Ledger
from sensors.ledger.states import ArrivalState
from sensors.reports.arrivals import InboxActivity, InboxCounts, activity_of
from sensors.runtime.clock import Clock
from sensors.web import live as live_module
from sensors.web import queries
from sensors.web.live import LedgerChanges, Live, Snapshot, TooManyPagesError
from sensors.web.models import InboxView
from sensors.web.queries import Queries
from tests.dropped_arrivals import record_arrival
from tests.served_page import page_settings, served_page

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def view(name: str, waiting: int = 0) -> InboxView:
    return InboxView(
        name=name,
        where="/inbox",
        watched_by="events",
        patterns=("*.csv",),
        max_bytes=1,
        books=InboxCounts(seen=waiting, waiting=waiting),
        files_today=0,
        rows_today=0,
        oldest_waiting=None,
        last_name=None,
        last_seen=None,
        last_dismissed=None,
    )


def test_only_what_has_changed_is_reported():
    before = Snapshot({"a": view("a"), "b": view("b")})
    after = Snapshot({"a": view("a"), "b": view("b", 1), "c": view("c")})
    assert list(after.changes_since(before)) == [view("b", 1), view("c")]
    assert list(after.changes_since(after)) == []


def test_a_change_by_another_connection_is_seen_once(ledger, tmp_path):
    with Ledger(tmp_path / "ledger.db", read_only=True) as looking:
        changes = LedgerChanges(looking)
        assert [changes.seen(), changes.seen()] == [True, False]
        record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
        assert [changes.seen(), changes.seen()] == [True, False]


@pytest.fixture
def page(tmp_path):
    with served_page(page_settings(tmp_path / "data")) as page:
        yield page


def events(lines, count: int) -> list[tuple[str, dict[str, str]]]:
    """Read so many events of a stream."""
    found, kind = [], ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        if line.startswith("data: "):
            found.append((kind, json.loads(line.removeprefix("data: "))))
        if len(found) == count:
            break
    return found


def test_a_page_learns_what_there_is_and_then_each_step_of_an_arrival(page):
    with (
        page.client() as client,
        client.stream("GET", "/stream") as stream,
        Ledger(page.settings.ledger_path) as ledger,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert [(kind, reported["id"]) for kind, reported in events(lines, 1)] == [("inbox", "metrics")]
        record_arrival(ledger, "m-1", NOW, {"a.csv": "staged"}, state="running")
        reported = dict(events(lines, 2))
        assert reported["arrival"]["id"] == "m-1"
        assert ArrivalState.RUNNING in reported["arrival"]["html"]
        with ledger.transaction():
            ledger.change("UPDATE arrivals SET state = 'loaded', ended_at = ?", ((NOW + timedelta(1)).isoformat(),))
        assert ArrivalState.LOADED in dict(events(lines, 1))["arrival"]["html"]


def test_an_inbox_and_its_arrivals_are_shown_as_they_were_at_the_same_moment(page, monkeypatch):
    reading = Queries(page.settings, read_inboxes(page.settings.inboxes_file, page.settings.inbox_dir), Clock())

    def glance_after_an_arrival(*asked) -> InboxActivity:
        with Ledger(page.settings.ledger_path) as ledger:
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
        return activity_of(*asked)

    monkeypatch.setattr(queries, "activity_of", glance_after_an_arrival)
    (inbox,), arrivals = reading.inboxes_and_arrivals(10)
    assert (inbox.books.seen, inbox.last_name, arrivals) == (0, None, [])


def test_two_pages_get_the_same_changes(page):
    opened = Ledger(page.settings.ledger_path)
    with page.client() as client, client.stream("GET", "/stream") as one, client.stream("GET", "/stream") as two:
        lines = [one.iter_lines(), two.iter_lines()]
        assert [len(events(stream, 1)) for stream in lines] == [1, 1]
        with opened as ledger:
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
        reported = [events(stream, 2) for stream in lines]
    assert reported[0] == reported[1]


def test_a_page_that_is_closed_is_forgotten_and_no_one_looks_any_more(tmp_path):
    looks = 0

    def look() -> Snapshot:
        nonlocal looks
        looks += 1
        return Snapshot()

    async def open_and_close() -> None:
        Ledger(tmp_path / "ledger.db").close()
        live = Live(look, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page():
            looking = live._looking
        assert looking is not None
        await asyncio.wait_for(looking, 5)

    asyncio.run(open_and_close())
    assert looks <= 2


def test_a_page_that_does_not_read_is_ended_and_the_others_go_on(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "QUEUED", 10)
    shown = Snapshot()

    async def overwhelm() -> None:
        nonlocal shown
        live = Live(lambda: shown, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page() as deaf, live.page() as other:
            shown = Snapshot({str(n): view(str(n)) for n in range(20)})
            live._tell(shown)
            assert (deaf.qsize(), await deaf.get()) == (1, None)
            assert await other.get() is None
            assert not live._pages

    asyncio.run(overwhelm())


def test_a_look_that_fails_ends_no_page_and_the_next_one_is_reported(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0.01)
    looks: list[Snapshot | Exception] = [
        Snapshot(),
        sqlite3.OperationalError("disk I/O error"),
        Snapshot({"a": view("a")}),
    ]

    def look() -> Snapshot:
        found = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def fail_once() -> None:
        live = Live(look, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page() as queue:
            while len(looks) > 1:  # noqa: ASYNC110 - until the failing look is over
                await asyncio.sleep(0.01)
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
            assert await asyncio.wait_for(queue.get(), 5) == view("a")

    asyncio.run(fail_once())


def test_more_pages_than_there_is_room_for_get_no_stream(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "MOST_PAGES", 1)

    async def open_two() -> None:
        live = Live(Snapshot, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page():
            with pytest.raises(TooManyPagesError):
                async with live.page():
                    pass

    asyncio.run(open_two())


def test_one_look_that_takes_long_does_not_make_open_pages_stand_still(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0.01)
    looks: list[Snapshot] = [Snapshot(), Snapshot({"a": view("a")}), Snapshot({"b": view("b")})]

    def look() -> Snapshot:
        if len(looks) == 2:
            time.sleep(1.0)
        return looks.pop(0) if len(looks) > 1 else looks[0]

    async def look_slowly() -> None:
        live = Live(look, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page() as queue:
            assert await asyncio.wait_for(queue.get(), 5) == view("a")
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
            assert await asyncio.wait_for(queue.get(), 5) == view("b")

    asyncio.run(look_slowly())


def test_a_page_misses_no_change_that_happens_while_it_is_opened(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0.01)
    shown, opening, sent = Snapshot(), threading.Event(), threading.Event()

    def look() -> Snapshot:
        nonlocal shown
        found = shown
        if opening.is_set():  # the second page reads, and then a change is sent to the first one, if it can be
            opening.clear()
            shown = Snapshot({"a": view("a")})
            record_arrival(ledger, "m-1", NOW, {"a.csv": "loaded"})
            sent.wait(0.5)
        return found

    async def read_first(queue: "asyncio.Queue[object]") -> None:
        await queue.get()
        sent.set()

    async def open_second() -> None:
        live = Live(look, lambda: Ledger(tmp_path / "ledger.db", read_only=True))
        async with live.page() as first:
            reading = asyncio.create_task(read_first(first))
            opening.set()
            async with live.page() as second:
                assert await asyncio.wait_for(second.get(), 5) == view("a")
            await reading

    asyncio.run(open_second())
