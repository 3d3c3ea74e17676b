"""Finding and ending every process of a stack, wherever it went."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from sensors.stack.processes import MARK, end, is_flow_run, marked_processes, sweep

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time;"
    f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True).pid, flush=True);"
    "time.sleep(600)"
)


@pytest.fixture
def start(tmp_path):
    started = []

    def start_one(code, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, MARK: str(tmp_path), **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        # Until the exec the process has its parent's environment.
        deadline = time.monotonic() + 5
        while MARK not in psutil.Process(process.pid).environ() and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_is_found_by_its_mark_also_after_its_parent_was_killed(start, tmp_path):
    parent = start(PARENT)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert [process.pid for process in marked_processes(tmp_path)] == [child]
    assert sweep(tmp_path, 1)[0].pid == child
    assert not marked_processes(tmp_path)


def test_the_processes_of_another_stack_are_left_alone(start, tmp_path):
    other = start(SLEEP, **{MARK: str(tmp_path / "other")})
    assert sweep(tmp_path, 1) == []
    assert other.poll() is None


def test_we_do_not_end_ourselves(monkeypatch, start, tmp_path):
    monkeypatch.setenv(MARK, str(tmp_path))
    code = (
        "from pathlib import Path; import sys; from sensors.stack.processes import sweep;"
        "sweep(Path(sys.argv[1]), 1); print('alive')"
    )
    reported = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert reported.stdout == "alive\n"


def test_a_process_that_ignores_the_request_is_killed_after_the_grace(start):
    process = start(STUBBORN)
    process.stdout.readline()
    end([psutil.Process(process.pid)], grace_seconds=0.2)
    assert not psutil.pid_exists(process.pid)


def test_a_flow_run_is_distinguished_from_a_service(start):
    run, service = start(SLEEP, PREFECT__FLOW_RUN_ID="1"), start(SLEEP)
    assert is_flow_run(psutil.Process(run.pid))
    assert not is_flow_run(psutil.Process(service.pid))
