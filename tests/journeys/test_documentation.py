"""Somebody follows the documentation: the ten lines of add-an-inbox.md, and every command that needs a stack.

In a copy of the project, as the lines go into its files.
"""

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.documentation import PAGES, Command, shell_commands
from tests.journeys.stack import ROOT, Stack, wait_until
from tests.receiver import Receiver, receiving
from tests.test_docs import added_lines

pytestmark = pytest.mark.long

LEFT_OUT = ("__pycache__", ".git", ".venv", "data", ".pytest_cache", ".ruff_cache", ".hypothesis", "*.egg-info", ".env")
ARRIVAL = "metrics-20261124-140509-3f9a1c"
"""The arrival of the examples."""
DOCUMENT = b'{"order": 7, "customer": "north"}'

NEED_A_STACK = (
    "demo",
    "drop",
    "status",
    "retry",
    "replay",
    "prefect",
    "deploy",
    "plan",
    "apply",
    "alert-test",
    "profile",
)
"""The recipes that a reader may call while the stack is up; what others do has tests of its own."""
MAY_END_WITH = {"plan": {0, 2}}
"""The exit status of what does not end with 0 only."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the ten lines in it; it uses the packages that are installed here."""
    copy = tmp_path_factory.mktemp("project") / "prefect-blueprint"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (copy / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != "requirements.txt.done":
            (copy / ".venv" / part.name).symlink_to(part)
    command = 'cat requirements.txt pyproject.toml | cksum > ".venv/requirements.txt.done"'  # as the justfile stamps it
    subprocess.run(["bash", "-c", command], cwd=copy, check=True)
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
    stack = new_stack(project / "data", project, NOTIFY_URLS=receiver.url()).start()
    yield stack
    stack.stop()


def run(stack: Stack, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as its reader would, in the project's folder with `.venv` activated."""
    environment = {**stack.environment, "PATH": f"{stack.root / '.venv/bin'}:{stack.environment['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line],
        cwd=stack.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def ended(stack: Stack, inbox: str, files: int) -> dict[str, int]:
    """Return the books of an inbox when so many of its files have their outcome."""

    def look() -> dict[str, int] | None:
        books = stack.status()["inboxes"][inbox]
        return books if books["loaded"] + books["rejected"] + books["failed"] >= files else None

    return wait_until(look, f"{files} files of {inbox} have their outcome", pause=0.5)


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
    with sqlite3.connect(f"file:{stack.state_dir / 'ledger.db'}?mode=ro", uri=True) as ledger:
        rows = ledger.execute("SELECT id FROM arrivals WHERE inbox = 'metrics' ORDER BY created_at DESC LIMIT 1")
        return rows.fetchone()[0]


def commands() -> list[Command]:
    """Return each command of the documentation that needs a stack, once."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for one in shell_commands(page):
            words = one.words
            if (words[0] == "just" and words[1:2] and words[1] in NEED_A_STACK) or "import duckdb" in one.line:
                found.setdefault(" ".join(words), one)
    return list(found.values())


@pytest.mark.parametrize("command", commands(), ids=str)
def test_every_command_that_needs_a_stack_does_what_it_is_for(reader: Stack, command: Command) -> None:
    assert (reader.state_dir / "ledger.db").exists()
    if "drop" in command.words:
        # A copy that has not been taken yet would be in the way of a second one.
        wait_until(lambda: not (reader.inbox / "orders.csv").exists(), "the file before is taken")
    arrival = latest_arrival(reader)
    line = command.line.replace(ARRIVAL, arrival).replace("/path/to/orders.csv", str(reader.root / "orders.csv"))
    done = run(reader, line)
    allowed = MAY_END_WITH.get(command.words[1], {0})
    assert done.returncode in allowed, f"{line}\n{done.stdout}\n{done.stderr}"


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
