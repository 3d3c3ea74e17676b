"""The pages as they are read: on a phone, without JavaScript, by those who must not, and when they are not there."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import PHONE, Tab
from tests.browser.conftest import HOSTILE, opened
from tests.browser.hands import OUTCOME_MS, first_arrival, matter
from tests.journeys.stack import Stack

PAGES = ["/", "/arrivals", "/day", "/failed", "/arrivals/THE-LATEST", "/files/A-REJECTED/why", "/no-such-page"]


def visit(tab: Tab, path: str) -> Page:
    """Open a page; /arrivals/THE-LATEST is that of the arrival taken last, /files/A-REJECTED of a file that was not."""
    if "no-such" in path:
        tab.allowed = ("status of 404",)
    if "THE-LATEST" in path:
        path = tab.open("/arrivals").locator("#arrivals h3 a").first.get_attribute("href") or ""
    if "A-REJECTED" in path:
        path = matter(tab.open("/failed"), "broken.csv").get_by_role("link", name="Why").get_attribute("href") or ""
    return tab.open(path)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(new_tab: Callable[..., Tab], path: str):
    page = visit(new_tab(viewport=PHONE, is_mobile=True, has_touch=True), path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("path", PAGES[:-1])
def test_every_page_can_be_read_without_javascript(new_tab: Callable[..., Tab], path: str):
    page = visit(new_tab(java_script_enabled=False), path)
    expect(page.locator("main")).to_contain_text("metrics")
    assert page.locator("h1").count() == 1
    assert page.locator("input[type=file]:visible").count() == 0


def test_the_line_at_fault_is_reached_by_keyboard_from_the_list_of_failed_files(new_tab: Callable[..., Tab]):
    page = visit(new_tab(java_script_enabled=False), "/failed")
    link = matter(page, "broken.csv").get_by_role("link", name="Why broken.csv was rejected")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="3 at fault")).to_contain_text("2026-11-25,4,surplus")
    expect(page.get_by_role("heading", level=1)).to_have_text("broken.csv")


def test_without_javascript_a_file_is_tried_again_by_an_ordinary_form(new_tab: Callable[..., Tab]):
    page = visit(new_tab(java_script_enabled=False), "/failed")
    matter(page, "broken.csv").get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Journey")).to_be_visible()
    expect(matter(page, "broken.csv")).to_be_visible()
    assert "/arrivals/" in page.url


def test_the_title_counts_what_needs_a_person_and_follows_what_happens(page: Page, stack: Stack):
    stack.drop("another.csv", "day,sold\n2026-11-24,3,surplus\n")
    expect(matter(page, "another.csv")).to_be_visible(timeout=OUTCOME_MS)
    count = page.locator("#attention .count").inner_text()
    assert int(count) >= 1
    assert page.title() == f"({count}) Drop page"


def test_the_services_are_well_in_one_line_and_an_inbox_in_trouble_needs_a_person_until_it_is_mended(
    page: Page, stack: Stack
):
    services = page.locator(".services")
    expect(services).to_have_text("server, worker, sensor, warm: well", timeout=OUTCOME_MS)
    inbox = stack.state_dir / "inbox" / "orders"
    away = inbox.rename(inbox.with_name("away"))
    inbox.touch()  # a folder that is only gone is made again
    try:
        trouble = page.locator(".matter", has_text="Inbox orders is in trouble")
        expect(trouble).to_contain_text("just logs sensor", timeout=OUTCOME_MS)
        expect(services).to_contain_text("sensor: in trouble")
    finally:
        inbox.unlink()
        away.rename(inbox)
    expect(trouble).to_have_count(0, timeout=OUTCOME_MS)


def test_a_file_that_comes_by_another_way_is_seen_on_its_journey(page: Page, stack: Stack):
    stack.drop("copied.csv", "day,sold\n2026-11-24,3\n")
    arrival = first_arrival(page, "copied.csv")
    expect(arrival).to_have_attribute("data-state", "loaded", timeout=OUTCOME_MS)
    assert page.locator("#arrivals .arrival").first.get_attribute("data-title") == "copied.csv"


def test_an_arrival_s_own_page_follows_it_to_its_outcome(tab: Tab):
    page = tab.open("/failed")
    matter(page, "broken.csv").get_by_role("link").first.click()
    page.locator("#connection", has_text="Live").wait_for()
    attempts = page.locator("table tbody tr").count()
    page.get_by_role("button", name="Try again").first.click()
    expect(page.locator("table tbody tr")).to_have_count(attempts + 1, timeout=OUTCOME_MS)


def test_a_failed_file_can_be_downloaded_as_it_came(tab: Tab, stack: Stack):
    page = tab.open("/failed")
    with page.expect_download() as download:
        matter(page, HOSTILE).get_by_role("link", name="Download").click()
    assert download.value.path().read_text() == "day,sold\n2026-11-24,3\n2026-11-25,4,surplus\n"


def test_the_arrivals_of_one_inbox_can_be_asked_for(tab: Tab):
    page = tab.open("/arrivals")
    page.get_by_label("Inbox").select_option("orders")
    page.get_by_role("button", name="Show").click()
    assert "inbox=orders" in page.url
    assert {one.get_attribute("data-inbox") for one in page.locator(".arrival").all()} <= {"orders"}


def test_the_day_shows_its_hours_as_plots_and_as_a_table(tab: Tab):
    page = opened(tab, "/day")
    assert page.get_by_role("img").count() == 4
    assert page.locator(".plot.arrivals rect").count() >= 1
    assert page.get_by_role("table").locator("tbody tr").count() >= 1
    page.get_by_role("link", name="The day before").click()
    expect(page.get_by_role("table")).to_contain_text("Nothing came on this day.")
    page.get_by_role("link", name="The day after").click()
    expect(page.get_by_role("link", name="The day after")).to_have_count(0)


def test_a_page_that_is_not_there_says_so_and_leads_back(tab: Tab):
    tab.allowed = ("status of 404",)
    page = tab.open("/arrivals/nothing-of-that-id")
    expect(page.locator("main")).to_contain_text("there is no arrival nothing-of-that-id")
    page.get_by_role("link", name="To the overview").click()
    expect(page.get_by_role("heading", name="Inboxes")).to_be_visible()


def test_a_caller_without_credentials_learns_where_they_are_and_sees_nothing_else(new_tab: Callable[..., Tab]):
    tab = new_tab(credentials="admin:wrong")
    tab.allowed = ("status of 401", "net::ERR")
    page = tab.open("/")
    expect(page.locator("main")).to_contain_text("PREFECT_API_AUTH_STRING in .env")
    assert "broken.csv" not in page.content()


def test_the_first_stop_of_the_keyboard_leads_to_the_content(page: Page):
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
