"""Files dropped onto the page: on their way, refused, loaded, and tried again."""

import signal
import socket
from base64 import b64encode
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase

import duckdb
import psutil
import pytest
from playwright.sync_api import Page, expect

from sensors.web.upload_routes import MOST_UPLOADS
from tests.browser.chromium import Tab
from tests.browser.conftest import HOSTILE, opened
from tests.browser.hands import (
    OUTCOME_MS,
    card,
    drag_in,
    expect_loaded,
    first_arrival,
    held,
    listen,
    matter,
    upload_line,
)
from tests.journeys.stack import CREDENTIALS, Stack, wait_until

ROWS = "day,sold\n2026-11-24,3\n2026-11-25,4\n"


def test_a_file_that_is_dragged_in_is_seen_to_be_loaded_on_the_same_page(page: Page, stack: Stack):
    page.evaluate("window.sameOne = true")
    drag_in(page, {"dragged.csv": ROWS})
    expect_loaded(page, "dragged.csv")
    expect(upload_line(page, "dragged.csv")).to_contain_text("2 rows")
    arrival = first_arrival(page, "dragged.csv")
    expect(arrival).to_have_attribute("data-state", "loaded")
    assert arrival.locator(".track li").all_inner_texts()[3].startswith("loaded")
    run = arrival.locator(".run a").get_attribute("href")
    assert run
    assert run.startswith(f"http://127.0.0.1:{stack.api_port}/runs/flow-run/")
    assert page.evaluate("window.sameOne")
    assert stack.rows("SELECT count(*) FROM public.daily_metrics WHERE _file_name = 'dragged.csv'") == [(2,)]


def test_what_becomes_of_it_is_spoken(page: Page):
    heard = listen(page)
    drag_in(page, {"spoken.csv": ROWS})
    expect(page.locator("#spoken")).to_have_text("spoken.csv: loaded, 2 rows", timeout=OUTCOME_MS)
    assert heard.json_value() == [
        "Uploading spoken.csv to metrics",
        "1 file uploaded to metrics",
        "spoken.csv: loaded, 2 rows",
    ]


def test_a_file_with_a_bad_value_is_shown_with_its_reason_and_loaded_once_the_table_takes_it(page: Page, stack: Stack):
    stack.know_one_of(["largeness"], "BIGINT")
    drag_in(page, {"sizes.csv": "largeness\n7\n"})
    expect_loaded(page, "sizes.csv")
    drag_in(page, {"words.csv": "largeness\nmuch\n"})
    line = upload_line(page, "words.csv")
    expect(line.locator(".so-far")).to_contain_text("rejected", timeout=OUTCOME_MS)
    expect(line.locator(".why")).to_contain_text('"much" is not a BIGINT')
    bad = matter(page, "words.csv")
    expect(bad.locator(".reason")).to_contain_text('column "largeness"')
    with duckdb.connect(stack.state_dir / "warehouse.duckdb") as warehouse:
        warehouse.execute("ALTER TABLE public.daily_metrics ALTER largeness TYPE VARCHAR")
    bad.get_by_role("button", name="Try again").click()
    expect(bad.locator(".answer")).to_contain_text("is announced again")
    expect(bad).to_have_count(0, timeout=OUTCOME_MS)
    assert stack.rows("SELECT largeness FROM public.daily_metrics WHERE _file_name = 'words.csv'") == [("much",)]


def test_200_files_at_once_are_all_loaded_and_the_page_stays_readable(page: Page, stack: Stack):
    stack.know_one_of(["many"], "BIGINT")
    drag_in(page, {f"many-{number:03}.csv": f"many\n{number}\n" for number in range(200)})
    total = card(page).locator(".total")
    expect(total).to_contain_text("of 200 files uploaded")
    assert card(page).locator(".upload").count() <= 4
    expect(total).to_have_text("200 files uploaded, 200 loaded", timeout=OUTCOME_MS)
    assert card(page).locator(".upload").count() == 0
    assert stack.rows("SELECT count(DISTINCT many), count(many) FROM public.daily_metrics") == [(200, 200)]
    assert page.locator("#arrivals .arrival").count() <= 20


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("picture.png", "x", "inbox orders takes *.csv *.json, not this kind of file"),
        ("large.csv", "x" * 1001, "has 1.0 kB, at most 1.0 kB are taken here"),
    ],
)
def test_what_the_inbox_does_not_take_is_not_even_sent(page: Page, stack: Stack, name: str, content: str, reason: str):
    stack.know_one_of(["a"], "BIGINT")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    drag_in(page, {name: content, "small.csv": "a\n1\n"}, "orders")
    expect(upload_line(page, name, "orders")).to_contain_text(reason)
    expect_loaded(page, "small.csv", "orders")
    expect(card(page, "orders").locator(".total")).to_have_text("1 file uploaded, 1 loaded, 1 not uploaded")
    expect(card(page, "orders").locator(".again")).to_be_hidden()
    assert asked.count("PUT") == 1


def test_the_server_s_own_reason_is_shown_and_a_refused_upload_can_be_tried_again(tab: Tab, stack: Stack):
    tab.allowed = ("status of 409",)
    page = opened(tab)
    with (stack.inbox / "held.csv").open("w") as open_elsewhere:  # so that it is not taken
        open_elsewhere.write(ROWS)
        open_elsewhere.flush()
        drag_in(page, {"held.csv": ROWS})
        expect(upload_line(page, "held.csv")).to_contain_text("has not been taken yet")
    wait_until(lambda: not (stack.inbox / "held.csv").exists(), "the other one is taken")
    card(page).get_by_role("button", name="Try 1 upload again").click()
    expect_loaded(page, "held.csv")


