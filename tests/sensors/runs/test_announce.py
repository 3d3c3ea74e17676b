"""Announcing while there is no server to announce to."""

import json
from datetime import timedelta

import pytest

from sensors.ledger import announcements, arrivals
from sensors.ledger.database import stamp
from sensors.ledger.states import ArrivalState
from sensors.runs.announcer import NAMED_FILES, Announcer
from sensors.runs.api import NotReachedError, PrefectApi
from tests.receiver import receiving


def test_without_a_server_an_arrival_stays_staged_and_no_attempt_is_counted(ledger, hand_clock, unreachable):
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, created_at, staged_at)"
        " VALUES ('metrics-1', 'metrics', '/arrivals/1', 'staged', '2026', '2026')"
    )
    with PrefectApi(unreachable, None) as api:
        announcer = Announcer(ledger, api, hand_clock.clock)
        for _ in range(3):
            with pytest.raises(NotReachedError, match="nothing listens at"):
                announcer.step()
    (arrival,) = arrivals.in_state(ledger, ArrivalState.STAGED)
    assert arrival.attempt == 0
    assert announcements.awaiting_receipt(ledger) == []


def test_prefect_never_has_more_arrivals_of_an_inbox_than_it_may_have_in_flight(ledger, hand_clock):
    for n in range(20):
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES (?, ?, '/arrivals/1', 'staged', ?)",
            (f"a-{n}", ("busy", "calm")[n >= 18], f"{n:02}"),
        )
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        announcer = Announcer(ledger, api, hand_clock.clock, {"busy": 3, "calm": 5})
        assert announcer.step()
        assert [one.id for one in arrivals.in_state(ledger, ArrivalState.ANNOUNCED)] == [
            "a-0",
            "a-1",
            "a-2",
            "a-18",
            "a-19",
        ]
        assert not announcer.step()
        announcements.record_outcome(ledger, "a-1", ArrivalState.LOADED, (), None, hand_clock.now)
        assert announcer.step()
        assert [body[0]["payload"]["arrival_id"] for _, body in server.posts][-1] == "a-3"


def test_an_event_names_some_of_many_files_and_says_how_many_there_are(ledger, hand_clock):
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES ('m-1', 'm', '/arrivals/1', 'staged', '1')"
    )
    long = "\N{GRINNING FACE}" * 49
    for n in range(4000):
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
            " VALUES ('m', ?, ?, '1', '1', 2, 1, 'staged', 'm-1', '2026')",
            (f"/m/{long}{n}", f"{long}{n}"),
        )
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        assert Announcer(ledger, api, hand_clock.clock).step()
    (body,) = [body for _, body in server.posts]
    assert (len(body[0]["payload"]["files"]), body[0]["payload"]["file_count"]) == (NAMED_FILES, 4000)
    assert body[0]["payload"]["bytes"] == 8000
    assert len(json.dumps(body)) < 1_000_000


def test_an_inbox_may_announce_its_arrivals_by_an_event_of_its_own(ledger, hand_clock):
    for inbox in ("metrics", "documents"):
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES (?, ?, '/arrivals/1', 'staged', '1')",
            (f"{inbox}-1", inbox),
        )
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        assert Announcer(ledger, api, hand_clock.clock, events={"documents": "inbox.document.ready"}).step()
        reported = {body[0]["payload"]["inbox"]: body[0]["event"] for _, body in server.posts}
    assert reported == {"metrics": "inbox.arrival.ready", "documents": "inbox.document.ready"}


def test_a_pause_that_was_written_down_before_the_clock_was_set_back_holds_nothing_up(ledger, hand_clock):
    for minutes in (1, 60):
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, created_at, announce_after)"
            " VALUES (?, 'metrics', '/arrivals/1', 'staged', '2026', ?)",
            (f"in-{minutes}", stamp(hand_clock.now + timedelta(minutes=minutes))),
        )
    assert [one.id for one in arrivals.to_announce(ledger, hand_clock.now)] == ["in-60"]
