"""The scale profile while any part of it is killed: every row exactly once, every failure alerted once.

Two machines, as far as processes can be: one has the servers, the service processes, two workers and a sensor; the
other has joined it with a worker and a sensor. Each sensor has an inbox of its own, and both watch a third one.
"""

import signal
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from automations.delivery.deliver import CLAIM
from sensors.ledger import Ledger
from tests.crashes.installation import until
from tests.free_ports import free_ports_in_a_row
from tests.journeys.stack import CREDENTIALS, Stack, wait_until
from tests.postgres import PostgresServer, postgres_server
from tests.receiver import Receiver, receiving
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow  # four to eight minutes of both cores

FILES = 2000
BAD_EVERY = 250
"""Every so many files one has a value that its column cannot hold."""
ROWS = 3

VICTIMS = (
    *("server-1", "services-1", "worker-1", "sensor", "balancer", "redis"),
    *("joined worker-1", "server-2", "postgres", "services-2", "joined sensor", "worker-2"),
)
EXPIRED = CLAIM.total_seconds() - 1
TOGETHER = pytest.mark.timeout(1500)


@dataclass
class Installation:
    """Both machines, and the servers that they share."""

    main: Stack
    joined: Stack
    shared: Path
    """The folder that both sensors watch."""
    postgres: PostgresServer
    redis: RedisServer
    receiver: Receiver

    @property
    def inboxes(self) -> tuple[Path, Path, Path]:
        return self.main.inbox, self.joined.inbox, self.shared

    def kill(self, victim: str) -> None:
        """kill -9 one part; what nobody else starts again is started after two seconds."""
        if victim in {"postgres", "redis"}:
            server = self.postgres if victim == "postgres" else self.redis
            server.kill()
            time.sleep(2)
            server.start()
            return
        machine = self.joined if victim.startswith("joined ") else self.main
        machine.program(victim.removeprefix("joined ")).send_signal(signal.SIGKILL)

    def states(self) -> Counter[str]:
        """Count the files of both ledgers by their state; one that the other sensor took is withdrawn."""
        counts: Counter[str] = Counter()
        for stack in (self.main, self.joined):
            with Ledger(stack.state_dir / "ledger.db", read_only=True) as ledger:
                for row in ledger.rows("SELECT state, count(*) AS files FROM files GROUP BY state"):
                    counts[row["state"]] += row["files"]
        return counts

    def ended(self) -> int:
        """Count the files that have come to their end."""
        states = self.states()
        return states["loaded"] + states["rejected"] + states["failed"]

    def failed_runs(self) -> dict[str, str]:
        """Return the runs that ended badly, as the server knows them, and what it says of each."""
        found: list[dict[str, Any]] = []
        while True:
            wanted = {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}}
            body = {"flow_runs": wanted, "limit": 200, "offset": len(found), "sort": "ID_DESC"}
            page = self.main.api.post("/flow_runs/filter", json=body).raise_for_status().json()
            found += page
            if len(page) < 200:
                return {run["id"]: f"{run['state']} ended {run['end_time']}" for run in found}

    def alerts(self, runs: Iterable[str]) -> Counter[str]:
        """Count the alerts that were taken, by the failed run that they are about."""
        return Counter(run for body in self.receiver.taken() for run in runs if run in body["message"])

    def loaded(self) -> Counter[str]:
        """Count the rows in the warehouse by their file."""
        query = "SELECT _file_name, count(*) FROM public.daily_metrics GROUP BY _file_name"
        with psycopg.connect(self.postgres.url("warehouse")) as connection:
            return Counter(dict(connection.execute(query).fetchall()))


