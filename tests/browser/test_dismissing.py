"""Dismissing in a real browser: what is settled leaves what needs attention, and stays listed."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import Tab
from tests.browser.conftest import opened
from tests.browser.hands import OUTCOME_MS, listen, matter
from tests.browser.test_accessibility import faults_of
from tests.journeys.stack import Stack

BAD = "day,sold\n2026-11-24,3,surplus\n"


def drop_bad(page: Page, stack: Stack, *names: str) -> None:
    """Drop files that cannot be read, and wait until the page says that they need attention."""
    for name in names:
        stack.drop(name, BAD)
    for name in names:
        expect(matter(page, name)).to_be_visible(timeout=OUTCOME_MS)


def dismissed(page: Page, name: str) -> bool:
    """Return whether a file is listed as dismissed among the failed ones."""
    page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2] + "/failed")
    return "dismissed" in matter(page, name).inner_text()


def test_a_file_that_is_settled_is_dismissed_by_keyboard_and_stays_among_the_failed(page: Page, stack: Stack):
    drop_bad(page, stack, "settled.csv", "open.csv")
    heard = listen(page)
    matter(page, "settled.csv").get_by_role("button", name="Dismiss").focus()
    page.keyboard.press("Enter")
    expect(matter(page, "settled.csv")).to_have_count(0, timeout=OUTCOME_MS)
    expect(matter(page, "open.csv")).to_be_visible()
    assert "1 file needs no attention any more; what became of them stays listed" in heard.json_value()
    assert page.evaluate("document.activeElement.tagName") in {"BUTTON", "SUMMARY"}, "the reader's place stays"
    assert dismissed(page, "settled.csv")
    assert matter(page, "settled.csv").get_by_role("button", name="Dismiss").count() == 0
    assert faults_of(page) == []


def test_another_page_that_is_open_is_reported_immediately(page: Page, new_tab: Callable[..., Tab], stack: Stack):
    drop_bad(page, stack, "seen-by-two.csv")
    other = opened(new_tab())
    matter(other, "seen-by-two.csv").get_by_role("button", name="Dismiss").click()
    expect(matter(page, "seen-by-two.csv")).to_have_count(0, timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_are_dismissed_after_a_question_and_the_page_is_calm(page: Page, stack: Stack, scheme: str):
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    drop_bad(page, stack, f"all-1-{scheme}.csv", f"all-2-{scheme}.csv")
    question = page.locator(".dismiss-all")
    count = page.locator("#attention .count").inner_text()
    question.locator("summary").click()
    expect(question.get_by_role("button", name=f"Yes, dismiss {count} files")).to_be_visible()
    assert faults_of(page) == []
    question.get_by_role("button").click()
    expect(page.get_by_role("heading", name="Nothing needs attention")).to_be_visible(timeout=OUTCOME_MS)
    assert page.title() == "Drop page"
    assert dismissed(page, f"all-1-{scheme}.csv")


def test_without_javascript_a_file_is_dismissed_by_an_ordinary_form(
    page: Page, new_tab: Callable[..., Tab], stack: Stack
):
    drop_bad(page, stack, *(f"by-form-{number}.csv" for number in (1, 2, 3)))
    plain = new_tab(java_script_enabled=False).open("/")
    matter(plain, "by-form-1.csv").get_by_role("button", name="Dismiss").click()
    expect(matter(plain, "by-form-2.csv")).to_be_visible()
    assert matter(plain, "by-form-1.csv").count() == 0
    plain.locator(".dismiss-all summary").click()
    plain.get_by_role("button", name="Yes, dismiss").click()
    expect(plain.get_by_role("heading", name="Nothing needs attention")).to_be_visible()
