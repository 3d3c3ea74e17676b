"""Applying that is killed at a write, and is then repeated: against Prefect's real API."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.as_code.drift import owner_mark
from automations.as_code.plan import apply, plan
from automations.settings import AlertSettings

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

OWNER = "killed"
FILES = {
    "first": "name: first\ntrigger: {expect: [a]}\nactions: [{type: pause-automation, automation: second}]\n",
    "second": "name: second\ntrigger: {expect: [a]}\nactions: [{type: do-nothing}]\n",
    "changed": "name: changed\ndescription: new\ntrigger: {expect: [a]}\nactions:\n"
    "  - {type: send-notification, block: apprise-alerts/alerts, body: x}\n",
}
_READS = ("/filter", "/count", "/health")


@dataclass
class Deadly:
    """A way to the API on which the process that writes is killed when its nth write is done and not yet answered.

    To be killed just before a write leaves the server as to be killed just after the one before.
    """

    api_url: str
    kill_at: int
    writes: list[str] = field(default_factory=list[str])
    victim: int = 0

    def forward(self, request: BaseHTTPRequestHandler) -> httpx.Response | None:
        """Pass a request on; None when nobody is left to hear the answer."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        is_write = request.command != "GET" and not request.path.endswith(_READS)
        if is_write:
            self.writes.append(f"{request.command} {request.path}")
        headers = {"Content-Type": "application/json"}
        url = f"{self.api_url.removesuffix('/api')}{request.path}"
        answer = httpx.request(request.command, url, content=body, headers=headers)
        if is_write and len(self.writes) == self.kill_at:
            os.kill(self.victim, signal.SIGKILL)
            return None
        return answer


@contextmanager
def on_the_way(deadly: Deadly) -> Generator[str, None, None]:
    """Stand between a client and the API for the length of a block; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = deadly.forward(self)
            if answer is not None:
                self.send_response(answer.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names are the base class's

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def apply_at(url: str, folder: Path, go: threading.Event) -> None:
    """Run in a process of its own, which has what it needs imported."""
    go.wait()
    with temporary_settings({PREFECT_API_URL: url}):
        apply(folder, settings_of(folder), OWNER)


def settings_of(folder: Path) -> AlertSettings:
    return AlertSettings.model_validate({"state_dir": folder / "state"})


@pytest.fixture
def client(api_url: str) -> Generator[SyncPrefectClient, None, None]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def put_in_its_old_state(client: SyncPrefectClient) -> None:
    """Give the server one automation to update, two to delete, and no block."""
    for automation in client.read_automations():
        client.delete_automation(automation.id)
    for block in client.read_block_documents():
        client.delete_block_document(block.id)
    for name in ("changed", "gone", "gone too"):
        bare = {"name": name, "trigger": {"expect": ["a"]}, "actions": [{"type": "do-nothing"}]}
        client.create_automation(AutomationCore.model_validate({**bare, "tags": [owner_mark(OWNER)]}))


def apply_and_die(deadly: Deadly, folder: Path) -> int | None:
    # Not forked from here: this process has threads.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.automations.as_code.test_apply_killed"])
    go = processes.Event()
    with on_the_way(deadly) as url:
        process = processes.Process(target=apply_at, args=(url, folder, go))
        process.start()
        assert process.pid
        deadly.victim = process.pid
        go.set()
        process.join(timeout=60)
    return process.exitcode


def test_killed_at_any_write_and_applied_again_it_is_right(
    client: SyncPrefectClient, api_url: str, folder: Path
) -> None:
    kill_at = 0
    while True:
        kill_at += 1
        put_in_its_old_state(client)
        deadly = Deadly(api_url, kill_at)
        ended = apply_and_die(deadly, folder)
        if ended == 0:
            break  # there was no such write any more
        assert ended == -signal.SIGKILL, deadly.writes
        apply(folder, settings_of(folder), OWNER)
        assert sorted(one.name for one in client.read_automations()) == ["changed", "first", "second"], deadly.writes
        assert len(client.read_block_documents()) == 2, deadly.writes
        assert not plan(folder, settings_of(folder), OWNER).changed, deadly.writes
    assert kill_at > 7, deadly.writes  # two blocks, two new ones, one update, two deleted
