"""Run the sensor as a daemon: its loops work while its web page is served."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from filelock import FileLock, Timeout

from automations.alert_service import read_alarm_settings
from sensors.config.inboxes import Inbox, InboxesError, read_inboxes
from sensors.config.settings import Settings
from sensors.daemon.inbox_loops import SensorLoops
from sensors.files.permissions import close_to_others, make_state_folder
from sensors.inbox.intake import make_folders
from sensors.ledger import Ledger, LedgerError
from sensors.ledger.maintenance import is_large
from sensors.runtime.dead_mans_switch import DeadMansSwitch
from sensors.runtime.descriptors import share_memory
from sensors.runtime.json_logging import LogFormat, formatter
from sensors.stack.processes import MARK
from sensors.web.app import make_page, serve
from sensors.web.attention import ServicesWatch, check_services
from sensors.web.metrics import SensorCollector, health_page, metrics_page, ready_page
from sensors.web.queries import SensorState
from sensors.web.uploads import clear_forgotten

if TYPE_CHECKING:
    from sensors.remote.store import Store

logger = logging.getLogger(__name__)


class SensorRunningError(Exception):
    """Another sensor, or `just rebuild`, uses this state folder."""


def run(settings: Settings) -> None:
    """Run the sensor until SIGTERM or SIGINT.

    Raises InboxesError, LedgerError, SensorRunningError, ConfigurationError before anything is started.
    """
    share_memory()
    _log_to_standard_error(settings.log_format)
    alarm_settings = read_alarm_settings()
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    make_state_folder(settings.state_dir)
    make_folders(settings.inboxes_file, inboxes, for_now=True)
    stores = _open_stores(settings, inboxes)
    _close_to_others(settings)
    lock = FileLock(f"{settings.ledger_path}.lock", blocking=False, mode=0o600)
    try:
        with lock:
            _check_ledger(settings)
            clear_forgotten(settings, inboxes)
            serve(_page(settings, inboxes, SensorLoops(settings, inboxes, stores, alarm_settings)), settings)
    except Timeout as error:
        raise SensorRunningError(
            f"another sensor, or `just rebuild`, works on {settings.state_dir}; "
            "wait for it or stop it, or give this one another STATE_DIR"
        ) from error


def _page(settings: Settings, inboxes: tuple[Inbox, ...], work: SensorLoops) -> FastAPI:
    """Return the web app; the loops run while it is served."""
    # Under `just up`, `up` calls the dead man's switch, as it sees the other services too; a lone sensor calls its own.
    switch = None if MARK in os.environ else _switch(settings, work)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        work.start()
        if switch:
            switch.start()
        collector = SensorCollector(settings, work.loops, work.watches, work.clock, work.issues, work.space)
        app.router.routes += [
            health_page(work.loops, work.watches, work.issues),
            ready_page(work.loops, settings.ledger_path),
            metrics_page(collector),
        ]
        yield
        if switch:
            switch.stop()
        work.stop()
        collector.close()

    return make_page(
        settings,
        inboxes,
        lifespan,
        clock=work.clock,
        sensor=SensorState(
            lambda: work.watches,
            ServicesWatch(
                lambda: check_services(settings, work.loops, work.run_issues, work.issues), work.clock
            ).latest,
            work.run_issues,
        ),
        wake=work.announce_now,
    )


def _close_to_others(settings: Settings) -> None:
    """Close the state folder to other users; what would keep `up` from starting is only logged here.

    In a pod, root may own the volume, and there are no other users.
    """
    found = close_to_others(settings.state_dir, settings.readers)
    for line in (*found.dangers, *found.notices):
        logger.warning("%s", line)


def _switch(settings: Settings, work: SensorLoops) -> DeadMansSwitch:
    return DeadMansSwitch(
        settings.heartbeat_url.get_secret_value(),
        settings.heartbeat_fail_url.get_secret_value(),
        work.problems,
    )


def _open_stores(settings: Settings, inboxes: tuple[Inbox, ...]) -> "dict[str, Store]":
    """Open the stores of the remote inboxes. Raises InboxesError."""
    remote = [inbox for inbox in inboxes if inbox.url]
    if not remote:
        return {}  # and no store is imported
    from sensors.remote.open import open_store
    from sensors.remote.store import StoreError

    stores: dict[str, Store] = {}
    for inbox in remote:
        try:
            stores[inbox.name] = open_store(inbox)
        except StoreError as error:
            raise InboxesError(f"{settings.inboxes_file}: inboxes.{inbox.name}.options: {error}") from error
    return stores


def _check_ledger(settings: Settings) -> None:
    """Check the ledger before any loop starts; a large one is checked by a loop. Raises LedgerError."""
    if not settings.ledger_path.exists() and any(settings.arrivals_dir.glob("*/*")):
        # A new ledger would know nothing of these arrivals, and they would never be announced.
        raise LedgerError(
            f"there are arrivals in {settings.arrivals_dir}, but there is no ledger; `just rebuild` makes one from them"
        )
    if not is_large(settings.ledger_path):
        with Ledger(settings.ledger_path) as ledger:
            ledger.check()


def _log_to_standard_error(log_format: LogFormat) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("watchdog").setLevel(logging.ERROR)  # the sensor logs a queue overflow itself, once
