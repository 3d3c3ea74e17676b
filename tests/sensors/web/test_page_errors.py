"""What goes wrong is a page for a browser and JSON for a script."""

from pathlib import Path

import pytest

from sensors.ledger import Ledger
from tests.shown_page import Shown, shown_page

SCRIPT = {"Accept": "*/*"}


@pytest.fixture
def browser(ledger: Ledger, tmp_path: Path) -> Shown:
    return shown_page(tmp_path)


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/arrivals/none", 404, "there is no arrival none"),
        ("/files/7", 404, "there is no file 7"),
        ("/nowhere", 404, "Not Found"),
        ("/day?day=yesterday", 422, "day:"),
    ],
)
def test_a_browser_gets_a_page_and_a_script_gets_json(browser: Shown, path: str, status: int, detail: str):
    page = browser.get(path)
    assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert detail in page.text
    assert "To the overview" in page.text
    answer = browser.get(path, SCRIPT)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    assert "detail" in answer.json()


def test_a_hostile_address_is_shown_as_text(browser: Shown):
    assert "<b>" not in browser.get("/arrivals/<b>").text


def test_a_ledger_that_cannot_be_read_is_said_to_be_so(browser: Shown, tmp_path: Path):
    (tmp_path / "ledger.db").unlink()
    page = browser.get("/")
    assert page.status_code == 503
    assert "just status" in page.text
    assert "ledger" in browser.get("/", SCRIPT).json()["detail"]


def test_a_refusal_is_a_page_that_needs_no_other_file(browser: Shown):
    page = browser.get("/", auth=None)
    assert (page.status_code, page.headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert "PREFECT_API_AUTH_STRING" in page.text
    assert "/static/" not in page.text
    assert page.headers["Content-Security-Policy"]


def test_a_script_is_refused_in_one_line(browser: Shown):
    answer = browser.get("/", SCRIPT, auth=None)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text.count("\n") == 1
