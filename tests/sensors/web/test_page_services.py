"""The services on the page: how they are in one line, what of it needs attention, and that nobody waits for it."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.stack.health import NOT_RUNNING, Health
from sensors.stack.services import Service
from sensors.web import attention
from sensors.web.attention import (
    LOOK_SECONDS,
    STALE_SECONDS,
    STARTING_SECONDS,
    Services,
    ServiceState,
    ServicesWatch,
    check_services,
)
from sensors.web.live import Live, Snapshot
from tests.free_ports import free_ports
from tests.hand_clock import HandClock
from tests.journeys.stack import wait_until
from tests.served_page import page_settings, served_page

WELL = Health(healthy=True)
DOWN = Health(healthy=False, detail=NOT_RUNNING)


def found(lasting: bool = True, loops: dict[str, str] | None = None, **healths: Health) -> Services:
    """Return services of which what is wrong was wrong the last time as well, or was not."""
    known = Services({Service(name): health for name, health in healths.items()}, loops or {})
    return replace(known, lasting=known.wrong) if lasting else known


def reported(services: Services, settings: Settings | None = None) -> dict[str, str]:
    """Return the titles of what needs attention, each with what mends it."""
    return {matter.title: matter.mend for matter in services.matters(settings or Settings())}


def words(services: Services) -> dict[str, str]:
    return {sign.name: sign.word for sign in services.signs()}


def test_each_that_is_well_has_its_word_and_needs_no_attention():
    well = found(server=WELL, worker=WELL, warm=WELL)
    assert words(well) == {"server": "well", "worker": "well", "sensor": "well", "warm": "well"}
    assert (well.are_well, reported(well)) == (True, {})


def test_what_is_down_is_reported_with_the_commands_that_mend_it():
    (matter,) = found(server=DOWN).matters(Settings(api_port=4321))
    assert matter.title == "The Prefect server is not running"
    assert matter.detail.startswith("Nothing listens at http://127.0.0.1:4321/api. Without it files are taken")
    assert "`just up`" in matter.mend
    assert "`just logs server`" in matter.mend


def test_a_worker_that_has_fallen_silent_is_reported():
    silent = found(server=WELL, worker=Health(healthy=False, detail="last heard of 40 s ago"))
    (matter,) = silent.matters(Settings())
    assert (matter.title, matter.detail) == (
        "The worker is in trouble",
        "Last heard of 40 s ago. Without a worker runs wait.",
    )


def test_of_the_worker_nothing_is_known_while_the_server_is_down():
    assert ServiceState("worker", "wait", "not known") in found(server=DOWN).signs()


def test_what_a_stack_can_do_without_is_reported_more_quietly():
    assert ServiceState("warm", "wait", NOT_RUNNING) in found(server=WELL, worker=WELL, warm=DOWN).signs()


def test_a_loop_in_trouble_is_reported_and_that_of_an_inbox_leads_there():
    sick = found(server=WELL, worker=WELL, loops={"inbox orders": "OSError: no room", "bell": "stuck"})
    inbox, bell = sick.matters(Settings())
    assert (inbox.title, inbox.detail, inbox.href) == (
        "Inbox orders is in trouble",
        "OSError: no room",
        "#inbox-orders",
    )
    assert (bell.title, bell.href) == ("The sensor's loop \u201cbell\u201d is stuck", None)
    assert words(sick)["sensor"] == "in trouble"


def test_what_was_well_a_moment_ago_is_shown_and_needs_no_attention_yet():
    for wrong in (found(lasting=False, server=DOWN), found(lasting=False, server=WELL, loops={"bell": "stuck"})):
        assert not wrong.are_well
        assert reported(wrong) == {}


def test_where_server_and_workers_are_elsewhere_the_page_says_what_to_do_there():
    given = {"profile": "scale", "prefect_api_url": "http://10.0.0.5:4200/api"}
    none = {"api_servers": 0, "service_processes": 0, "workers": 0}
    sensor_only = Settings.model_validate({**given, **none})
    mends = reported(found(server=DOWN, worker=DOWN), sensor_only)
    assert "PREFECT_API_URL" in mends["The Prefect server is not running"]
    assert "WORKERS=1" in mends["The worker is not running"]


def loop_with(name: str, trouble: str) -> Loop:
    loop = Loop(name, lambda: 60.0, Clock())
    loop.trouble = trouble
    return loop


def test_a_server_that_is_not_there_is_reported_once_and_not_by_each_loop_that_asks_it(tmp_path):
    settings = page_settings(tmp_path, api_port=free_ports(1)[0])
    loops = [loop_with("announce", "NotReachedError: no server listens"), loop_with("bell", "OSError: no room")]
    seen = check_services(settings, loops)
    assert seen.healths[Service.SERVER] == DOWN
    assert Service.WORKER not in seen.healths
    assert seen.loops == {"bell": "OSError: no room"}


# -- the watch


class Looks:
    """Looks that tell what they are given, and are counted."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.count = 0

    def __call__(self) -> Services:
        self.count += 1
        return self.services


def looked(watch: ServicesWatch, looks: Looks, count: int) -> Services:
    """Return what is known when so many looks are over."""
    watch.latest()
    wait_until(lambda: looks.count == count and not watch._is_looking, f"{count} looks are over", 5, 0.005)
    latest = watch.latest()
    assert latest is not None
    return latest


