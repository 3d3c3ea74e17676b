"""Dismissing on the page: over its routes, by a form and by a script."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from sensors.ledger import Ledger, files
from sensors.reports.files import needing_attention
from sensors.runs.issues import IssueKind, RunIssue
from tests.dropped_arrivals import record_arrival
from tests.served_page import page_settings, served_page

TAKEN = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FORM = {"Accept": "text/html"}
ISSUE = RunIssue(
    IssueKind.FAILED,
    "r-1",
    "ETL/etl",
    "run otter of ETL/etl Failed at nine",
    "no source <b>",
    "`just prefect flow-run retry r-1` tries it again, or `just dismiss r-1`",
    TAKEN,
    "r-1",
    "otter",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Generator[Ledger]:
    settings = page_settings(tmp_path / "data")
    settings.state_dir.mkdir(exist_ok=True)
    with Ledger(settings.ledger_path) as ledger:
        for number in range(6):
            taken = TAKEN + timedelta(minutes=number)
            record_arrival(ledger, f"m-{number}", taken, {f"{number}.csv": "failed"}, state="failed")
        yield ledger


@pytest.fixture
def client(ledger: Ledger, tmp_path: Path) -> Generator[httpx.Client]:
    with served_page(page_settings(tmp_path / "data")) as page, page.client() as client:
        yield client


def test_a_run_that_needs_attention_is_on_the_overview_until_it_is_dismissed(ledger, tmp_path):
    settings = page_settings(tmp_path / "data")
    with served_page(settings, run_issues=lambda: (ISSUE,)) as page, page.client() as client:
        before = client.get("/", headers=FORM).text
        assert "Run otter of ETL/etl Failed at nine" in before
        assert "no source &lt;b&gt;" in before
        assert "<code>just prefect flow-run retry r-1</code>" in before
        assert 'action="/runs/r-1/dismiss"' in before
        assert client.post("/runs/r-1/dismiss").json() == {
            "told": ["the run needs attention no more, unless it fails once more"]
        }
        after = client.get("/", headers=FORM).text
        assert "otter" not in after
        assert client.post("/runs/r-1/dismiss", headers=FORM).headers["Location"] == "/"
        assert client.post("/runs/r%20x/dismiss").status_code == 422
        assert client.post("/runs/r-1/dismiss", auth=None).status_code == 401


def test_a_run_that_needs_no_attention_cannot_be_dismissed(ledger, client):
    answer = client.post("/runs/r-2/dismiss")
    assert (answer.status_code, answer.json()) == (404, {"detail": "there is no such run that needs attention: r-2"})
    assert client.post("/runs/r-2/dismiss", headers=FORM).headers["Location"] == "/", "a form that is sent twice"
    assert files.of_runs(ledger) == {}


def test_dismissing_a_run_makes_no_ledger(tmp_path):
    settings = page_settings(tmp_path / "data")
    with served_page(settings, run_issues=lambda: (ISSUE,)) as page, page.client() as client:
        for file in settings.state_dir.glob("ledger.db*"):
            file.unlink()
        assert client.post("/runs/r-1/dismiss").status_code == 503
    assert not settings.ledger_path.exists()


def names(ledger: Ledger) -> list[str]:
    return [file.name for file in needing_attention(ledger, 10)]


def test_each_that_needs_a_person_can_be_dismissed_and_leaves_the_overview(client, ledger):
    file = needing_attention(ledger, 1)[0]
    address = f"/files/{file.id}/dismiss"
    assert f'action="{address}"' in client.get("/", headers=FORM).text
    answer = client.post(address, headers=FORM)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert names(ledger) == ["4.csv", "3.csv", "2.csv", "1.csv", "0.csv"]
    overview, failed = (client.get(path, headers=FORM).text for path in ("/", "/failed"))
    assert "5.csv" not in overview.partition('id="inboxes-name"')[0]
    assert "5 files" in overview
    assert "dismissed" in failed.partition("5.csv")[2].partition("4.csv")[0]
    assert address not in failed


def test_all_means_those_that_the_page_has_counted(client, ledger):
    page = client.get("/", headers=FORM).text
    address = page.partition('action="/files/dismiss?until=')[2].partition('"')[0]
    assert "Yes, dismiss 6 files" in page
    record_arrival(ledger, "m-late", TAKEN + timedelta(hours=1), {"late.csv": "failed"}, state="failed")
    assert client.post(f"/files/dismiss?until={address}", headers=FORM).status_code == 303
    assert names(ledger) == ["late.csv"]
    page = client.get("/", headers=FORM).text
    assert "late.csv" in page
    assert "Dismiss all" not in page, "of one there is a button already"


def test_a_script_learns_what_was_done_and_that_there_was_nothing_to_do(client, ledger):
    until = {"until": "2026-11-24T09:02:30Z"}
    answer = client.post("/files/dismiss", params=until)
    assert answer.json() == {"told": ["3 files need no attention any more; what became of them stays listed"]}
    again = client.post("/files/dismiss", params=until)
    assert (again.status_code, again.json()) == (409, {"detail": "no such file needs attention any more"})
    assert client.post("/files/123456/dismiss").status_code == 409
    assert client.post("/files/dismiss").status_code == 422
    assert client.post("/files/dismiss", params={"until": "yesterday"}).status_code == 422
    assert names(ledger) == ["5.csv", "4.csv", "3.csv"]


def test_who_has_no_credentials_dismisses_nothing(client, ledger):
    for path in ("/files/1/dismiss", "/files/dismiss?until=2026-11-24T10:00:00Z"):
        assert client.post(path, auth=None).status_code == 401
    assert len(names(ledger)) == 6
