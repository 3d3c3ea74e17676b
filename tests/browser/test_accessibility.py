"""The pages as axe-core sees them: nothing that keeps somebody from using them, in light and in dark."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import PHONE, Tab
from tests.browser.conftest import opened
from tests.browser.hands import drag_in, upload_line
from tests.browser.test_reading import PAGES, visit


def faults_of(page: Page) -> list[str]:
    page.emulate_media(reduced_motion="reduce")  # colours are looked at, and a new line fades in
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_serious_is_wrong_with_a_page(new_tab: Callable[..., Tab], path: str, scheme: str):
    assert faults_of(visit(new_tab(color_scheme=scheme), path)) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_wrong_on_a_phone_while_uploads_are_shown(new_tab: Callable[..., Tab], scheme: str):
    page = opened(new_tab(color_scheme=scheme, viewport=PHONE))
    drag_in(page, {"picture.png": "x", f"axe-{scheme}.csv": "a\n1\n"})
    expect(upload_line(page, "picture.png")).to_contain_text("not this kind of file")
    assert faults_of(page) == []


def test_nothing_moves_for_who_wants_it_still(new_tab: Callable[..., Tab]):
    page = opened(new_tab(reduced_motion="reduce"))
    moving = (
        "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none').length"
    )
    assert page.evaluate(moving) == 0
