"""What a running stack writes is its user's alone, whatever the umask and whatever was open before."""

import os
import re
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.journeys.stack import Stack
from tests.other_user import may_open, needs_root, reachable_folder

ORDERS = "date,orders\n2026-01-05,128\n"
BROKEN = "date,orders\n2026-01-05,this,line,has,too,many\n"


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack]) -> Generator[Stack, None, None]:
    """Give a stack that was started with umask 000 on what version 1.0.0 has left, and has done all that it does."""
    with reachable_folder() as place:
        made = new_stack(place / "state", UPLOAD_TOKEN="a-token-for-scripts")
        made.umask = 0
        (made.state_dir / "prefect" / "prefect.db").chmod(0o644)
        (made.state_dir / "logs").mkdir(mode=0o755)
        (made.state_dir / "logs" / "up.lock").touch(mode=0o644)
        made.start()
        work(made)
        yield made
        made.stop()


def work(stack: Stack) -> None:
    """Have files loaded and rejected, a run by hand fail, and the commands make what they make."""
    for name, content in {"orders.csv": ORDERS, "broken.csv": BROKEN}.items():
        file = Path(tempfile.mkdtemp()) / name
        file.write_text(content)
        dropped = stack.command("sensors", "drop", str(file))
        assert dropped.returncode == 0, dropped.stderr
    stack.wait_for_end(stack.run_now({"source_url": "http://127.0.0.1:9/nobody.json"}), seconds=200)
    stack.books_when(
        lambda books: (books["loaded"], books["rejected"] + books["failed"]) == (1, 1),
        "the file is loaded and the broken one is rejected",
        120,
    )
    for arguments in (
        ("sensors", "status"),
        ("sensors", "client", "automations", "alert-test"),
        ("sensors", "profile"),
    ):
        stack.command(*arguments, seconds=120)


def private(stack: Stack) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything in the state folder but the inboxes; what goes away meanwhile is left out."""
    for path in stack.state_dir.rglob("*"):
        if path.relative_to(stack.state_dir).parts[0] != "inbox":
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue


def test_no_other_user_has_any_right_to_what_is_in_the_state_folder(stack: Stack):
    assert stat.S_IMODE(stack.state_dir.stat().st_mode) == 0o711
    found = {str(path.relative_to(stack.state_dir)): status.st_mode for path, status in private(stack)}
    assert {"ledger.db", "ledger.db-shm", "alerts.db", "warehouse.duckdb", "warm.sock", "logs/up.lock"} <= set(found)
    dropped = {name for name, mode in found.items() if re.match(r"arrivals/.*/[^.][^/]*$", name) and stat.S_ISREG(mode)}
    assert len(dropped) == 2
    open_to_others = {
        name: oct(mode)
        for name, mode in found.items()
        if mode & 0o077 and not stat.S_ISLNK(mode) and name not in dropped
    }
    assert open_to_others == {}


@needs_root
def test_another_user_reaches_the_inboxes_and_nothing_else(stack: Stack):
    assert not may_open(stack.state_dir)
    assert [path for path, status in private(stack) if stat.S_ISREG(status.st_mode) and may_open(path)] == []
    assert may_open(stack.inbox)


def test_no_process_of_the_stack_writes_into_a_file_that_others_may_read(stack: Stack):
    children = psutil.Process(stack.pid).children(recursive=True)
    written = [Path(file.path) for process in children for file in process.open_files() if file.mode != "r"]
    assert written
    assert {str(path) for path in written if path.exists() and path.stat().st_mode & 0o077} == set()


def test_every_process_of_the_stack_has_the_private_umask(stack: Stack):
    processes = [psutil.Process(stack.pid), *psutil.Process(stack.pid).children(recursive=True)]
    umasks = {process.pid: _umask_of(process.pid) for process in processes}
    assert set(umasks.values()) == {"0077"}
    assert len(umasks) >= 6


def _umask_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Umask:"))


def test_what_the_stack_leaves_among_the_machines_temporary_files_is_closed(stack: Stack):
    mine = psutil.Process(stack.pid)
    left = [
        path
        for path in Path(tempfile.gettempdir()).iterdir()
        if path.name.startswith(("blueprint-", "runner_storage", "prefect"))
        and path.lstat().st_ctime >= mine.create_time()
    ]
    assert [str(path) for path in left if path.lstat().st_mode & 0o077] == []


def test_it_says_that_what_was_open_is_closed(stack: Stack):
    (said,) = [line for line in stack.terminal.read_text().splitlines() if "were open to other users" in line]
    assert "docs/security.md" in said
