"""The tunnels that the documentation names: a real ssh client, a real SSH server, and a page behind it."""

import shlex
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.deploy_files import program
from tests.documentation import Command
from tests.documented_commands import TUNNEL, shown_by
from tests.free_ports import free_ports
from tests.journeys.stack import wait_until
from tests.served_page import AUTH, page_settings, served_page
from tests.sftp_server import USER, SftpServer, sftp_server


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):
    with served_page(page_settings(tmp_path_factory.mktemp("page") / "data")) as page:
        yield page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with sftp_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


def configuration(folder: Path, server: SftpServer) -> Path:
    """Write what tells ssh who `host` is, and nothing of this machine's own."""
    known = {
        "HostName": "127.0.0.1",
        "Port": server.port,
        "User": USER,
        "IdentityFile": server.client_key,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": server.known_hosts,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
    }
    (folder / "config").write_text("Host host\n" + "".join(f"  {name} {value}\n" for name, value in known.items()))
    return folder / "config"


@pytest.mark.parametrize("command", shown_by(TUNNEL), ids=str)
def test_through_the_tunnel_the_page_answers_under_the_names_of_the_loopback(page, server, tmp_path, command: Command):
    (ours,) = free_ports(1)
    ssh, *given = command.words
    ends = given[1].split(":")
    typed = [given[0], f"{ours}:{ends[1]}:{page.port}", *given[2:]]
    options = ["-N", "-F", str(configuration(tmp_path, server))]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([program(ssh, "openssh-client"), *options, *typed], stdout=log, stderr=log)

    def asked(name: str, auth: tuple[str, str] | None = AUTH) -> int | None:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return httpx.get(f"http://{name}:{ours}/", auth=auth, trust_env=False).status_code
        except httpx.TransportError:
            return None

    try:
        wait_until(lambda: asked("127.0.0.1") == 200, f"`{shlex.join(command.words)}` leads to the page", 20)
        assert asked("localhost") == 200
        assert asked("127.0.0.1", None) == 401
    finally:
        process.terminate()
        process.wait(timeout=10)
