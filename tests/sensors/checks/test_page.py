"""Why a file was rejected, on the drop page: it is checked again, in a process with limits."""

import os
import re
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import duckdb
import pytest

from sensors.checks import CheckedFile, ProcessLimits, check_files
from sensors.ledger import Ledger
from sensors.stack.errors import StackError
from sensors.web import upload_routes
from sensors.web.app import CONTENT_SECURITY_POLICY
from tests.dropped_arrivals import record_arrival
from tests.served_page import ServedPage, page_settings, served_page

HOSTILE = "<img src=x onerror=alert(1)>"
FILES = {
    "bad.csv": f"id,note\n1,x\n2,{HOSTILE},z\n",
    "misfit.csv": "id,note\n1,a\nfive,b\n",
    "mended.csv": "id,note\n1,a\n2,\n",
    "gone.csv": "",
    "linked.csv": "",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServedPage]:
    folder = tmp_path_factory.mktemp("why")
    state, arrival = folder / "state", folder / "arrival"
    arrival.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIR", str(state))
        patch.setenv("ENV_FILE", str(folder / "none.env"))
        with served_page(page_settings(state, page_users="look=anna:only-for-looking")) as page:
            for name, content in FILES.items():
                (arrival / name).write_text(content)
            (arrival / "gone.csv").unlink()
            (arrival / "linked.csv").unlink()
            (arrival / "linked.csv").symlink_to(arrival / "bad.csv")
            with Ledger(page.settings.ledger_path) as ledger:
                at = datetime(2026, 11, 24, tzinfo=UTC)
                record_arrival(ledger, "m-1", at, dict.fromkeys(FILES, "rejected"), state="failed")
                ledger.change("UPDATE arrivals SET folder = ? WHERE id = 'm-1'", (str(arrival),))
            with duckdb.connect(state / "warehouse.duckdb") as connection:
                connection.execute("CREATE SCHEMA public; CREATE TABLE public.daily_metrics (id BIGINT, note VARCHAR)")
            yield page


@pytest.fixture
def ask(page: ServedPage) -> Callable[[str], tuple[int, str]]:
    """Give what the page says of a file, its markup taken out."""
    with Ledger(page.settings.ledger_path, read_only=True) as ledger:
        ids = {row["name"]: row["id"] for row in ledger.rows("SELECT id, name FROM files")}

    def asked(name: str) -> tuple[int, str]:
        with page.client() as client:
            answer = client.get(f"/files/{ids[name]}/why", headers={"Accept": "text/html"})
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert HOSTILE not in answer.text
        text = re.sub(r"<[^>]*>", " ", answer.text)
        return answer.status_code, " ".join(unescape(text).split())

    return asked


def test_the_line_at_fault_is_shown_with_the_reason(ask: Callable[[str], tuple[int, str]]) -> None:
    status, text = ask("bad.csv")
    assert status == 200
    assert "It would be rejected: line 3: expected 2 columns, got 3" in text
    assert f"3 at fault 2,{HOSTILE},z" in text


def test_the_value_is_marked_and_the_file_is_held_to_the_table_of_its_inbox(
    page: ServedPage, ask: Callable[[str], tuple[int, str]]
) -> None:
    _, text = ask("misfit.csv")
    assert 'line 3, column "id": "five" is not a BIGINT' in text
    assert "It was checked against warehouse.public.daily_metrics as it is now." in text
    with page.client() as client:
        assert "<mark>five</mark>,b" in client.get("/files/2/why").text


def test_a_file_that_would_load_now_shows_its_first_rows(ask: Callable[[str], tuple[int, str]]) -> None:
    _, text = ask("mended.csv")
    assert "It would load, with 2 rows, into warehouse.public.daily_metrics as it is now." in text
    assert "id note 1 a 2 null" in text


@pytest.mark.parametrize("name", ["gone.csv", "linked.csv"])
def test_a_file_that_is_gone_or_replaced_by_a_link_is_not_read(
    ask: Callable[[str], tuple[int, str]], name: str
) -> None:
    status, text = ask(name)
    assert status == 404
    assert "it is not there any more" in text


def test_rejected_files_have_a_link_to_it_wherever_they_are_listed(page: ServedPage) -> None:
    with page.client() as client:
        for path in ("/", "/failed", "/arrivals/m-1"):
            assert 'href="/files/2/why"' in client.get(path, headers={"Accept": "text/html"}).text, path


def test_looking_is_enough_to_see_it_and_without_credentials_no_one_does(page: ServedPage) -> None:
    with page.client(("anna", "only-for-looking")) as client:
        assert client.get("/files/1/why").status_code == 200
    with page.client(None) as client:
        assert client.get("/files/1/why").status_code == 401
    with page.client() as client:
        assert client.get("/files/99/why").status_code == 404


def test_a_table_that_is_in_use_is_said_and_not_waited_for_long(
    page: ServedPage, ask: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_WAIT_SECONDS", "0.2")
    with duckdb.connect(page.settings.state_dir / "warehouse.duckdb"):
        status, text = ask("bad.csv")
    assert status == 200
    assert (
        f"It cannot be checked: the warehouse warehouse.duckdb is still in use by another process (PID {os.getpid()})"
        in text
    )


def test_a_file_that_is_too_large_is_not_checked_on_the_page(
    ask: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_routes, "LARGEST", 5)
    _, text = ask("bad.csv")
    assert "at most 5 are checked here; use just check" in text


def test_more_checks_than_may_run_at_a_time_are_sent_away(
    ask: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_routes, "_WAIT_SECONDS", 0.05)
    held = [upload_routes._running.acquire(timeout=5) for _ in range(upload_routes.AT_ONCE)]
    try:
        status, text = ask("bad.csv")
    finally:
        for _ in held:
            upload_routes._running.release()
    assert (status, "other files are being checked" in text) == (503, True)


def test_a_check_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    file = tmp_path / "a.csv"
    file.write_text("n\n1\n")
    with pytest.raises(StackError, match=r"the check took more than 0\.05 s at a\.csv and was ended"):
        list(check_files([CheckedFile(str(file), "a.csv", "a.csv")], None, ProcessLimits(0.05)))
    assert time.monotonic() - began < 10


def test_a_process_that_crashes_is_said_to_have_done_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from sensors import checks

    code = "import os, sys; sys.stdin.read(); os.kill(os.getpid(), 11)"
    monkeypatch.setattr(checks, "COMMAND", (sys.executable, "-c", code))
    with pytest.raises(StackError, match=r"ended by signal 11 at \\x1ba\.csv"):
        list(check_files([CheckedFile("/a.csv", "a.csv", "\x1ba.csv")], None))