@pytest.mark.parametrize(
    "pattern", ["*.csv", "*.CSV.gz", "da?a-*", "[ab]*.json", "[!ab]*.json", "a.b+(c)^$|{1}", "[]x]*"]
)
def test_the_browser_reads_patterns_as_the_sensor_does(page: Page, pattern: str):
    names = ["a.csv", "A.CSV", "acsv", "b.csv.GZ", "data-1", "daa", "b.json", "c.json", "a.b+(c)^$|{1}", "]", "x"]
    taken = page.evaluate(
        """async ([pattern, names]) => {
            const { mistakeIn } = await import("/static/rules.js");
            const rules = { inbox: "i", patterns: [pattern], most: 9, done: "" };
            return names.filter((name) => mistakeIn({ name, size: 1 }, false, rules) === "");
        }""",
        [pattern, names],
    )
    assert taken == [name for name in names if fnmatchcase(name.lower(), pattern.lower())]


def test_uploads_that_are_stopped_can_be_tried_again(tab: Tab, stack: Stack):
    tab.allowed = ("status of 404",)  # of those that were cut off it is asked whether they have come
    page = opened(tab)
    with frozen(stack.program("sensor")):
        drag_in(page, {f"stopped-{number}.csv": ROWS for number in range(6)})
        card(page).get_by_role("button", name="Stop").click()
        expect(card(page).locator(".total")).to_have_text("6 not uploaded")
    card(page).get_by_role("button", name="Try 6 uploads again").click()
    expect(card(page).locator(".total")).to_have_text("6 files uploaded, 6 loaded", timeout=OUTCOME_MS)
    loaded = "SELECT count(*) FROM public.daily_metrics WHERE _file_name LIKE 'stopped-%'"
    assert stack.rows(loaded) == [(12,)]


@contextmanager
def frozen(process: psutil.Process) -> Generator[None, None, None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextmanager
def all_places_taken(stack: Stack) -> Generator[None, None, None]:
    """Hold as many uploads open as there may be."""
    authorization = b"Authorization: Basic " + b64encode(CREDENTIALS.encode())
    with ExitStack() as held_open:
        for number in range(MOST_UPLOADS):
            connection = held_open.enter_context(socket.create_connection(("127.0.0.1", stack.sensor_port)))
            head = f"PUT /inbox/metrics/slow-{number}.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
            connection.sendall(head.encode() + authorization + b"\r\n\r\nx")
        wait_until(lambda: len([*stack.inbox.glob(".*.uploading")]) == MOST_UPLOADS, "all places are taken")
        yield


def test_while_the_sensor_has_no_place_an_upload_waits_and_then_goes_by_itself(tab: Tab, stack: Stack):
    tab.allowed = ("status of 503",)
    page = opened(tab)
    with all_places_taken(stack):
        drag_in(page, {"patient.csv": ROWS})
        expect(upload_line(page, "patient.csv")).to_contain_text("the sensor is busy, waits")
    expect_loaded(page, "patient.csv")


def test_a_sensor_that_is_killed_during_an_upload_is_noticed_and_the_upload_tried_again(tab: Tab, stack: Stack):
    tab.allowed = ("net::ERR", "status of 5", "status of 404")
    page = opened(tab)
    sensor = stack.program("sensor")
    sensor.send_signal(signal.SIGSTOP)
    drag_in(page, {"cut-off.csv": ROWS})
    expect(upload_line(page, "cut-off.csv").locator("progress")).to_be_visible()
    sensor.kill()
    expect(upload_line(page, "cut-off.csv")).to_contain_text("the connection broke")
    expect(page.locator("#connection")).to_have_text("Connection lost, trying again")
    expect(page.locator("#connection")).to_have_text("Live", timeout=OUTCOME_MS)
    card(page).get_by_role("button", name="Try 1 upload again").click()
    expect_loaded(page, "cut-off.csv")
    assert stack.rows("SELECT count(*) FROM public.daily_metrics WHERE _file_name = 'cut-off.csv'") == [(2,)]


def test_what_is_let_go_outside_of_a_zone_does_nothing_and_leaves_the_page_open(page: Page):
    prevented = page.evaluate(
        """held => ["dragover", "drop"].map((name) => {
            const event = new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: held });
            document.querySelector("h2").dispatchEvent(event);
            return event.defaultPrevented;
        })""",
        held(page, {"missed.csv": ROWS}),
    )
    assert prevented == [True, True]
    assert page.locator(".upload").count() == 0


def test_the_keyboard_alone_is_enough_to_upload_a_file(page: Page):
    with page.expect_file_chooser() as chosen:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "files-metrics":
                break
        outline = page.evaluate("getComputedStyle(document.querySelector('#inbox-metrics .zone')).outlineStyle")
        page.keyboard.press("Enter")
    assert outline == "solid"
    chosen.value.set_files([{"name": "typed.csv", "mimeType": "text/csv", "buffer": ROWS.encode()}])
    expect_loaded(page, "typed.csv")


def test_a_hostile_name_is_shown_as_text_wherever_it_stands(page: Page, tab: Tab, stack: Stack):
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    drag_in(page, {"<b onclick=alert(2)>bold.csv": ROWS})
    expect_loaded(page, "<b onclick=alert(2)>bold.csv")
    stack.drop("<img src=y onerror=alert(3)>.csv", "day,sold\n2026-11-24,3,surplus\n")
    expect(matter(page, "<img src=y onerror=alert(3)>.csv")).to_be_visible(timeout=OUTCOME_MS)
    first_arrival(page, "<b onclick=alert(2)>bold.csv").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("<b onclick=alert(2)>bold.csv")
    tab.open("/failed")
    expect(matter(page, HOSTILE)).to_be_visible()
    assert page.locator("main img, main b").count() == 0
    assert alerts == []
