"""A real Chromium, Debian's, driven by Playwright; none is ever downloaded."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def chromium() -> Generator[Browser, None, None]:
    """Run a browser inside; skips the test where there is none, except in CI."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            raise AssertionError("Chromium is not installed; .ci/run should have done that")
        pytest.skip("Chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs what a container and root do not have.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """A page, and everything about it that nobody should see: errors, and what was asked of other addresses."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list[str])
    allowed: tuple[str, ...] = ()
    """What a test that has something refused or cut off expects in the console."""

    def watch(self) -> "Tab":
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"an error: {error}"))
        self.page.on("request", self._request)
        return self

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.origin + path)
        return self.page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(text in message.text for text in self.allowed):
            self.faults.append(f"{message.type} in the console: {message.text}")

    def _request(self, request: Request) -> None:
        if urlsplit(request.url)[:2] != urlsplit(self.origin)[:2]:
            self.faults.append(f"asked of another address: {request.url}")


def context_of(browser: Browser, credentials: str | None, **options: object) -> BrowserContext:
    """Make a fresh profile that answers when it is asked for credentials."""
    user, _, password = (credentials or "").partition(":")
    known = {"username": user, "password": password} if credentials else None
    return browser.new_context(**{"viewport": DESKTOP, "http_credentials": known, **options})
