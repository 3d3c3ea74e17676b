"""The API as a web page, a guesser on the same machine and a worker meet it: a real stack, with and without AUTH."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from tests.journeys.stack import CREDENTIALS, DEPLOYMENT, FLOW, Stack

EVIL = "http://evil.example"
RUN = b'{"state": {"type": "SCHEDULED"}}'


@pytest.fixture(scope="module")
def open_stack(tmp_path_factory: pytest.TempPathFactory, new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """A stack with AUTH=off, and an API_HOST that is the loopback without being 127.0.0.1."""
    running = new_stack(
        tmp_path_factory.mktemp("open") / "state", AUTH="off", API_HOST="127.0.0.2", SENSOR_HOST="127.0.0.3"
    )
    running.api.base_url = f"http://127.0.0.2:{running.api_port}/api"
    yield running.start()
    running.stop()


def page_asks(stack: Stack, path: str, **headers: str) -> httpx.Response:
    """POST to the API as a page of another site can without asking first: with no type, and the kept credentials."""
    user, _, password = CREDENTIALS.partition(":")
    url = f"{stack.api.base_url}{path}"
    return httpx.post(url, content=RUN, headers=headers, auth=(user, password), timeout=30, trust_env=False)


def run_path(stack: Stack) -> str:
    return f"deployments/{stack.deployment()['id']}/create_flow_run"


def socket_answer(stack: Stack, path: str, origin: str | None, host: str | None = None) -> int:
    """Return the status that a websocket gets: 101, or that of the rejection."""
    at = stack.api.base_url
    url = f"ws://{host or at.netloc.decode()}/api/{path}"

    async def connect() -> int:
        try:
            asked = websockets.connect(url, origin=origin, subprotocols=["prefect"], host=at.host, port=at.port)
            async with asked:
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    return asyncio.run(connect())


def test_with_auth_off_a_page_under_a_foreign_name_reads_and_changes_nothing(open_stack: Stack):
    host = f"evil.example:{open_stack.api_port}"
    for path in ("flow_runs/filter", run_path(open_stack)):
        assert page_asks(open_stack, path, Host=host).status_code == 421
        assert page_asks(open_stack, path, Host=host, Origin=f"http://{host}").status_code == 421
    read = httpx.get(f"{open_stack.api.base_url}admin/version", headers={"Host": host}, trust_env=False)
    assert read.status_code == 421
    page = httpx.get(f"http://127.0.0.2:{open_stack.api_port}/", headers={"Host": host}, trust_env=False)
    assert page.status_code == 421
    assert socket_answer(open_stack, "events/in", None, host) == 403


@pytest.mark.parametrize("stack_name", ["open_stack", "stack"])
@pytest.mark.parametrize(
    "headers", [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_a_page_of_another_origin_starts_no_run(
    request: pytest.FixtureRequest, stack_name: str, headers: dict[str, str]
):
    stack: Stack = request.getfixturevalue(stack_name)
    before = len(runs_of(stack))
    assert page_asks(stack, run_path(stack), **headers).status_code == 403
    assert len(runs_of(stack)) == before


def runs_of(stack: Stack) -> list[Any]:
    return stack.api.post("/flow_runs/filter", json={"flow_runs": {"tags": {}}}).raise_for_status().json()


@pytest.mark.parametrize("stack_name", ["open_stack", "stack"])
def test_a_page_of_another_origin_is_not_allowed_to_read_answers_and_prefects_own_page_is(
    request: pytest.FixtureRequest, stack_name: str
):
    stack: Stack = request.getfixturevalue(stack_name)
    own = f"http://localhost:{stack.api_port}"
    for origin, allowed in ((EVIL, None), (own, own)):
        answer = stack.api.post("/flow_runs/filter", json={"limit": 1}, headers={"Origin": own})
        assert answer.status_code == 200
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = stack.api.options("/flow_runs/filter", headers=asked)
        assert answer.headers.get("access-control-allow-origin") == allowed


@pytest.mark.parametrize("stack_name", ["open_stack", "stack"])
@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled"])
def test_a_page_of_another_origin_opens_no_websocket_and_prefects_own_page_does(
    request: pytest.FixtureRequest, stack_name: str, path: str
):
    stack: Stack = request.getfixturevalue(stack_name)
    own = str(stack.api.base_url).removesuffix("/api/")
    assert socket_answer(stack, path, EVIL) == 403
    assert socket_answer(stack, path, own) == 101
    assert socket_answer(stack, path, None) == 101


def test_a_concrete_host_gets_healthy_and_a_file_becomes_rows_there(open_stack: Stack):
    assert open_stack.status()["healthy"] is True
    open_stack.drop("concrete.csv", "date,region,orders,revenue\n2026-01-05,north,1,2.5\n")
    open_stack.books_when(lambda books: books["loaded"] == 1, "the file is loaded", 90)
    with httpx.Client(base_url=f"http://127.0.0.3:{open_stack.sensor_port}", trust_env=False) as page:
        assert page.get("/").status_code == 200
        assert page.get("/", headers={"Host": "evil.example"}).status_code == 421
    for port in (open_stack.api_port, open_stack.sensor_port):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)


def guesses(stack: Stack, seconds: float) -> list[int]:
    """Guess over the API for some seconds, as fast as one connection can; return the statuses."""
    found: list[int] = []
    until = time.monotonic() + seconds
    with httpx.Client(base_url=stack.api.base_url, trust_env=False) as client:
        while time.monotonic() < until:
            found.append(client.get("/admin/version", auth=("admin", f"guess-{len(found)}")).status_code)
    return found


def test_guesses_of_the_password_are_limited_and_recorded_and_files_are_loaded_all_the_same(stack: Stack):
    found = guesses(stack, 6)
    assert set(found) == {401, 429}
    assert found.count(401) <= 10 + 6 / 2 + 1
    assert stack.api.get("/admin/version").status_code == 200  # a process of the service's own user
    before = stack.books()["loaded"]
    stack.drop("meanwhile.csv", "date,region,orders,revenue\n2026-01-05,north,1,2.5\n")
    guesses(stack, 3)
    stack.books_when(lambda books: books["loaded"] == before + 1, "the file is loaded", 90)
    lines = [json.loads(line) for line in (stack.state_dir / "logs" / "audit.log").read_text().splitlines()]
    failed = [one for one in lines if one["action"] == "log in failed"]
    assert {(one["user"], one["address"], one["service"]) for one in failed} == {("admin", "127.0.0.1", "api")}
    assert any(one["action"] == "log ins limited" for one in lines)
    assert "guess-" not in (stack.state_dir / "logs" / "audit.log").read_text()


def test_guesses_over_a_websocket_are_limited_as_well(stack: Stack):
    url = f"{stack.api.base_url}events/in".replace("http://", "ws://")

    async def guess(password: str) -> None:
        async with websockets.connect(url, subprotocols=["prefect"]) as opened:
            await opened.send(json.dumps({"type": "auth", "token": f"admin:{password}"}))
            with suppress(websockets.ConnectionClosed):
                await opened.recv()
                raise AssertionError("a guess was accepted")

    before = audit(stack).count('"log in failed"')
    for number in range(40):
        asyncio.run(guess(f"ws-guess-{number}"))
    assert audit(stack).count('"log in failed"') - before < 30
    assert "ws-guess" not in audit(stack)


def audit(stack: Stack) -> str:
    return (stack.state_dir / "logs" / "audit.log").read_text()


def test_a_run_that_is_started_by_hand_is_recorded_with_its_user(stack: Stack):
    deployment = stack.deployment()["id"]
    stack.api.post(f"/deployments/{deployment}/create_flow_run", json={"state": {"type": "SCHEDULED"}})
    runs = [json.loads(line) for line in audit(stack).splitlines() if '"action": "run"' in line]
    assert (runs[-1]["user"], runs[-1]["deployment"]) == ("admin", deployment)


def test_the_file_of_each_stack_names_its_deployment(open_stack: Stack):
    assert open_stack.api.get(f"/deployments/name/{FLOW}/{DEPLOYMENT}").status_code == 200
    assert Path(open_stack.state_dir / "logs").is_dir()
