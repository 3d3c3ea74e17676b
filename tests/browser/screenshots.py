"""The pictures of docs/page.md, made of a real stack: `just screenshots`."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import vega_datasets
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import PHONE, chromium, context_of
from tests.browser.hands import OUTCOME_MS, card, drag_in, expect_loaded, upload_line
from tests.journeys.stack import CREDENTIALS, ROOT, Stack, wait_until

DOCS = ROOT / "docs"
DATASETS = Path(vega_datasets.__file__).parent / "_data"
MOST_BYTES = 150_000
INBOXES = """
inboxes:
  metrics:
    path: {folder}/metrics
  orders:
    path: {folder}/orders
    patterns: ["*.csv", "*.csv.gz"]
    max_file_bytes: 50000000
"""
ORDERS = "order_id,day,country,amount\n" + "".join(f"{n},2026-11-24,DE,{n % 90}.5\n" for n in range(1, 400))
DROPPED = [
    ("metrics", "airports.csv", (DATASETS / "airports.csv").read_bytes()),
    ("orders", "orders-2026-11-22.csv", ORDERS.encode()),
    ("metrics", "seattle-weather.csv", (DATASETS / "seattle-weather.csv").read_bytes()),
    ("orders", "orders-2026-11-23.csv", ORDERS.encode()),
    ("orders", "returns-2026-11-23.csv", b"order_id,day,amount\n17,2026-11-23,12.5\n18,2026-11-23,n/a\n"),
    ("orders", "orders-2026-11-24.csv", ORDERS.encode()),
]
DRAGGED = {
    "prices.csv": "day,price\n" + "2026-11-24,3.5\n" * 250,
    "stock.ndjson": '{"item": "chair", "stock": 12}\n' * 60,
    "notes.docx": "x",
}


def shoot(page: Page, name: str, height: int) -> None:
    """Take a picture of the top of a page, with few colours, so that it stays small."""
    page.set_viewport_size({"width": page.viewport_size["width"] if page.viewport_size else 1200, "height": height})
    page.evaluate(
        """() => {
            document.activeElement.blur();
            for (const where of document.querySelectorAll(".inbox .hint code")) {
                where.textContent = where.textContent.replace(/.*\\//, "data/inbox/"); // as it is elsewhere
            }
        }"""
    )
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    path = DOCS / name
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size:,} bytes"


def fill(stack: Stack) -> None:
    """Have the files come one by one, as on a morning."""
    user, _, password = CREDENTIALS.partition(":")
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.sensor_port}", auth=(user, password)) as client:
        for inbox, name, content in DROPPED:
            stack.learn(content)
            address = f"/inbox/{inbox}/{name}"
            client.put(address, content=content).raise_for_status()
            wait_until(lambda at=address: client.get(at).json().get("ended_at"), f"{name} has its outcome")


def opened(browser: Browser, stack: Stack, scheme: str, size: Mapping[str, int]) -> Page:
    page = context_of(browser, CREDENTIALS, color_scheme=scheme, viewport=size).new_page()
    page.goto(f"http://127.0.0.1:{stack.sensor_port}")
    page.locator("#connection", has_text="Live").wait_for()
    return page


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="screenshots-") as made, chromium() as browser:
        folder = Path(made)
        (folder / "inboxes.yaml").write_text(INBOXES.format(folder=folder))
        stack = Stack(folder / "state", INBOXES_FILE=str(folder / "inboxes.yaml")).start()
        try:
            fill(stack)
            for scheme in ("light", "dark"):
                page = opened(browser, stack, scheme, {"width": 1200, "height": 900})
                stack.know_one_of(["stock"], "BIGINT")
                drag_in(page, DRAGGED)
                expect(upload_line(page, "notes.docx")).to_contain_text("not this kind")
                for name in ("prices.csv", "stock.ndjson"):
                    expect_loaded(page, name)
                expect(card(page).locator(".total")).to_contain_text("2 loaded", timeout=OUTCOME_MS)
                shoot(page, f"page-{scheme}.png", 1240)
            shoot(opened(browser, stack, "light", PHONE), "page-phone.png", 1500)
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
