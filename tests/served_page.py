"""The drop page as the sensor serves it, in a thread: real sockets, and no loops at work behind it."""

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.inbox.intake import make_folders
from sensors.ledger import Ledger
from sensors.runs.issues import RunIssue
from sensors.runtime.clock import Clock
from sensors.web.app import make_page, server_config
from sensors.web.attention import Services
from sensors.web.queries import SensorState
from tests.free_ports import free_ports

AUTH = ("admin", "secret")
TOKEN = "only-for-uploads"


@dataclass(frozen=True)
class ServedPage:
    """A page that is served."""

    settings: Settings
    app: FastAPI
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def inbox(self) -> Path:
        return self.settings.inbox_dir / "metrics"

    def client(self, auth: tuple[str, str] | None = AUTH) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=auth, trust_env=False, timeout=30)


def page_settings(folder: Path, **more: object) -> Settings:
    known = {"prefect_api_auth_string": ":".join(AUTH), "upload_token": TOKEN}
    return Settings.model_validate({"state_dir": folder, **known, **more})


@asynccontextmanager
async def nothing_else(_: FastAPI) -> AsyncGenerator[None]:
    yield


def no_services() -> Services | None:
    return None


def page_of(
    settings: Settings,
    services: Callable[[], Services | None] = no_services,
    run_issues: Callable[[], Sequence[RunIssue]] = tuple,
) -> FastAPI:
    """Make the page of a stack whose sensor has made its ledger and its folders."""
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    make_folders(settings.inboxes_file, inboxes, for_now=True)
    Ledger(settings.ledger_path).close()
    return make_page(
        settings, inboxes, nothing_else, clock=Clock(), sensor=SensorState(services=services, run_issues=run_issues)
    )


@contextmanager
def served_page(
    settings: Settings,
    services: Callable[[], Services | None] = no_services,
    run_issues: Callable[[], Sequence[RunIssue]] = tuple,
) -> Generator[ServedPage, None, None]:
    (port,) = free_ports(1)
    settings = settings.model_copy(update={"sensor_port": port})
    app = page_of(settings, services, run_issues)
    server = uvicorn.Server(server_config(app, settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield ServedPage(settings, app, port)
    finally:
        server.should_exit = True
        thread.join(10)
