"""What a flow run's process is like that was forked from the warm server: as if Python had been started for it."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.warm import WarmServer, reported, warm_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with warm_server(tmp_path_factory.mktemp("warm") / "it's a folder") as running:
        yield running


def ask(server: WarmServer, expression: str, **variables: str):
    output, errors, status = server.run(f"import json; print(json.dumps({expression}))", **variables)
    assert (errors, status) == ("", 0)
    return reported(output)


def test_it_has_the_clients_environment_and_nothing_of_the_servers(server):
    assert ask(server, "os.environ.get('MINE')", MINE="yes") == "yes"
    assert ask(server, "os.environ.get('MINE')") is None


def test_an_environment_that_is_not_text_arrives_as_it_is(server):
    assert ask(server, "list(os.environb[b'ODD'])", ODD=os.fsdecode(b"\xff\n=")) == [255, 10, 61]


def test_it_works_in_the_clients_folder_and_finds_modules_there(server):
    (server.folder / "beside.py").write_text("here = True")
    expression = "[os.getcwd(), sys.path[0], __import__('beside').here]"
    assert ask(server, expression) == [str(server.folder), str(server.folder), True]


def test_it_has_the_clients_umask(server):
    before = os.umask(0o037)
    try:
        assert ask(server, "os.umask(0)") == 0o037
    finally:
        os.umask(before)


def test_it_is_the_main_module_and_knows_nothing_of_the_servers_package(server):
    expression = "[__name__, __spec__.name, sys.argv, [m for m in sys.modules if m.startswith('flows')]]"
    assert ask(server, expression) == ["__main__", "prefect.engine", [str(server.folder / "prefect/engine.py")], []]


def test_a_module_that_was_edited_is_used_by_the_next_run(server):
    module = server.folder / "edited.py"
    for version in (1, 22):
        module.write_text(f"version = {version}")
        assert ask(server, "__import__('edited').version") == version


def test_two_runs_draw_different_random_numbers(server):
    draw = "__import__('random').random()"
    assert ask(server, draw) != ask(server, draw)


def test_its_descriptors_are_the_three_streams(server):
    listing = "sorted(fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd))"
    assert ask(server, listing) == ["0", "1", "2"]


def test_it_leads_a_session_of_its_own_and_signals_do_what_they_do_in_a_new_process(server):
    expression = "[os.getsid(0) == os.getpid(), *[int(signal.getsignal(n) == signal.SIG_DFL) for n in (15, 1, 17)]]"
    assert ask(server, f"(signal := __import__('signal')) and {expression}") == [True, 1, 1, 1]


@pytest.mark.parametrize(
    ("job", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('broken on purpose')", 1, "broken on purpose\n"),
        ("os._exit(4)", 4, ""),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV, ""),
    ],
)
def test_the_client_ends_as_it_has_ended(server, job, status, said):
    assert server.run(job) == ("warm\n", said, status)


def test_an_exception_is_printed_and_its_status_is_1(server):
    _, errors, status = server.run("1/0")
    assert "ZeroDivisionError" in errors
    assert status == 1


def test_an_interrupt_ends_it_by_its_signal(server):
    _, errors, status = server.run("raise KeyboardInterrupt")
    assert "KeyboardInterrupt" in errors
    assert status == -signal.SIGINT


def test_exit_functions_run_and_threads_are_waited_for(server):
    job = (
        "import atexit, threading; atexit.register(print, 'last');"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start(); print('main')"
    )
    assert server.run(job) == ("warm\nmain\nthread\nlast\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_client_reaches_it_once(server, number):
    job = (
        f"import signal; got = []; signal.signal({number:d}, lambda *_: got.append(1)); print('ready', flush=True)\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.2); sys.exit(40 + len(got))"
    )
    with server.start(job) as client:
        assert client.stdout.readline() == "ready\n"
        client.send_signal(number)
        assert client.wait(timeout=10) == 41


def test_a_client_whose_flow_does_not_catch_the_signal_ends_by_it(server):
    with server.start("time.sleep(60)") as client:
        client.terminate()
        assert client.wait(timeout=10) == -signal.SIGTERM


def test_twenty_at_once_are_all_warm_and_end_each_in_its_own_way(server):
    began = time.monotonic()
    clients = [server.start(f"time.sleep(0.5); sys.exit({n})") for n in range(20)]
    assert [client.wait(timeout=30) for client in clients] == list(range(20))
    assert time.monotonic() - began < 15
    for client in clients:
        client.communicate()


def test_the_ordinary_way_and_the_warm_way_look_the_same_to_a_flow(server):
    expression = "[sys.argv, sys.path, sys.flags.safe_path, __spec__.name, os.getcwd(), sys.stdout.line_buffering]"
    job = f"import json; print(json.dumps({expression}))"
    warm, _, _ = server.run(job)
    ordinary, _, _ = server.run(job, WARM_SOCKET="")
    assert ordinary.partition("\n")[::2] == ("ordinary", warm.partition("\n")[2])
    assert Path(server.folder).exists()
