"""What several test modules need: a clock that is turned by hand, a ledger, an inbox, a server, somebody to ring."""

import atexit
import os
import socket
from collections.abc import Callable, Generator
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from automations.alert_service import AlertService, Dispatcher
from sensors.config.inboxes import Inbox
from sensors.files.beneath import Identity
from sensors.ledger import Ledger
from tests.bare_prefect import bare_prefect
from tests.documentation import ROOT
from tests.hand_clock import HandClock
from tests.pipeline import Pipeline
from tests.postgres import PostgresServer, postgres_server
from tests.postgres_pipeline import PostgresPipeline
from tests.postings import policy
from tests.prefect_server import PrefectServer, prefect_answering


@atexit.register
def _hush() -> None:
    """Keep DuckDB 2.0's bindings from listing what they did not free, when all results have been printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


LONGEST_FIRST = (
    "tests/journeys",
    "tests/crashes/test_sensor_trouble.py",
    "tests/crashes/test_alerts.py",
    "tests/journeys/test_scheduled_runs.py",
    "tests/journeys/test_runs_that_wait.py",
    "tests/journeys/test_alert_kinds.py",
    "tests/journeys/test_documentation.py",
    "tests/browser",
    "tests/crashes",
)
"""The scopes that take minutes, most of them spent on waiting: they begin in this order, next to what computes."""
APART = {
    "test_alert_kinds.py",
    "test_alerts.py",
    "test_documentation.py",
    "test_many_files.py",
    "test_moving.py",
    "test_newcomer.py",
    "test_private_state.py",
    "test_refusing_machine.py",
    "test_rotation.py",
    "test_runs_that_wait.py",
    "test_scale.py",
    "test_scheduled_runs.py",
    "test_sensor_trouble.py",
    "test_stops.py",
    "test_suspended.py",
    "test_warm.py",
}
"""Journeys and crash tests that share no server with others."""


MARKS = {
    "browser": (pytest.mark.journey, pytest.mark.long, pytest.mark.timeout(180)),
    "containers": (pytest.mark.containers, pytest.mark.timeout(1800)),
    "crashes": (pytest.mark.crash, pytest.mark.long, pytest.mark.timeout(900)),
    "journeys": (pytest.mark.journey, pytest.mark.timeout(300)),
}
"""What every test in a folder of `tests` is marked with."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in MARKS.get(item.path.relative_to(ROOT).parts[1], ()):
            item.add_marker(mark)
    items.sort(key=lambda item: _turn(_scope(item.path.relative_to(ROOT))))


def _scope(file: Path) -> str:
    """Return what the tests of a file, below the project's folder, are run in one process with: a folder, or itself."""
    return str(file.parent if not _is_quick(str(file)) and file.name not in APART else file)


def _turn(scope: str) -> int:
    """Return when a scope's turn is: first what takes minutes, then all else that starts servers, then the rest."""
    return LONGEST_FIRST.index(scope) if scope in LONGEST_FIRST else len(LONGEST_FIRST) + _is_quick(scope)


def _is_quick(scope: str) -> bool:
    return Path(scope).parts[1] not in MARKS


class ByServer(LoadScopeScheduling):
    """Has tests that share a server run in one process: all journeys, all crash tests, and else each module."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(Path(nodeid.partition("::")[0]))

    def _assign_work_unit(self, node: Any) -> None:
        """Give a process its next scope: a quick one while it is still busy with one that takes minutes.

        A process gets its next scope before its last two tests begin, and no other process can take that over.
        """
        assigned = self.assigned_work.get(node, {})
        if any(not _is_quick(scope) and not all(unit.values()) for scope, unit in assigned.items()):
            quick = next((scope for scope in self.workqueue if _is_quick(scope)), None)
            if quick is not None:
                self.workqueue.move_to_end(quick, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    return ByServer(config, log)


@pytest.fixture
def server() -> Generator[PrefectServer, None, None]:
    with prefect_answering() as server:
        yield server


@pytest.fixture
def unreachable() -> Generator[str, None, None]:
    """Give the address of an API where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/api"


@pytest.fixture
def ringer(tmp_path: Path) -> Generator[AlertService, None, None]:
    bell = Dispatcher(tmp_path / "alerts.db", tmp_path / "alerts.log", policy())
    ringer = AlertService(bell)
    yield ringer
    ringer.close()
    bell.close()


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer, None, None]:
    """Give a real PostgreSQL; one server for all modules of a process that ask for it, and none of them ends it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def two_databases(postgres: PostgresServer) -> list[str]:
    """Give the addresses of two databases, which are emptied for every test: to make one takes a second."""
    return [postgres.create(name) for name in ("one", "two")]


@pytest.fixture(params=["DuckDB", "PostgreSQL"])
def make_pipeline(request: pytest.FixtureRequest) -> Callable[[Path], Pipeline]:
    """Make a pipeline in a folder, with a warehouse of its own: of either kind, held to the same sentences."""
    if request.param == "DuckDB":
        return Pipeline
    databases = cycle(request.getfixturevalue("two_databases"))

    def make(folder: Path) -> Pipeline:
        folder.mkdir(parents=True, exist_ok=True)
        made = PostgresPipeline(folder, url=next(databases))
        made.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return made

    return make


@pytest.fixture
def pipeline(make_pipeline: Callable[[Path], Pipeline], tmp_path: Path) -> Pipeline:
    return make_pipeline(tmp_path)


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """Give the address of Prefect's real API; one server for all modules of a process that ask for it."""
    with bare_prefect(tmp_path_factory.mktemp("bare-prefect")) as url:
        yield url


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    path = tmp_path / "inbox" / "metrics"
    path.mkdir(parents=True)
    return Inbox(name="metrics", path=path)


@pytest.fixture
def identity() -> Callable[[datetime], Identity]:
    """Make the identity of some file that was last changed at a moment."""
    return lambda changed: Identity(1, 1, 10, int(changed.timestamp() * 1e9))


@pytest.fixture(scope="session")
def remote_servers(tmp_path_factory: pytest.TempPathFactory):
    """Give a real S3 server and a real SFTP server."""
    from tests.remote_world import remote_servers_at

    with remote_servers_at(tmp_path_factory.mktemp("sftp")) as servers:
        yield servers


@pytest.fixture(params=["s3", "s3 by the ledger", "sftp"])
def world(request, remote_servers, tmp_path: Path, hand_clock: HandClock, monkeypatch: pytest.MonkeyPatch):
    """Give a remote folder of each kind, and what makes sensors for it."""
    from tests.object_store import ENVIRONMENT
    from tests.remote_world import world_of

    for name, value in {**ENVIRONMENT, "ENV_FILE": str(tmp_path / "none.env")}.items():
        monkeypatch.setenv(name, value)
    with world_of(request.param, remote_servers, tmp_path, hand_clock) as world:
        yield world
