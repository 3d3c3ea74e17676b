"""The warm server's socket, its restart, and the real one with Prefect in it."""

import ast
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.forkserver.preload import project_modules
from sensors.config.settings import Settings
from sensors.stack.health import Health, check
from sensors.stack.services import Service, warm_socket
from tests.warm import ROOT, warm_server


def test_the_socket_belongs_to_our_user_alone(tmp_path):
    with warm_server(tmp_path / "warm") as server:
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


def test_a_state_folder_with_a_path_too_long_for_a_socket_is_no_trouble(tmp_path):
    folder = tmp_path / ("long" * 30) / ("longer" * 20)
    folder.mkdir(parents=True)
    with warm_server(tmp_path / "warm", folder / "warm.sock") as server:
        assert server.run("pass")[0] == "warm\n"


def test_a_server_takes_the_place_of_one_that_was_killed(tmp_path):
    with warm_server(tmp_path / "first", tmp_path / "warm.sock") as first:
        first.process.kill()
        first.process.wait()
        with warm_server(tmp_path / "second", tmp_path / "warm.sock") as second:
            assert second.run("pass")[0] == "warm\n"


def test_the_server_starts_again_when_the_packages_have_changed_and_the_run_goes_the_ordinary_way(tmp_path):
    with warm_server(tmp_path / "warm") as server:
        (server.folder / "new-1.0.dist-info").mkdir()
        assert server.run("pass")[::2] == ("ordinary\n", 0)
        assert server.process.wait(timeout=10) == 7  # what its `changed` does


def test_the_server_costs_nothing_while_it_waits(tmp_path):
    with warm_server(tmp_path / "warm") as server:
        fields = Path(f"/proc/{server.process.pid}/stat")
        before = fields.read_text().split()[13:15]
        time.sleep(1)
        assert fields.read_text().split()[13:15] == before
        assert fields.read_text().split()[2] == "S"


def test_the_client_reads_next_to_nothing_of_the_standard_library():
    counting = "import sys; exec(open(sys.argv[1]).read(), {'__name__': 'client'}); print(*sys.modules)"
    client = ROOT / "flows/forkserver/client.py"
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", counting, str(client)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"site", "typing", "json", "pathlib", "subprocess", "asyncio"}.isdisjoint(said)


@pytest.fixture(scope="module")
def preloaded():
    """What is in a process after preloading."""
    script = (
        "import json, sys; from pathlib import Path; from flows.forkserver import preload as p;"
        "fds = p.open_descriptors(); p.preload();"
        "print(json.dumps([p.unsafe_to_fork(fds), p.project_modules(Path.cwd(), 'flows.forkserver'), "
        "list(sys.modules)]), flush=True); __import__('os')._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_is_preloaded_can_be_forked_and_is_nothing_of_the_projects(preloaded):
    unsafe, own, _ = preloaded
    assert (unsafe, own) == ([], [])


def test_all_that_the_flows_import_from_others_is_preloaded(preloaded):
    *_, loaded = preloaded
    wanted: set[str] = set()
    for file in [one for one in (ROOT / "flows").rglob("*.py") if "forkserver" not in one.parts]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.add(node.module)
    ours_or_pythons = {"flows", "compression", *sys.stdlib_module_names}  # compression.zstd: from Python 3.14 on
    theirs = {name for name in wanted if name.partition(".")[0] not in ours_or_pythons}
    assert theirs - set(loaded) == set()


def test_a_module_of_the_project_in_the_server_is_named():
    assert "tests.warm" in project_modules(ROOT, "flows.forkserver")
    assert not [name for name in project_modules(ROOT, "flows.forkserver") if name.startswith("flows.forkserver")]


def test_the_real_server_is_healthy_as_long_as_it_lives(tmp_path):
    settings = Settings(state_dir=tmp_path)
    assert check(settings, Service.WARM) == Health(healthy=False, detail="not running")
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.forkserver.server"],
        env={**os.environ, "WARM_SOCKET": str(warm_socket(settings))},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert "warm after" in server.stdout.readline()
            assert check(settings, Service.WARM) == Health(healthy=True)
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=10) == -signal.SIGTERM
        finally:
            server.kill()
    assert check(settings, Service.WARM) == Health(healthy=False, detail="not running")


def test_a_server_without_a_socket_to_make_says_what_is_missing():
    environment = {name: value for name, value in os.environ.items() if name != "WARM_SOCKET"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.forkserver.server"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "WARM_SOCKET: expected the path of the socket to make, got none" in done.stderr


def test_a_library_that_starts_a_thread_is_refused_by_what_it_has_started(tmp_path):
    (tmp_path / "ijson.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='greedy', daemon=True).start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WARM_SOCKET": str(tmp_path / "warm.sock")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.forkserver.server"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "got the thread greedy. Take the library that brought it out of flows/forkserver/preload.py" in done.stderr
    assert not (tmp_path / "warm.sock").exists()
