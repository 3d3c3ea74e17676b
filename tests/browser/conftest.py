"""One stack and one browser for all tests of the page."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import Tab, chromium, context_of
from tests.journeys.conftest import database, new_stack, receiver
from tests.journeys.stack import CREDENTIALS, Stack
from tests.receiver import Receiver

__all__ = ["database", "new_stack", "receiver"]

INBOXES = """
inboxes:
  metrics: {}
  orders:
    patterns: ["*.csv", "*.json"]
    max_file_bytes: 1000
"""
HOSTILE = "<img src=x onerror=alert(1)>.csv"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def stack(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, new_stack: Callable[..., Stack]
) -> Iterator[Stack]:
    """A stack to which something has come: a file that was loaded, one that was not, and one with a hostile name."""
    folder = tmp_path_factory.mktemp("browser")
    inboxes = folder / "inboxes.yaml"
    inboxes.write_text(INBOXES)
    running = new_stack(folder / "state", NOTIFY_URLS=receiver.url(), INBOXES_FILE=str(inboxes)).start()
    try:
        running.drop("first.csv", "day,sold\n2026-11-24,3\n")
        running.drop("broken.csv", "day,sold\n2026-11-24,3\n2026-11-25,4,surplus\n")
        running.drop(HOSTILE, "day,sold\n2026-11-24,3\n2026-11-25,4,surplus\n")
        running.books_when(lambda books: books["rejected"] == 2, "the first files have their outcomes")
        yield running
    finally:
        running.stop()


@pytest.fixture
def new_tab(browser: Browser, stack: Stack) -> Iterator[Callable[..., Tab]]:
    """Open a tab in a profile of its own; at the end none of them may have anything to be ashamed of."""
    tabs: list[Tab] = []

    def make(credentials: str | None = CREDENTIALS, **options: object) -> Tab:
        page = context_of(browser, credentials, **options).new_page()
        tabs.append(Tab(page, f"http://127.0.0.1:{stack.sensor_port}").watch())
        return tabs[-1]

    yield make
    for tab in tabs:
        tab.page.context.close()
    assert [fault for tab in tabs for fault in tab.faults] == []


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    return new_tab()


@pytest.fixture
def page(tab: Tab) -> Page:
    """The overview, its stream open."""
    return opened(tab)


def opened(tab: Tab, path: str = "/") -> Page:
    """Open a page and wait until it follows the stream."""
    page = tab.open(path)
    page.locator("#connection", has_text="Live").wait_for()
    return page
