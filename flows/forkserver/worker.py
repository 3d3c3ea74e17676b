"""`python -m flows.forkserver.worker`: Prefect's process worker, polling for runs as soon as an event announces one.

`prefect worker start` only polls. Even with one poll a second a run waits half a second on average, and each poll
writes to the server's database, where it can make the creation of a run fail, which Prefect retries 2 s later
(measured: 3 of 10 single runs, SQLite). With Prefect's event stream, regular polls are needed only now and then, for
runs whose event was missed.
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
"""The events of runs that are ready to start."""

LOOKS = (0.0, 0.05, 0.2)
"""Pauses before each poll, in seconds: an event may arrive before the server has committed the run."""

DEAF_PAUSE = 1.0
"""Seconds between polls while the event stream is down, and between attempts to connect to it."""


async def run(worker: ProcessWorker) -> None:
    """Run the worker until it is stopped."""
    async with anyio.create_task_group() as tasks:
        notified = asyncio.Event()
        tasks.start_soon(listen, notified)
        tasks.start_soon(look_when_notified, worker, notified)
        await worker.start()
        tasks.cancel_scope.cancel()


async def look_when_notified(worker: ProcessWorker, notified: asyncio.Event) -> None:
    """Poll for runs and start them each time `notified` is set."""
    while True:
        await notified.wait()
        notified.clear()
        for pause in LOOKS:
            await anyio.sleep(pause)
            try:
                if await worker.get_and_submit_flow_runs():
                    break
            except httpx.HTTPError:
                break  # the worker's own loop polls as well and logs the error


async def listen(notified: asyncio.Event) -> None:
    """Set `notified` at each event of a run, and every DEAF_PAUSE seconds while the event stream is down."""
    while True:
        wanted = EventFilter(event=EventNameFilter(name=[*SCHEDULED]))
        try:
            async with get_events_subscriber(wanted, reconnection_attempts=0) as events:
                async for _ in events:
                    notified.set()
        except Exception as error:  # noqa: BLE001 # the next attempt may succeed
            print(f"No events of runs, looking every {DEAF_PAUSE:g} s: {type(error).__name__}: {error}", flush=True)
        notified.set()
        await anyio.sleep(DEAF_PAUSE)


def main() -> None:
    """Run the worker with the options of the command line."""
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
    # As in `prefect worker start`: the first signal ends the worker, its runs go on.
    setup_signal_handlers_worker(os.getpid(), "the process worker", print)
    try:
        asyncio.run(run(worker))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"Worker {worker.name!r} stopped!", flush=True)


if __name__ == "__main__":
    main()
