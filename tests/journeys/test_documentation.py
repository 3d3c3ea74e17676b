"""Somebody follows the documentation: the ten lines of add-an-inbox.md, and what is typed next to a stack.

In a copy of the project, as the lines go into its files.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensors.ledger import Ledger
from sensors.ledger.states import ENDED
from tests.documentation import Command
from tests.documented_commands import READER, shown_by
from tests.journeys.reader import TOKEN, installed_copy, run, typed, upload_name, watch
from tests.journeys.stack import ROOT, Stack, wait_until
from tests.project.test_docs import added_lines
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.long

DOCUMENT = b'{"order": 7, "customer": "north"}'
MAY_END_WITH = {"just plan": {0, 2}, "just status": {0, 1}}  # a reader's run by hand may have failed
"""The exit status of what does not end with 0 only, by the beginning of its line."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the ten lines in it; it uses the packages that are installed here."""
    copy = installed_copy(tmp_path_factory.mktemp("project"))
    for name, lines in added_lines().items():
        file = copy / name
        before = file.read_text("utf-8") if file.exists() else ""
        file.write_text(before + "\n".join([*lines, ""]), "utf-8")
    (copy / "orders.csv").write_text("date,orders\n2026-01-05,128\n2026-01-06,97\n")
    (copy / "order-7.json").write_bytes(DOCUMENT)
    return copy


