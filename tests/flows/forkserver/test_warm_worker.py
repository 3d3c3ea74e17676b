"""The worker that is told of runs: it looks at once, and again when it was told too early."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled
from prefect.testing.utilities import prefect_test_harness

from flows.forkserver.worker import LOOKS, listen, look_when_notified


class Looking:
    """What a worker's look finds, one after the other; nothing at the end."""

    def __init__(self, *found: list[str] | Exception) -> None:
        self.found = [*found]
        self.looks = 0

    async def get_and_submit_flow_runs(self) -> list[str]:
        """Look."""
        self.looks += 1
        found = self.found.pop(0) if self.found else []
        if isinstance(found, Exception):
            raise found
        return found


def notified_once(worker: Looking) -> None:
    """Tell the worker of a run, and wait until it has looked for it as often as it would."""

    async def notify() -> None:
        reported = asyncio.Event()
        looking = asyncio.create_task(look_when_notified(worker, reported))  # pyright: ignore[reportArgumentType]
        reported.set()
        await asyncio.sleep(sum(LOOKS) + 0.2)
        assert not looking.done()
        looking.cancel()

    asyncio.run(notify())


@pytest.mark.parametrize(
    ("found", "looks"),
    [
        ([["run"]], 1),
        ([[], ["run"]], 2),
        ([], len(LOOKS)),
        ([httpx.ConnectError("no server")], 1),
    ],
)
def test_it_looks_until_it_has_found_a_run_or_was_notified_too_early(found: list[Any], looks: int):
    worker = Looking(*found)
    notified_once(worker)
    assert worker.looks == looks


@flow
def nothing() -> None:
    """Be scheduled."""


async def _schedule() -> UUID:
    async with get_client() as client:
        return (await client.create_flow_run(nothing, state=Scheduled())).id


def heard(of: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Return whether something is heard of within 20 s."""

    async def hear() -> bool:
        reported = asyncio.Event()
        listening = asyncio.create_task(listen(reported))
        try:
            async with asyncio.timeout(20):
                while not reported.is_set():  # the stream may not be there yet at the first
                    await of()
                    await asyncio.sleep(0.2)
        except TimeoutError:
            return False
        else:
            return True
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    return asyncio.run(hear())


@pytest.mark.timeout(120)
def test_a_run_that_is_scheduled_on_a_real_server_is_reported():
    with prefect_test_harness(server_startup_timeout=60):
        assert heard(of=_schedule)


def test_while_no_events_arrive_it_is_notified_to_look_all_the_same(
    capsys: pytest.CaptureFixture[str],
):
    async def never() -> None:
        """Nothing happens."""

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert heard(of=never)
    assert "No events of runs" in capsys.readouterr().out
