"""Nobody is left behind, and nothing is run twice, whoever is killed and whenever."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.forkserver import client as warm_client
from tests.warm import WarmServer, warm_server

FOREVER = "print(os.getpid(), flush=True); time.sleep(60)"
MARK = "open('ran', 'a').write('x')"


@pytest.fixture
def server(tmp_path):
    with warm_server(tmp_path / "warm") as running:
        yield running


def wait_until(look, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def times_run(server: WarmServer) -> int:
    ran = server.folder / "ran"
    return len(ran.read_text()) if ran.exists() else 0


def test_the_flow_ends_when_its_client_is_killed(server):
    with server.start(FOREVER) as client:
        flow = int(client.stdout.readline())
        keeper = psutil.Process(flow).ppid()
        client.kill()
        wait_until(lambda: is_gone(flow) and is_gone(keeper))


def test_the_flow_and_its_client_end_when_the_keeper_is_killed(server):
    with server.start(FOREVER) as client:
        flow = int(client.stdout.readline())
        psutil.Process(flow).parent().kill()
        assert client.wait(timeout=10) == -signal.SIGKILL
        wait_until(lambda: is_gone(flow))


def test_the_client_ends_when_the_flow_is_killed(server):
    with server.start(FOREVER) as client:
        psutil.Process(int(client.stdout.readline())).kill()
        assert client.wait(timeout=10) == -signal.SIGKILL


def test_the_keeper_is_not_asked_to_end_by_what_ends_a_flow(server):
    with server.start("time.sleep(0.5); sys.exit(5)") as client:
        flow = wait_until(lambda: psutil.Process(server.process.pid).children(recursive=True)[1:])[0]
        flow.parent().terminate()
        assert client.wait(timeout=10) == 5


def test_a_run_goes_on_and_its_status_comes_when_the_server_is_killed(server):
    with server.start("time.sleep(0.5); " + MARK + "; sys.exit(6)") as client:
        server.process.kill()
        server.process.wait()
        assert client.wait(timeout=10) == 6
    assert times_run(server) == 1
    output, errors, _ = server.run(MARK)
    assert output == "ordinary\n"
    assert "No warm start" in errors
    assert times_run(server) == 2


def test_a_keeper_leaves_no_zombie(server):
    server.run("pass")
    wait_until(lambda: not psutil.Process(server.process.pid).children())


def test_nothing_is_run_for_a_client_that_goes_away_before_it_has_said_go(server, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", server.environment["PYTHONPATH"])
    monkeypatch.setenv("JOB", MARK)
    monkeypatch.chdir(server.folder)
    connection = warm_client.ask(str(server.socket))
    keeper = wait_until(lambda: psutil.Process(server.process.pid).children())[0]
    connection.close()
    wait_until(lambda: is_gone(keeper.pid))
    assert times_run(server) == 0


def test_a_server_that_hangs_is_not_waited_for_and_runs_nothing_later(server):
    server.process.send_signal(signal.SIGSTOP)
    try:
        output, errors, status = server.run(MARK)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert (output, status) == ("ordinary\n", 0)
    assert "timed out" in errors
    # It takes up the old request now, finds its client gone, and is of use to the next.
    assert server.run(MARK)[0] == "warm\n"
    assert times_run(server) == 2


def test_a_run_of_another_beginning_is_refused_with_the_reason_and_runs_the_ordinary_way(server):
    output, errors, _ = server.run(MARK, PYTHONHASHSEED="1")
    assert output == "ordinary\n"
    assert "the warm server was started with another PYTHONHASHSEED" in errors
    assert times_run(server) == 1


def answering(path: Path, *steps: Callable[[socket.socket], object]) -> threading.Thread:
    """Be a server that takes one client, does the steps and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        with listener, listener.accept()[0] as connection:
            for step in steps:
                step(connection)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def greet(connection: socket.socket) -> None:
    connection.sendall(warm_client.GREETING)


def take_request(connection: socket.socket) -> None:
    size = int.from_bytes(connection.recv(4), "big")
    while size:
        size -= len(connection.recv(size))


def agree(connection: socket.socket) -> None:
    connection.sendall(warm_client.READY)


def take_go(connection: socket.socket) -> None:
    assert connection.recv(1) == warm_client.GO


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (lambda connection: connection.sendall(b"warm 999\n"),),
        (greet,),
        (greet, take_request),
        (greet, take_request, lambda connection: connection.sendall(b"no")),
    ],
    ids=["hangs up", "another version", "hangs up after the greeting", "hangs up after the request", "refuses"],
)
def test_until_it_has_said_go_the_client_turns_to_the_ordinary_way(server, tmp_path, steps):
    thread = answering(tmp_path / "other.sock", *steps)
    output, errors, status = server.run(MARK, WARM_SOCKET=str(tmp_path / "other.sock"))
    thread.join()
    assert (output, status) == ("ordinary\n", 0), errors
    assert times_run(server) == 1


def test_once_it_has_said_go_the_client_never_turns_to_the_ordinary_way(server, tmp_path):
    thread = answering(tmp_path / "other.sock", greet, take_request, agree, take_go)
    output, _, status = server.run(MARK, WARM_SOCKET=str(tmp_path / "other.sock"))
    thread.join()
    assert (output, status) == ("", -signal.SIGKILL)
    assert times_run(server) == 0
