"""What hands do in a browser: dragging files in, and waiting for the page to say something."""

from collections.abc import Mapping

from playwright.sync_api import JSHandle, Locator, Page, expect

OUTCOME_MS = 60_000


def held(page: Page, files: Mapping[str, str]) -> JSHandle:
    """Give what a hand that drags these files holds, real File objects."""
    return page.evaluate_handle(
        """files => {
            const held = new DataTransfer();
            for (const [name, text] of Object.entries(files)) held.items.add(new File([text], name));
            return held;
        }""",
        dict(files),
    )


def card(page: Page, inbox: str = "metrics") -> Locator:
    return page.locator(f"#inbox-{inbox}")


def drag_in(page: Page, files: Mapping[str, str], inbox: str = "metrics") -> None:
    """Drag files over a zone and let go."""
    zone, hand = card(page, inbox).locator(".zone"), held(page, files)
    for event in ("dragenter", "dragover", "drop"):
        zone.dispatch_event(event, {"dataTransfer": hand})


def listen(page: Page) -> JSHandle:
    """Write down all that is said from now on to somebody who listens to the page, however shortly it stands there."""
    return page.evaluate_handle(
        """() => {
            const heard = [], spoken = document.querySelector("#spoken");
            new MutationObserver(() => heard.push(spoken.textContent)).observe(spoken, {childList: true});
            return heard;
        }"""
    )


def upload_line(page: Page, name: str, inbox: str = "metrics") -> Locator:
    return card(page, inbox).locator(".upload").filter(has=page.get_by_text(name, exact=True))


def expect_loaded(page: Page, name: str, inbox: str = "metrics") -> None:
    """Wait until an upload's line says that the file is loaded, not only uploaded."""
    expect(upload_line(page, name, inbox).locator(".so-far")).to_contain_text("\u2713 loaded", timeout=OUTCOME_MS)


def first_arrival(page: Page, title: str) -> Locator:
    return page.locator("#arrivals .arrival").filter(has=page.get_by_role("link", name=title, exact=True)).first


def matter(page: Page, name: str) -> Locator:
    """Return what the page says of a file that was not loaded."""
    return page.locator("main .matter").filter(has=page.locator(".name").get_by_text(name, exact=True))