@contextmanager
def two_machines(
    folder: Path, postgres: PostgresServer, redis: RedisServer, receiver: Receiver, **environment: str
) -> Generator[Installation]:
    """Run both machines."""
    shared = folder / "shared"
    shared.mkdir()
    inboxes = folder / "inboxes.yaml"
    rules = {"metrics": {}, "shared": {"path": str(shared)}}
    inboxes.write_text(yaml.safe_dump({"inboxes": rules}))
    common = {
        "PROFILE": "scale",
        "WAREHOUSE_URL": postgres.create("warehouse"),
        "INBOXES_FILE": str(inboxes),
        "NOTIFY_URLS": receiver.url(),
        "PREFECT_API_AUTH_STRING": CREDENTIALS,
        **environment,
    }
    servers = {"DATABASE_URL": postgres.create("prefect"), "REDIS_URL": redis.url}
    port = str(free_ports_in_a_row(2))
    main = Stack(
        folder / "main", **common, **servers, API_SERVER_PORT=port, WORKERS="2", NODE_NAME="main", SERVICE_PROCESSES="2"
    )
    address = f"http://127.0.0.1:{main.api_port}/api"
    alone = {"API_SERVERS": "0", "SERVICE_PROCESSES": "0", "PREFECT_API_URL": address}
    joined = Stack(folder / "joined", **common, **alone, WORKERS="1", NODE_NAME="joined")
    try:
        main.start(420)
        joined.start(420)
        yield Installation(main, joined, shared, postgres, redis, receiver)
    finally:
        for stack in (joined, main):
            stack.end()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    with postgres_server() as postgres, redis_server() as redis, receiving() as receiver:
        folder = tmp_path_factory.mktemp("scale")
        with two_machines(folder, postgres, redis, receiver) as installation:
            yield installation


def is_bad(number: int) -> bool:
    return number % BAD_EVERY == 100


def drop(installation: Installation, numbers: range) -> None:
    for number in numbers:
        value = "none" if is_bad(number) else str(number)
        rows = "".join(f"{number}-{row},{value}\n" for row in range(ROWS))
        hidden = installation.inboxes[number % 3] / f".{number}.csv"
        hidden.write_text(f"id,value\n{rows}")
        hidden.rename(hidden.with_name(f"{number}.csv"))


@TOGETHER
def test_whatever_is_killed_during_a_burst_every_row_is_there_once_and_every_failure_is_reported_once(
    installation: Installation,
):
    drop(installation, range(3))  # the columns are there, so that the bad files are bad
    wait_until(lambda: installation.states()["loaded"] == 3, "the first files are loaded", 180)
    portion = (FILES - 3) // len(VICTIMS) + 1
    for place, victim in enumerate(VICTIMS):
        drop(installation, range(3 + place * portion, min(FILES, 3 + (place + 1) * portion)))
        time.sleep(1.5)  # what is at work is at every step by now
        before = installation.ended()
        installation.kill(victim)
        # Not a condition: with all of it killed one after the other it may well be that nothing moves for a while.
        until(lambda so_far=before: installation.ended() > so_far, 8)
        print(f"killed {victim}: {dict(installation.states())}", flush=True)
    bad = {f"{number}.csv" for number in range(FILES) if is_bad(number)}

    wait_until(lambda: installation.ended() >= FILES, "every file has come to its end", 900, pause=1)
    states = installation.states()
    assert (states["loaded"], states["rejected"], states["failed"]) == (FILES - len(bad), len(bad), 0), states
    good = {f"{number}.csv": ROWS for number in range(FILES) if not is_bad(number)}
    assert installation.loaded() == Counter(good)
    assert_each_failure_is_reported_once(installation)


def assert_each_failure_is_reported_once(installation: Installation) -> None:
    until(lambda: not unreported(installation), 300, pause=2)
    assert unreported(installation) == {}
    # What would come twice comes with the next looks at what was missed, which are seconds apart.
    quiet_until = time.monotonic() + 30
    while time.monotonic() < quiet_until:
        failed = installation.failed_runs()
        assert reported_more_than_once(installation, failed) == []
        assert {*installation.alerts(failed)} == {*failed}
        time.sleep(2)
    print(f"{len(failed)} runs failed or crashed, each reported once")


def reported_more_than_once(installation: Installation, runs: Iterable[str]) -> list[str]:
    """Return the texts of the alerts of each run that has several, by which one sees why.

    A process that is killed between the sending and the answer leaves a claim, and the same is sent once more when that
    has expired: docs/alerts.md says so, and it is left out here.
    """
    found: list[str] = []
    for run in runs:
        copies = [(at, text.partition("\nDelivered late:")[0]) for at, text in installation.receiver.reported(run)]
        pauses = [later - earlier for (earlier, _), (later, _) in pairwise(copies)]
        if len({text for _, text in copies}) > 1 or min(pauses, default=EXPIRED) < EXPIRED:
            found += [f"{at:.1f} s: {text}" for at, text in copies]
    return found


def unreported(installation: Installation) -> dict[str, str]:
    """Return the runs that ended badly and that nobody has heard of."""
    failed = installation.failed_runs()
    reported = installation.alerts(failed)
    return {run: state for run, state in failed.items() if not reported[run]}
