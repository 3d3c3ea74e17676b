"""`python -m flows.forkserver.worker`: Prefect's process worker, which looks for runs as soon as it hears of one.

`prefect worker start` looks every so often: at once a second a run waits for half of it, and each look writes to the
server's database, where it can fail the creation of a run, which Prefect then tries again 2 s later (measured: 3 of 10
single runs, SQLite). Told of each run by Prefect's own stream of events, it has to look by itself only now and then,
for what nobody told it of.
"""

import argparse
import asyncio
import os

import anyio
import httpx
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.settings import get_current_settings
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

from flows.forkserver.settings_cache import keep

SCHEDULED = ("prefect.flow-run.Scheduled", "prefect.flow-run.Resuming")
"""The events of runs that may be started now."""

LOOKS = (0.0, 0.05, 0.2)
"""Pauses before each look, in seconds: an event may come before the server has committed what it tells of."""

DEAF_PAUSE = 1.0
"""How often to look while there is no stream, and how long until it is tried again, in seconds."""


async def run(worker: ProcessWorker) -> None:
    """Run the worker until it is stopped."""
    async with anyio.create_task_group() as tasks:
        told = asyncio.Event()
        tasks.start_soon(listen, told)
        tasks.start_soon(look_when_told, worker, told)
        await worker.start()
        tasks.cancel_scope.cancel()


async def look_when_told(worker: ProcessWorker, told: asyncio.Event) -> None:
    """Have the worker look for runs, and start them, each time that it is told of one."""
    while True:
        await told.wait()
        told.clear()
        for pause in LOOKS:
            await anyio.sleep(pause)
            try:
                if await worker.get_and_submit_flow_runs():
                    break
            except httpx.HTTPError:
                break  # the worker's own loop looks as well, and says what is wrong


async def listen(told: asyncio.Event) -> None:
    """Tell of every run that the server tells of; every second, to be safe, while the server cannot be heard."""
    while True:
        wanted = EventFilter(event=EventNameFilter(name=[*SCHEDULED]))
        try:
            async with get_events_subscriber(wanted, reconnection_attempts=0) as events:
                async for _ in events:
                    told.set()
        except Exception as error:  # noqa: BLE001 # whatever it is, the next try may succeed
            print(f"Not told of runs, looking every {DEAF_PAUSE:g} s: {type(error).__name__}: {error}", flush=True)
        told.set()
        await anyio.sleep(DEAF_PAUSE)


def main() -> None:
    """Take what the stack says on the command line, and run."""
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="python -m flows.forkserver.worker", description=main.__doc__)
    parser.add_argument("--pool", required=True, help="the work pool; it has to exist and to be of the type process")
    parser.add_argument("--name", required=True, help="the worker's name")
    asked = parser.parse_args()
    keep()
    settings = get_current_settings().worker
    worker = ProcessWorker(
        asked.pool,
        name=asked.name,
        prefetch_seconds=settings.prefetch_seconds,
        heartbeat_interval_seconds=int(settings.heartbeat_seconds),
        create_pool_if_not_found=False,
    )
    # As `prefect worker start` does: the first signal ends it, its runs go on.
    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    try:
        asyncio.run(run(worker))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"Worker {worker.name!r} stopped!", flush=True)


if __name__ == "__main__":
    main()
