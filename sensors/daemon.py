"""The sensor as a daemon: one loop takes files in, one deals with Prefect, and a port says how they are."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn
from filelock import FileLock, Timeout
from starlette.applications import Starlette

from automations.bell import AlarmSettings, read_alarm_settings
from sensors.clock import Clock
from sensors.failed import FailedFolder
from sensors.health import health_page
from sensors.housekeeping import Housekeeping
from sensors.inbox import Inbox, InboxesError, WatchChoice, read_inboxes
from sensors.inbox_folder import make_folders
from sensors.intake import Intake
from sensors.ledger import Ledger, LedgerError
from sensors.ledger_check import LedgerCheck, is_large
from sensors.loop import Loop
from sensors.memory import share_memory
from sensors.prefect_side import PrefectSide
from sensors.ringing.alarm import Alarm
from sensors.settings import Settings
from sensors.settling.refusal import Refusals
from sensors.staging.origin import LocalOrigin
from sensors.staging.stage import Stager
from sensors.watching.watch import Watch

if TYPE_CHECKING:
    from sensors.remote.store import Store
    from sensors.remote.watch import RemoteWatch

logger = logging.getLogger(__name__)


class SensorRunningError(Exception):
    """Another sensor works on this state folder."""


def run(settings: Settings) -> None:
    """Run the sensor until SIGTERM or SIGINT.

    Raises InboxesError, LedgerError, SensorRunningError, ConfigurationError before anything is started.
    """
    share_memory()
    _log_to_standard_error()
    alarm_settings = read_alarm_settings()
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    make_folders(settings.inboxes_file, inboxes, for_now=True)
    stores = _open_stores(settings, inboxes)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{settings.ledger_path}.lock", blocking=False)
    try:
        with lock:
            _check_ledger(settings)
            # Not FastAPI, which takes 10 MB more.
            app = Starlette(lifespan=_lifespan(settings, inboxes, stores, alarm_settings))
            uvicorn.run(app, host="127.0.0.1", port=settings.sensor_port, log_config=None, access_log=False)
    except Timeout as error:
        raise SensorRunningError(
            f"another sensor, or `just rebuild`, works on {settings.state_dir}; "
            "wait for it or stop it, or give this one another STATE_DIR"
        ) from error


def _open_stores(settings: Settings, inboxes: tuple[Inbox, ...]) -> "dict[str, Store]":
    """Open the stores of the remote inboxes. Raises InboxesError."""
    remote = [inbox for inbox in inboxes if inbox.url]
    if not remote:
        return {}  # and nothing of it is imported
    from sensors.remote.opening import open_store
    from sensors.remote.store import StoreError

    stores: dict[str, Store] = {}
    for inbox in remote:
        try:
            stores[inbox.name] = open_store(inbox)
        except StoreError as error:
            raise InboxesError(f"{settings.inboxes_file}: inboxes.{inbox.name}.options: {error}") from error
    return stores


def _check_ledger(settings: Settings) -> None:
    """Say now, not in a loop, if the ledger cannot be used. Raises LedgerError."""
    if not settings.ledger_path.exists() and any(settings.arrivals_dir.glob("*/*")):
        # A new one would know nothing of them, and they would never be announced.
        raise LedgerError(
            f"there are arrivals in {settings.arrivals_dir}, but there is no ledger; `just rebuild` makes one from them"
        )
    if not is_large(settings.ledger_path):
        with Ledger(settings.ledger_path) as ledger:
            ledger.check()


def _log_to_standard_error() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%d %H:%M:%S%z"
    )
    for noisy in ("httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("watchdog").setLevel(logging.ERROR)  # of a queue that overflows we tell ourselves, and once


def _lifespan(
    settings: Settings, inboxes: tuple[Inbox, ...], stores: "dict[str, Store]", alarm_settings: AlarmSettings
):
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        clock = Clock()
        prefect = PrefectSide(settings, inboxes, clock)
        watches: dict[str, Watch | RemoteWatch] = {
            inbox.name: _remote_watch(inbox, stores[inbox.name]) if inbox.url else _watch(inbox) for inbox in inboxes
        }
        alarm = Alarm(settings, alarm_settings, clock)
        # A loop for each inbox: a folder that cannot be read holds up no other.
        intakes = [_intake_loop(settings, inbox, watches[inbox.name], prefect.announcing, clock) for inbox in inboxes]
        prefect.wake_when_runs_end(intakes)
        loops = [
            prefect.announcing,
            prefect.following,
            *intakes,
            Loop("ledger check", LedgerCheck(settings.ledger_path).step, clock),
            Loop("housekeeping", Housekeeping(settings, inboxes, clock).step, clock),
            Loop("bell", alarm.deliver, clock),
            Loop("watchman", alarm.watch, clock),
        ]
        app.router.routes.append(health_page(loops, watches))
        for loop in loops:
            loop.start()
        logger.info("watching %s", ", ".join(inbox.where for inbox in inboxes))
        yield
        for loop in loops:
            loop.stop()
        for watch in watches.values():
            if not isinstance(watch, Watch):
                watch.close()  # a copy that is under way would take longer than anybody waits
        for loop in loops:
            loop.join(timeout=3)
        for watch in watches.values():
            watch.close()
        alarm.close()

    return lifespan


def _watch(inbox: Inbox) -> Watch:
    return Watch(
        inbox.path,
        polling=inbox.watch is WatchChoice.POLLING,
        subfolders=inbox.subfolders,
        touches=inbox.done_file is not None,  # an old done-file may be used again
    )


def _remote_watch(inbox: Inbox, store: "Store") -> "RemoteWatch":
    from sensors.remote.origin import RemoteOrigin
    from sensors.remote.watch import RemoteWatch

    return RemoteWatch(inbox, RemoteOrigin(inbox, store))


def _intake_loop(
    settings: Settings, inbox: Inbox, watch: "Watch | RemoteWatch", announcing: Loop, clock: Clock
) -> Loop:
    ledger = Ledger(settings.ledger_path)
    origin = LocalOrigin() if isinstance(watch, Watch) else watch.origin
    stager = Stager(ledger, settings.arrivals_dir, clock, origin)
    refusals = Refusals(inbox, ledger, FailedFolder(ledger, settings.failed_dir), clock)
    intake = Intake(inbox, watch, ledger, stager, refusals, clock)
    take_step = intake.step if isinstance(watch, Watch) else watch.patient(intake.step, announcing.wake.set)

    def step() -> float:
        done = take_step()
        if done.found_work:
            announcing.wake.set()
        return done.look_again_in

    loop = Loop(f"inbox {inbox.name}", step, clock)
    watch.wake = loop.wake
    if not isinstance(watch, Watch):
        watch.origin.beat = loop.beat
    return loop