def test_no_one_looks_until_somebody_asks_and_then_only_now_and_then():
    hand, looks = HandClock(), Looks(found(server=WELL))
    watch = ServicesWatch(looks, hand.clock)
    assert looks.count == 0
    looked(watch, looks, 1)
    for _ in range(10):
        watch.latest()
    assert looks.count == 1
    hand.turn(LOOK_SECONDS)
    looked(watch, looks, 2)


def test_what_two_looks_in_a_row_find_wrong_lasts():
    hand, looks = HandClock(), Looks(found(lasting=False, server=DOWN))
    watch = ServicesWatch(looks, hand.clock)
    hand.turn(STARTING_SECONDS)
    assert looked(watch, looks, 1).lasting == frozenset()
    hand.turn(LOOK_SECONDS)
    assert looked(watch, looks, 2).lasting == {"server"}
    looks.services = found(server=WELL)
    hand.turn(LOOK_SECONDS)
    assert looked(watch, looks, 3).lasting == frozenset()


def test_what_is_not_there_yet_while_the_stack_starts_needs_no_attention():
    hand, looks = HandClock(), Looks(found(lasting=False, warm=DOWN))
    watch = ServicesWatch(looks, hand.clock)
    for count in (1, 2, 3):
        assert looked(watch, looks, count).lasting == frozenset()
        hand.turn(LOOK_SECONDS)
    hand.turn(STARTING_SECONDS - 3 * LOOK_SECONDS)
    assert looked(watch, looks, 4).lasting == {"warm"}


def test_what_was_found_long_ago_is_not_shown_and_makes_nothing_last():
    hand, looks = HandClock(), Looks(found(lasting=False, server=DOWN))
    watch = ServicesWatch(looks, hand.clock)
    hand.turn(STARTING_SECONDS)
    looked(watch, looks, 1)
    hand.turn(STALE_SECONDS)
    assert watch.latest() is None
    assert looked(watch, looks, 2).lasting == frozenset()


def test_a_look_that_fails_is_followed_by_another_after_the_pause():
    hand = HandClock()
    answers: list[Services | None] = [None, found(server=WELL)]

    def look() -> Services:
        answer = answers.pop(0)
        if answer is None:
            raise OSError("no more file descriptors")
        return answer

    watch = ServicesWatch(look, hand.clock)
    watch.latest()
    wait_until(lambda: not watch._is_looking, "the first look is over", 5, 0.005)
    assert watch.latest() is None
    assert len(answers) == 1
    hand.turn(LOOK_SECONDS)
    wait_until(lambda: watch.latest() is not None, "the second look is over", 5, 0.005)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(attention, "STARTING_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_the_page_shows_a_server_that_is_not_there_among_what_needs_a_person(tmp_path):
    settings = page_settings(tmp_path / "data", api_port=free_ports(1)[0])
    watch = ServicesWatch(lambda: check_services(settings, []), Clock())
    with served_page(settings, watch.latest) as page, page.client() as client:

        def shown() -> str | None:
            text = client.get("/", headers={"Accept": "text/html"}).raise_for_status().text
            return text if "The Prefect server is not running" in text else None

        text = wait_until(shown, "the page tells of the server", 10)
    assert "server: not running" in text
    assert "worker: not known" in text
    assert "sensor: well" in text
    assert "<code>just logs server</code>" in text
    assert "(2) Drop page" in text, "the server, and the warm one that is not there either"


def test_a_request_does_not_wait_for_a_look(tmp_path):
    over = threading.Event()

    def hang() -> Services:
        over.wait(20)
        return found(server=WELL)

    watch = ServicesWatch(hang, Clock())
    try:
        with served_page(page_settings(tmp_path / "data"), watch.latest) as page, page.client() as client:
            began = time.monotonic()
            for _ in range(3):
                assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
            assert time.monotonic() - began < 10
    finally:
        over.set()


def test_the_services_are_reported_anew_though_nothing_has_changed_in_the_ledger(ledger, tmp_path):
    well, down = found(server=WELL), found(server=DOWN)
    known = [well]

    async def change() -> None:
        live = Live(
            lambda: Snapshot(services=well), lambda: Ledger(tmp_path / "ledger.db", read_only=True), lambda: known[0]
        )
        async with live.page() as queue:
            assert await asyncio.wait_for(queue.get(), 5) == well
            known[0] = down
            assert await asyncio.wait_for(queue.get(), 5) == down

    asyncio.run(change())


def test_an_open_page_is_updated_when_the_services_are_found_otherwise(tmp_path):
    known = [found(server=WELL)]
    with (
        served_page(page_settings(tmp_path / "data"), lambda: known[0]) as page,
        page.client() as client,
        client.stream("GET", "/stream") as stream,
    ):
        lines = (line for line in stream.iter_lines() if line.startswith(("event: services", 'data: {"well"')))
        assert [next(lines), next(lines)] == ["event: services", 'data: {"well": true}']
        known[0] = found(server=DOWN)
        assert [next(lines), next(lines)] == ["event: services", 'data: {"well": false}']