@pytest.fixture(scope="module")
def reader(project: Path, receiver: Receiver, new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """The stack of the copy."""
    stack = new_stack(project / "data", project, NOTIFY_URLS=receiver.url(), UPLOAD_TOKEN=TOKEN).start()
    yield stack
    stack.stop()


def ended(stack: Stack, inbox: str, files: int) -> dict[str, int]:
    """Return the books of an inbox when so many of its files have their outcome."""

    def look() -> dict[str, int] | None:
        books = stack.status()["inboxes"][inbox]
        return books if books["loaded"] + books["rejected"] + books["failed"] >= files else None

    return wait_until(look, f"{files} files of {inbox} have their outcome", pause=1)


def test_ten_lines_make_an_inbox_whose_documents_a_flow_of_another_shape_keeps(reader: Stack) -> None:
    (reader.state_dir / "inbox" / "documents" / "bad.json").write_text("{")
    assert run(reader, "just drop order-7.json documents").returncode == 0
    assert ended(reader, "documents", 2) == {
        "seen": 2,
        "waiting": 0,
        "in_flight": 0,
        "loaded": 1,
        "rejected": 1,
        "failed": 0,
    }
    digest = hashlib.sha256(DOCUMENT).hexdigest()
    assert (reader.state_dir / "documents" / digest[:2] / f"{digest}.json").read_bytes() == DOCUMENT
    with sqlite3.connect(reader.state_dir / "documents" / "index.db") as index:
        ((arrival, file),) = index.execute("SELECT arrival_id, file FROM documents").fetchall()
    assert file == "order-7.json"
    assert not (reader.state_dir / "warehouse.duckdb").exists(), "the first flow ran on them too"

    assert run(reader, f"just retry {arrival}").returncode == 0
    runs = wait_until(
        lambda: len(runs_of(reader, arrival)) == 2 and runs_of(reader, arrival), "the arrival's second run"
    )
    second = reader.wait_for_end(next(one["id"] for one in runs if one["id"] == max(one["id"] for one in runs)))
    assert second["state_type"] in {"COMPLETED", "FAILED"}
    ended(reader, "documents", 2)
    with sqlite3.connect(reader.state_dir / "documents" / "index.db") as index:
        assert index.execute("SELECT count(*) FROM documents").fetchone() == (1,)


def runs_of(stack: Stack, arrival: str) -> list[dict[str, str]]:
    """Return the runs that bear an arrival's tag."""
    wanted = {"flow_runs": {"tags": {"all_": [f"arrival:{arrival}"]}}}
    return stack.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()


def test_a_run_is_called_after_its_files_and_its_report_links_to_the_arrivals_page(reader: Stack) -> None:
    before = reader.books()["loaded"]
    for name in ("prices.csv", "stock.csv"):
        reader.drop(f".{name}", "date,price\n2026-01-05,1\n")
    for name in ("prices.csv", "stock.csv"):
        (reader.inbox / f".{name}").rename(reader.inbox / name)
    ended(reader, "metrics", before + 2)
    arrival = latest_arrival(reader)
    (found,) = wait_until(lambda: runs_of(reader, arrival), "the run has its tags")
    assert found["name"] in {"prices.csv +1 @ metrics", "stock.csv +1 @ metrics", "stock.csv @ metrics"}
    assert {"inbox:metrics", f"arrival:{arrival}", "env:prod", "team:data"} <= set(found["tags"])
    wanted = {"artifacts": {"key": {"any_": [f"arrival-{arrival}"]}}}
    (artifact,) = reader.api.post("/artifacts/filter", json=wanted).raise_for_status().json()
    assert f"(http://127.0.0.1:{reader.sensor_port}/arrivals/{arrival})" in artifact["description"]
    assert {row["outcome"] for row in json.loads(artifact["data"])} == {"loaded"}


def latest_arrival(stack: Stack) -> str:
    """Return the id of the arrival of the inbox `metrics` that was taken last."""
    with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
        return ledger.rows("SELECT id FROM arrivals WHERE inbox = 'metrics' ORDER BY created_at DESC LIMIT 1")[0]["id"]


def arrivals_with(stack: Stack, name: str) -> list[str]:
    """Return the ids of the arrivals with a file of that name, the latest first."""
    with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
        found = ledger.rows(
            "SELECT arrival_id FROM files WHERE name = ? AND arrival_id IS NOT NULL ORDER BY id DESC", (name,)
        )
        return [row["arrival_id"] for row in found]


def drop_bad(stack: Stack, name: str) -> None:
    """Drop a file that cannot be read, and wait until it is refused."""
    wait_until(lambda: not (stack.inbox / name).exists(), "the file before is taken")
    before = arrivals_with(stack, name)
    stack.drop(name, "day,sold\n2026-11-24,3,surplus\n")
    wait_until(lambda: len(arrivals_with(stack, name)) > len(before), "the file is taken")
    wait_until(lambda: has_ended(stack, arrivals_with(stack, name)[0]), "the file is rejected")


def has_ended(stack: Stack, arrival: str) -> bool:
    """Return whether an arrival is not under way any more."""
    with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
        return ledger.rows("SELECT state FROM arrivals WHERE id = ?", (arrival,))[0]["state"] in ENDED


@pytest.mark.parametrize("command", shown_by(READER), ids=str)
def test_it_does_what_it_is_for_when_a_reader_types_it(reader: Stack, command: Command) -> None:
    assert (reader.state_dir / "ledger.db").exists()
    if "drop" in command.words:
        # A copy that has not been taken yet would be in the way of a second one.
        wait_until(lambda: not (reader.inbox / "orders.csv").exists(), "the file before is taken")
    if "dismiss" in command.words:
        drop_bad(reader, "orders.csv")
    arrival = latest_arrival(reader)
    if "retry" in command.words:
        wait_until(lambda: has_ended(reader, arrival), "the arrival has its outcome")
    line = typed(reader, command, arrival)
    done = watch(reader, line) if {"--watch", "--follow"} & {*command.words} else run(reader, line)
    allowed = next((those for begin, those in MAY_END_WITH.items() if line.startswith(begin)), {0})
    assert done.returncode in allowed, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr


def test_what_was_uploaded_is_loaded(reader: Stack) -> None:
    uploads = [one for one in shown_by(READER) if one.words[0] == "curl"]
    assert len(uploads) == 2
    for command in uploads:
        name = upload_name(command)
        wait_until(
            lambda name=name: (
                reader.rows(f"SELECT count(*) FROM public.daily_metrics WHERE _file_name = '{name}'") == [(2,)]
            ),
            f"{name} is loaded",
        )
        again = run(reader, typed(reader, command, ""))
        assert (again.returncode == 22) == ("If-None-Match" in command.line), again.stdout


def test_a_backup_is_a_whole_ledger(reader: Stack) -> None:
    copy = reader.state_dir / "ledger-copy.db"
    assert copy.exists(), "test_it_does_what_it_is_for_when_a_reader_types_it has made it"
    with sqlite3.connect(copy) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert ledger.execute("SELECT count(*) FROM files").fetchone()[0] > 0


def test_every_automation_was_exported(reader: Stack) -> None:
    names = {path.name for path in (reader.state_dir / "exported").glob("*.yaml")}
    assert {path.name for path in (reader.root / "automations").glob("*.yaml")} <= names


def test_the_page_of_settings_is_written_as_it_is(reader: Stack) -> None:
    assert (reader.root / "docs" / "settings.md").read_bytes() == (ROOT / "docs" / "settings.md").read_bytes()


def test_the_schedule_moves_as_the_page_says(reader: Stack) -> None:
    written = reader.root / "prefect.yaml"
    written.write_text(written.read_text().replace('"0 9 * * *"', '"30 6 * * 1-5"'))
    assert run(reader, "just deploy").returncode == 0
    (schedule,) = reader.deployment()["schedules"]
    assert schedule["schedule"]["cron"] == "30 6 * * 1-5"

    def times() -> set[str]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "tags": {"all_": ["auto-scheduled"]}}}
        runs = reader.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
        return {run["expected_start_time"][11:16] for run in runs}

    assert not times() & {"14:00", "15:00"}, "a run of nine o'clock in Chicago is still planned"


def test_the_ledger_is_made_anew_as_the_page_says(reader: Stack) -> None:
    before = reader.status()["inboxes"]
    reader.stop()
    done = run(reader, "just rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    reader.start()
    wait_until(lambda: reader.status()["inboxes"] == before, "the books are what they were", pause=0.5)
