"""The pages as a browser gets them: what stands on them for what the ledger holds."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sensors.ledger import Ledger, files
from tests.dropped_arrivals import record_arrival, record_waiting
from tests.shown_page import NOW, Shown, shown_page

HOSTILE = "<img src=x onerror=alert(1)>.csv"
PAGES = ["/", "/arrivals", "/day", "/failed", "/arrivals/m-1", "/no-such-page"]
STATIC = Path(__file__).parents[3] / "sensors" / "web" / "static"


@pytest.fixture
def browser(ledger: Ledger, tmp_path: Path) -> Shown:
    record_arrival(ledger, "m-1", NOW - timedelta(hours=2), {HOSTILE: "rejected", "b.csv": "loaded"}, state="failed")
    record_arrival(ledger, "o-1", NOW - timedelta(hours=1), {"x.json": "loaded"}, inbox="orders")
    record_arrival(ledger, "m-2", NOW, {"d.csv": "staged"}, state="running")
    return shown_page(tmp_path, "metrics", "orders")


class Elements(HTMLParser):
    """The elements of a page, in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.all if (value := attributes.get(name)) is not None]


def test_the_title_counts_what_needs_a_person(browser: Shown):
    assert "<title>(1) Drop page</title>" in browser.get("/").text


def test_where_nothing_needs_a_person_the_page_says_so(ledger: Ledger, tmp_path: Path):
    page = shown_page(tmp_path).get("/").text
    assert "<title>Drop page</title>" in page
    assert "Nothing needs attention" in page
    assert "None yet. Drop a file above" in page


def test_a_file_needs_a_person_however_long_ago_it_failed_until_it_is_dismissed(ledger: Ledger, tmp_path: Path):
    record_arrival(ledger, "old", NOW - timedelta(days=90), {"old.csv": "rejected"}, state="failed")
    page = shown_page(tmp_path)
    assert page.get("/").text.count("old.csv") > page.get("/failed").text.count("old.csv") > 0
    files.record_arrival(ledger, "old", NOW)
    assert "Nothing needs attention" in page.get("/").text
    assert "old.csv" in page.get("/failed").text


def test_every_inbox_shows_what_it_takes_so_that_a_browser_can_refuse_the_rest(browser: Shown):
    zones = [each for _, each in Elements(browser.get("/").text).all if each.get("class") == "card inbox"]
    assert [zone["data-inbox"] for zone in zones] == ["metrics", "orders"]
    assert "*.csv" in json.loads(zones[0]["data-patterns"] or "")
    assert int(zones[0]["data-most"] or 0) == 2 * 2**30


def test_a_waiting_file_shows_since_when(ledger: Ledger, tmp_path: Path):
    record_waiting(ledger, "late.csv", datetime(2026, 11, 23, 8, 0, tzinfo=UTC))
    assert re.search(r"One has waited since <time [^>]*>2026-11-23 \d\d:00</time>", shown_page(tmp_path).get("/").text)


@pytest.mark.parametrize("path", PAGES)
def test_a_hostile_name_is_text_on_every_page(browser: Shown, path: str):
    page = browser.get(path).text
    assert "<img src=x" not in page
    assert path in {"/day", "/no-such-page"} or "&lt;img src=x onerror=alert(1)&gt;.csv" in page


@pytest.mark.parametrize("path", PAGES)
def test_no_page_holds_a_script_or_style_of_its_own_or_anything_of_another_address(browser: Shown, path: str):
    elements = Elements(browser.get(path).text)
    assert [tag for tag, each in elements.all if tag == "style" or (tag == "script" and "src" not in each)] == []
    assert elements.values("style") == []
    assert [name for _, each in elements.all for name in each if name.startswith("on")] == []
    loaded = [each.get("src") or each.get("href") for tag, each in elements.all if tag in {"script", "link", "img"}]
    assert all(address and address.startswith("/static/") for address in loaded)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_one_heading_landmarks_and_no_id_twice(browser: Shown, path: str):
    elements = Elements(browser.get(path).text)
    tags = [tag for tag, _ in elements.all]
    assert (tags.count("h1"), tags.count("main")) == (1, 1)
    assert {"header", "nav"} <= set(tags)
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    assert {f"{label}" for label in elements.values("for")} <= set(ids)
    named = [each for one in elements.values("aria-labelledby") for each in one.split()]
    assert set(named) <= set(ids)


def test_what_a_page_loads_is_there(browser: Shown):
    elements = Elements(browser.get("/").text)
    for address in (value for name in ("src", "href") for value in elements.values(name)):
        if address.startswith("/static/"):
            assert browser.get(address).status_code == 200, address


def test_every_module_that_another_imports_is_there():
    for module in STATIC.glob("*.js"):
        for imported in re.findall(r'from "\./([^"]+)"', module.read_text()):
            assert (STATIC / imported).exists(), f"{module.name} imports {imported}"


def test_older_arrivals_come_page_by_page_and_none_twice(ledger: Ledger, tmp_path: Path):
    for number in range(120):
        record_arrival(ledger, f"m-{number:03}", NOW - timedelta(minutes=number), {"a.csv": "loaded"})
    page, path, found = shown_page(tmp_path), "/arrivals", []
    while path:
        elements = Elements(page.get(path).text)
        found += [one for one in elements.values("id") if one.startswith("arrival-")]
        older = [href for href in elements.values("href") if "before=" in href]
        path = older[0] if older else ""
    assert found == [f"arrival-m-{number:03}" for number in range(120)]


def test_arrivals_failed_files_and_days_can_be_those_of_one_inbox(browser: Shown):
    arrivals = Elements(browser.get("/arrivals?inbox=orders").text)
    assert [one for one in arrivals.values("id") if one.startswith("arrival-")] == ["arrival-o-1"]
    assert "was loaded, or is under way" in browser.get("/failed?inbox=orders").text
    assert "1 arrival of 1 file" in browser.get("/day?day=2026-11-24&inbox=orders").text


def test_a_day_leads_to_the_days_around_it_and_today_to_none_after(browser: Shown):
    assert {"/day?day=2026-11-22&inbox=", "/day?day=2026-11-24&inbox="} <= set(
        Elements(browser.get("/day?day=2026-11-23").text).values("href")
    )
    assert "The day after" not in browser.get("/day").text


@pytest.mark.parametrize("day", ["2000-01-01", "2999-12-31"])
def test_a_day_at_the_end_of_the_calendar_is_a_day_like_any_other(browser: Shown, day: str):
    assert browser.get(f"/day?day={day}").status_code == 200


def test_a_plot_has_its_words_and_its_table(browser: Shown):
    page = browser.get("/day?day=2026-11-24").text
    ids = Elements(page).values("id")
    assert {"arrivals-title", "arrivals-summary", "latency-title", "latency-summary"} <= set(ids)
    assert "<caption" in page
    assert 'scope="row"' in page


def test_an_arrival_s_page_shows_its_journey_its_files_and_its_run(browser: Shown):
    page = browser.get("/arrivals/m-1").text
    for word in ("seen", "settled", "staged", "announced", "run", "line 3: no number", "swift-owl", "b.csv"):
        assert word in page
    assert 'action="/arrivals/m-1/retry"' in page
    assert "/runs/flow-run/" in page


def test_an_arrival_that_is_under_way_cannot_be_tried_again(browser: Shown):
    page = browser.get("/arrivals/m-2").text
    assert "It is under way." in page
    assert "/retry" not in page
