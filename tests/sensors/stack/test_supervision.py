"""supervisord, really run, with programs of a few lines instead of the services."""

import os
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from sensors.config.settings import Settings
from sensors.stack.environment import SERVER_SECRETS, stack_environment
from sensors.stack.services import Program, Service
from sensors.stack.supervisor import Incident, Supervisor, configuration


def wait_until(look, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def settings(tmp_path):
    # A folder whose name is syntax in supervisord's configuration, and too long for a Unix socket.
    settings = Settings(state_dir=tmp_path / "it's 100 %d; #odd" / ("long" * 30))
    settings.logs_dir.mkdir(parents=True)
    return settings


@pytest.fixture
def incidents():
    return []


@pytest.fixture
def supervisor(settings, incidents):
    folder = settings.logs_dir
    (folder / "lasting.py").write_text("import os, time; print(os.getcwd(), flush=True); time.sleep(600)")
    (folder / "failing.py").write_text("raise SystemExit('broken on purpose')")
    programs = [
        Program(Service.SENSOR, ("lasting",), folder),
        Program(Service.WORKER, ("failing",), folder),
    ]
    with Supervisor(settings, programs, stack_environment(settings, os.environ), incidents.append) as supervisor:
        supervisor.wait_until_it_answers()
        yield supervisor


def pid_in(log: Path):
    """Return the process that writes a log: it says so in supervisord's own."""
    spawned = [line for line in log.read_text().splitlines() if "spawned: 'sensor'" in line]
    return int(spawned[-1].rsplit(" ", 1)[1]) if spawned else None


def test_a_service_runs_in_its_folder_and_its_output_is_kept(supervisor, settings):
    supervisor.start(Service.SENSOR)
    log = settings.logs_dir / "sensor.log"
    wait_until(lambda: log.exists() and str(settings.logs_dir) in log.read_text())
    assert supervisor.is_running(Service.SENSOR)


def test_a_service_that_is_killed_is_started_again_and_that_is_reported(supervisor, settings, incidents):
    supervisor.start(Service.SENSOR)
    log = settings.logs_dir / "supervisor.log"
    first = wait_until(lambda: pid_in(log))
    psutil.Process(first).kill()
    second = wait_until(lambda: pid_in(log) not in {None, first} and pid_in(log))
    wait_until(lambda: incidents)
    assert psutil.pid_exists(second)
    assert incidents == [Incident(Service.SENSOR, "sensor stopped (killed by SIGKILL); restarted, 1 of 5")]


def test_a_service_that_is_asked_to_stop_stays_stopped(supervisor, incidents):
    supervisor.start(Service.SENSOR)
    supervisor.ask_to_stop(Service.SENSOR)
    wait_until(lambda: not supervisor.is_running(Service.SENSOR))
    assert incidents == []


def test_a_service_that_dies_at_once_is_not_an_error_of_starting_it(supervisor, settings):
    supervisor.start(Service.WORKER)
    wait_until(lambda: "broken on purpose" in (settings.logs_dir / "worker.log").read_text())
    assert supervisor.given_up(Service.WORKER) is None


def test_closing_ends_the_services_and_leaves_nothing_behind(supervisor, settings):
    supervisor.start(Service.SENSOR)
    pid = wait_until(lambda: pid_in(settings.logs_dir / "supervisor.log"))
    supervisor.close()
    assert not psutil.pid_exists(pid)
    assert not supervisor.alive


def test_a_service_ends_when_supervisord_is_killed(supervisor, settings):
    supervisor.start(Service.SENSOR)
    log = settings.logs_dir / "sensor.log"
    wait_until(lambda: log.exists() and log.read_text())  # it runs, so it is tied
    service = psutil.Process(wait_until(lambda: pid_in(settings.logs_dir / "supervisor.log")))
    service.parent().kill()
    wait_until(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE)
    assert supervisor.death == "killed by SIGKILL"


def test_the_configuration_stops_the_services_in_the_reverse_order_of_starting():
    services = (Service.SERVER, Service.WORKER, Service.SENSOR)
    written = configuration([Program(service, ("x",), Path("/")) for service in services])
    assert written.index("priority=0") < written.index("[program:worker]") < written.index("priority=1")


def test_no_secret_of_the_environment_is_written_to_the_configuration(monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:mine")
    assert "mine" not in configuration([Program(Service.SENSOR, ("x",), Path("/"))])


def test_what_runs_flows_gets_no_password_of_prefects_database(tmp_path, monkeypatch):
    for name in SERVER_SECRETS:
        monkeypatch.setenv(name, "secret")
    got = {}
    for service in (Service.WORKER, Service.WARM, Service.SENSOR):
        written = configuration([Program(service, ("x",), tmp_path)])
        (command,) = re.findall(r"^command=(.*) -m sensors\.stack\.die_with_parent x$", written, re.MULTILINE)
        reported = subprocess.check_output([*command.split(), "-c", "import os; print(*os.environ)"], text=True)
        got[service] = set(SERVER_SECRETS) & set(reported.split())
    assert got == {Service.WORKER: set(), Service.WARM: set(), Service.SENSOR: set(SERVER_SECRETS)}


def test_each_program_of_a_service_has_its_own_name_and_log():
    written = configuration([Program(Service.WORKER, ("x",), Path("/"), number) for number in (1, 2)])
    assert "[program:worker-1]" in written
    assert "stdout_logfile=worker-2.log" in written
