"""Prefect's client in the environment of our commands, and an API over http and, behind a real Caddy, over https."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sensors.config.settings import Settings
from sensors.stack.environment import EMPTY_CA, client_environment
from tests.deploy_files import program
from tests.free_ports import free_ports
from tests.journeys.stack import wait_until
from tests.proxies import CADDYFILE
from tests.receiver import Receiver, receiving

ASK = """\
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(client.api_url, repr(client.api_healthcheck()))
"""
REFUSED = "CERTIFICATE_VERIFY_FAILED"


@pytest.fixture(scope="module")
def api() -> Iterator[Receiver]:
    with receiving() as server:
        server.pages["/api/health"] = ("application/json", b"true")
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Path:
    """The certificate of the proxy's own authority, which no system trusts."""
    return folder / "store" / "pki" / "authorities" / "local" / "root.crt"


@pytest.fixture(scope="module")
def tls_url(folder: Path, authority: Path, api: Receiver) -> Iterator[str]:
    """The URL of the API behind a proxy that speaks https alone."""
    (port,) = free_ports(1)
    url = f"https://localhost:{port}/api"
    snippet = f"localhost {{\n    reverse_proxy 127.0.0.1:{api.port}\n}}\n"
    (folder / "Caddyfile").write_text(CADDYFILE.format(port=port, folder=folder, snippet=snippet))
    command = [program("caddy", "caddy"), "run", "--config", str(folder / "Caddyfile")]
    with (folder / "log").open("wb") as log:
        caddy = subprocess.Popen(command, cwd=folder, env={"HOME": str(folder)}, stdout=log, stderr=log)

    def answers() -> bool:
        assert caddy.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(
                f"{url}/health", verify=ssl.create_default_context(cafile=authority), trust_env=False
            ).is_success
        except (OSError, httpx.TransportError):
            return False

    try:
        wait_until(answers, "Caddy passes on to the API", 20)
        yield url
    finally:
        caddy.terminate()
        caddy.wait(timeout=20)


def elsewhere(folder: Path, url: str) -> Settings:
    """Return the settings of a machine that uses the API of another."""
    given = {"profile": "scale", "api_servers": 0, "service_processes": 0}
    return Settings(state_dir=folder / "data", prefect_api_url=url, **given)


def asked(settings: Settings, **around: str) -> str:
    """Return what a Prefect client says of the API in the environment that a command of ours gets."""
    environment = client_environment(settings, {"PREFECT_CLIENT_MAX_RETRIES": "0", **around})
    settings.prefect_home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=settings.prefect_home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE"])
def test_an_api_over_https_is_reached_when_the_environment_names_its_authority(
    folder: Path, tls_url: str, authority: Path, variable: str
):
    assert asked(elsewhere(folder, tls_url), **{variable: str(authority)}).split() == [f"{tls_url}/", "None"]


def test_an_api_over_https_is_refused_when_nothing_names_its_authority(folder: Path, tls_url: str):
    assert REFUSED in asked(elsewhere(folder, tls_url))


def test_an_api_over_http_is_reached_without_any_certificates(folder: Path, api: Receiver):
    settings = elsewhere(folder, f"http://127.0.0.1:{api.port}/api")
    assert client_environment(settings, {})["PREFECT_API_SSL_CERT_FILE"] == str(EMPTY_CA)
    assert asked(settings).split() == [f"{settings.api_url}/", "None"]


def test_the_certificate_of_an_api_over_http_makes_no_server_trusted(folder: Path, tls_url: str):
    assert REFUSED in asked(elsewhere(folder, tls_url), PREFECT_API_SSL_CERT_FILE=str(EMPTY_CA))
