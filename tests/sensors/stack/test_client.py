"""Commands that need a server, without one."""

import os
import subprocess
import sys

import pytest

from sensors.config.settings import PROJECT_ROOT
from sensors.stack.server import needs_server
from tests.free_ports import free_ports


def client(tmp_path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sensors", "client", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "STATE_DIR": str(tmp_path / "state"), "ENV_FILE": str(tmp_path / ".env"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [("prefect", "--no-prompt", "deploy", "--all"), ("prefect", "flow-run", "ls"), ("automations", "apply")]
)
def test_without_a_server_there_is_one_line_that_says_what_to_do(tmp_path, command):
    (port,) = free_ports(1)
    (tmp_path / "state").mkdir()
    done = client(tmp_path, *command, API_PORT=str(port))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"http://127.0.0.1:{port}/api: no Prefect server answers")
    assert line.endswith("; start it with `just up`, or set API_PORT")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("deployment run x/y --param a=--help", True),
        ("work-pool ls", True),
        ("deploy --help", False),
        ("--version", False),
        ("version", False),
        ("config view", False),
        ("", False),
    ],
)
def test_what_needs_no_server_is_run_without_one(command, needs):
    assert needs_server(command.split()) is needs


@pytest.mark.parametrize("module", ["sensors.stack.up", "sensors.stack.server", "sensors.stack.status"])
def test_a_command_does_not_import_what_takes_long_and_only_others_need(module):
    heavy = ("sqlalchemy", "redis", "psycopg", "prefect", "fastapi", "duckdb", "apprise")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
