"""A reader of the documentation: a copy of the project, and a terminal next to its stack."""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

from tests.documentation import Command
from tests.journeys.stack import CREDENTIALS, ROOT, Stack, wait_until

LEFT_OUT = ("__pycache__", ".git", ".venv", "data", ".pytest_cache", ".ruff_cache", ".hypothesis", "*.egg-info", ".env")
TOKEN = "a-token-of-this-test-alone"


def copy_of_the_project(folder: Path) -> Path:
    """Return a copy of the project as a clone of it would be, and of what is not committed yet."""
    return shutil.copytree(ROOT, folder / "prefect-blueprint", ignore=shutil.ignore_patterns(*LEFT_OUT))


def installed_copy(folder: Path) -> Path:
    """Return a copy of the project that uses the packages which are installed here."""
    copy = copy_of_the_project(folder)
    (copy / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.suffix != ".done":
            (copy / ".venv" / part.name).symlink_to(part)
    # As the justfile stamps what is installed: to install the copy would have this project's own `.venv` lead to it.
    for name in ("requirements.txt", "requirements-dev.txt"):
        command = f"cat {name} pyproject.toml | cksum > .venv/{name}.done"
        subprocess.run(["bash", "-c", command], cwd=copy, check=True)
    return copy


def terminal(stack: Stack) -> dict[str, str]:
    """Return the environment of a reader's terminal, with `.venv` activated."""
    return {
        **stack.environment,
        "PATH": f"{stack.root / '.venv/bin'}:{stack.environment['PATH']}",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # another installation's, which is not to be asked
    }


def run(stack: Stack, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as its reader would, in the project's folder."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=stack.root,
        env=terminal(stack),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def watch(stack: Stack, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line that goes on until Ctrl-C, at a terminal, and press that when it has shown something."""
    record = stack.terminal.with_name("watched.log")
    with (
        recorded_terminal(record) as its,
        subprocess.Popen(
            shlex.split(line),
            cwd=stack.root,
            env=terminal(stack),
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(lambda: record.stat().st_size, "it has shown something")
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=30)
        finally:
            process.kill()
    # As the shell says it of what Ctrl-C has ended; just itself ends with 130.
    status = 0 if process.returncode in {130, -signal.SIGINT} else process.returncode
    return subprocess.CompletedProcess(line, status, record.read_text(), "")


@contextlib.contextmanager
def recorded_terminal(record: Path) -> Generator[int]:
    """Give a terminal to write to, and keep in a file what is written there."""
    ours, its = os.openpty()

    def keep() -> None:
        with record.open("wb", buffering=0) as kept, contextlib.suppress(OSError):  # EIO: the other end was closed
            while shown := os.read(ours, 65536):
                kept.write(shown)

    record.write_bytes(b"")
    keeping = threading.Thread(target=keep)
    keeping.start()
    try:
        yield its
    finally:
        os.close(its)
        keeping.join(timeout=10)
        os.close(ours)


def typed(stack: Stack, command: Command, arrival: str) -> str:
    """Return a command's line with what a reader puts in place of the examples."""
    instead = {
        r"metrics-20261124-140509(-3f9a1c)?": arrival,
        r"\bARRIVAL\b|\bID\b": arrival,
        r"\[INBOX\]": "metrics",
        r"\[SERVICE\]": "sensor",
        r"\bFOLDER\b": str(stack.state_dir / "exported"),
        r"\bFILE\b": str(stack.state_dir / "ledger.db"),
        r"\bCOPY\b": str(stack.state_dir / "ledger-copy.db"),
        "/path/to/orders.csv": str(stack.root / "orders.csv"),
        "user:password": CREDENTIALS,
        r"\$UPLOAD_TOKEN": TOKEN,
        "4201": str(stack.sensor_port),
    }
    line = command.line
    if command.words[0] == "curl":
        upload = upload_name(command)
        shutil.copy(stack.root / "orders.csv", stack.root / upload)
        instead |= {r"orders\.csv": upload, "^curl ": "curl --fail-with-body --no-progress-meter "}
    for example, own in instead.items():
        line = re.sub(example, own, line)
    return line


def upload_name(command: Command) -> str:
    """Return a name that no other command uploads under."""
    return f"orders-{hashlib.sha256(command.line.encode()).hexdigest()[:8]}.csv"
