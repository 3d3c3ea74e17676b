"""The stack and the receiver that most journeys share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.journeys.stack import ROOT, Stack
from tests.receiver import Receiver, receiving


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's database as its own command makes it, once for all processes of the tests.

    A server that has to make it starts 8 s later.
    """
    home = tmp_path_factory.getbasetemp() / "prefect"
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = tmp_path_factory.getbasetemp().parent / "prefect"
    home.mkdir(exist_ok=True)
    with FileLock(home / "made.lock"):
        if not (home / "made").exists():
            subprocess.run(
                [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
                env={**os.environ, "PREFECT_HOME": str(home)},
                cwd=home,
                check=True,
                capture_output=True,
            )
            (home / "made").touch()
    return home / "prefect.db"


@pytest.fixture(scope="session")
def new_stack(database: Path) -> Callable[..., Stack]:
    """Make a stack whose database is there already."""

    def make(state_dir: Path, root: Path = ROOT, **environment: str) -> Stack:
        made = Stack(state_dir, root, **environment)
        (state_dir / "prefect").mkdir(parents=True)
        shutil.copy(database, state_dir / "prefect" / database.name)
        return made

    return make


@pytest.fixture(scope="package")
def stack(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, new_stack: Callable[..., Stack]
) -> Iterator[Stack]:
    """Run one stack until the last journey of this process has ended, and not next to the tests that come then."""
    running = new_stack(tmp_path_factory.mktemp("journey") / "state", NOTIFY_URLS=receiver.url()).start()
    yield running
    running.stop()
