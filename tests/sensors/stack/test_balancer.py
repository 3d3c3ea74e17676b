"""One address for several API servers: a real HAProxy before real HTTP servers."""

import os
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from sensors.config.settings import Settings
from sensors.stack import balancer
from sensors.stack.preflight import taken_by
from tests.free_ports import free_ports, free_ports_in_a_row
from tests.journeys.stack import ROOT, wait_until
from tests.web import Answer, serving

pytestmark = pytest.mark.skipif(balancer.program() is None and not os.environ.get("CI"), reason="apt install haproxy")
SHARED = {"PROFILE": "scale", "DATABASE_URL": "postgresql://db/prefect", "REDIS_URL": "redis://cache"}


@contextmanager
def server(port, name):
    """Run a server on this port whose every answer is its name."""
    with serving(port) as one:
        one.answers = {path: Answer(name.encode()) for path in ("/api/health", "/api/who")}
        yield


def who(port):
    """Return the name of the server that answers; None when none does."""
    answer = httpx.get(f"http://127.0.0.1:{port}/api/who", timeout=5, trust_env=False)
    return answer.text if answer.is_success else None


@pytest.fixture
def settings(tmp_path):
    first = free_ports_in_a_row(2)
    (front,) = free_ports(1)
    given = {"api_port": front, "api_server_port": first, "state_dir": tmp_path}
    settings = Settings(**given, profile="scale", database_url="postgresql://db/x", redis_url="redis://cache")
    settings.prefect_home.mkdir()
    return settings


@pytest.fixture
def front(settings):
    """The port of a balancer before two servers that are not there yet."""
    own = {name: str(getattr(settings, name)) for name in ("api_port", "api_server_port", "state_dir")}
    given = {name.upper(): value for name, value in own.items()}
    environment = {**os.environ, **given, **SHARED, "ENV_FILE": os.devnull}
    process = subprocess.Popen([sys.executable, "-m", "sensors.stack.balancer"], env=environment, cwd=ROOT)
    wait_until(lambda: taken_by(settings.api_port), "the balancer listens")
    yield settings.api_port
    process.terminate()
    process.wait(timeout=20)


def test_the_servers_take_turns_and_the_death_of_one_is_not_noticed(settings, front):
    first, second = settings.api_server_ports
    with server(first, "first"):
        with server(second, "second"):
            wait_until(lambda: {who(front) for _ in range(4)} == {"first", "second"}, "both answer")
        # At once, before the balancer has found out: what cannot be handed to one is handed to the other.
        assert {who(front) for _ in range(20)} == {"first"}


def test_a_server_that_comes_back_is_used_again(settings, front):
    first, second = settings.api_server_ports
    with server(first, "first"):
        wait_until(lambda: who(front) == "first", "the first answers")
        with server(second, "second"):
            wait_until(lambda: who(front) == "second", "the second answers as well")


def test_without_any_server_the_balancer_says_so(front):
    wait_until(lambda: httpx.get(f"http://127.0.0.1:{front}/api/health", trust_env=False).status_code == 503, "503")


def test_an_address_of_ipv6_is_put_in_brackets(settings):
    assert "bind [::1]:" in balancer.configuration(settings.model_copy(update={"api_host": "::1"}))
