"""What healthy means, asked of a real HTTP server that answers like the services."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sensors.config.settings import Settings
from sensors.stack.health import Health, check, troubles_of_stores
from sensors.stack.processes import MARK
from sensors.stack.services import Service, worker_names


@pytest.fixture
def answers():
    """Maps a path to the status and the document that the server answers with."""
    return {}


@pytest.fixture
def settings(answers, tmp_path):
    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, document = answers[self.path]
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Settings(state_dir=tmp_path, api_port=server.server_port, sensor_port=server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


(ONLY,) = worker_names(Settings())
WORKERS = "/api/work_pools/local-process-pool/workers/filter"


def worker(seconds_ago, name=ONLY):
    heard = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return {"name": name, "status": "ONLINE", "last_heartbeat_time": heard.isoformat()}


def test_a_server_that_answers_is_healthy(settings, answers):
    answers["/api/health"] = 200, True
    assert check(settings, Service.SERVER) == Health(healthy=True)


def test_a_server_that_answers_with_an_error_is_not(settings, answers):
    answers["/api/health"] = 500, None
    assert check(settings, Service.SERVER) == Health(healthy=False, detail="/api/health says 500")


def test_a_worker_that_reported_just_now_is_healthy(settings, answers):
    answers[WORKERS] = 200, [worker(1)]
    assert check(settings, Service.WORKER).healthy


def test_a_worker_that_has_fallen_silent_is_not_though_the_server_calls_it_online(settings, answers):
    answers[WORKERS] = 200, [worker(40)]
    assert check(settings, Service.WORKER) == Health(healthy=False, detail="last heard of 40 s ago")


def test_what_a_worker_reported_before_the_start_does_not_count(settings, answers):
    answers[WORKERS] = 200, [worker(5)]
    assert not check(settings, Service.WORKER, since=datetime.now(UTC) - timedelta(seconds=2)).healthy


def test_a_worker_of_another_machine_is_not_ours(settings, answers):
    answers[WORKERS] = 200, [{**worker(1), "name": "another machine"}]
    assert not check(settings, Service.WORKER).healthy


def test_refused_credentials_are_reported_as_such(settings, answers):
    answers[WORKERS] = 401, {}
    assert "PREFECT_API_AUTH_STRING" in check(settings, Service.WORKER).detail


def test_a_sensor_in_trouble_shows_which_loop_has_it(settings, answers):
    detail = "inbox metrics: OperationalError: database or disk is full"
    loops = {"inbox metrics": {"alive": True, "trouble": "OperationalError: database or disk is full"}}
    answers["/healthz"] = 503, {"healthy": False, "detail": detail, "loops": loops}
    assert check(settings, Service.SENSOR) == Health(healthy=False, detail=detail)


def test_an_answer_that_makes_no_sense_is_unhealthy_and_not_an_error(settings, answers):
    answers[WORKERS] = 200, [{"name": ONLY}]
    assert not check(settings, Service.WORKER).healthy


@pytest.fixture
def scale(settings):
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    names = {"node_name": "here", "workers": 2, "api_servers": 1, "service_processes": 2}
    ports = {"api_port": settings.api_port, "sensor_port": settings.sensor_port}
    return Settings(state_dir=settings.state_dir, **given, **names, **ports)


def test_of_several_workers_the_one_that_is_silent_is_named(scale, answers):
    answers[WORKERS] = 200, [worker(1, "here-1"), worker(40, "here-2"), worker(90, "there-1")]
    assert check(scale, Service.WORKER) == Health(healthy=False, detail="here-2 last heard of 40 s ago")


def test_several_workers_are_healthy_when_all_are(scale, answers):
    answers[WORKERS] = 200, [worker(1, "here-1"), worker(1, "here-2")]
    assert check(scale, Service.WORKER) == Health(healthy=True)


def test_an_api_server_that_does_not_answer_is_named(scale, answers):
    answers["/api/health"] = 200, True
    two = scale.model_copy(update={"api_servers": 2, "api_server_port": scale.api_port})
    found = check(two, Service.SERVER)
    assert not found.healthy
    assert found.detail.startswith("server-2 not running")


def test_service_processes_are_counted(scale):
    assert check(scale, Service.SERVICES) == Health(healthy=False, detail="not running")
    with running_as_services(scale, 1):
        assert check(scale, Service.SERVICES) == Health(healthy=False, detail="1 of 2 processes are running")
    with running_as_services(scale, 2):
        assert check(scale, Service.SERVICES) == Health(healthy=True)


@contextmanager
def running_as_services(settings, count):
    """Run processes that bear the mark of the stack and end as the command of Prefect's service processes does."""
    command = [sys.executable, "-c", "input()", "services", "start"]
    environment = {**os.environ, MARK: str(settings.state_dir)}
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.communicate(b"\n", timeout=20)


def loops(**troubles):
    return {name: {"alive": True, "trouble": trouble} for name, trouble in troubles.items()}


def test_a_store_that_is_down_is_distinguished_from_a_sick_sensor(settings, answers):
    store = {"inbox partner": {"alive": True, "trouble": "StoreError: it cannot be reached"}}
    answers["/healthz"] = 503, {"loops": {**loops(announce=""), **store}}
    assert troubles_of_stores(settings, ["partner"]) == ["inbox partner: StoreError: it cannot be reached"]
    assert troubles_of_stores(settings, ["another"]) == []
    answers["/healthz"] = 503, {"loops": {**loops(announce="LedgerError"), **store}}
    assert troubles_of_stores(settings, ["partner"]) == []


@pytest.fixture
def sensor_only(scale):
    """A machine of the scale profile that has a sensor alone."""
    elsewhere = {"api_servers": 0, "service_processes": 0, "workers": 0}
    url = f"http://127.0.0.1:{scale.api_port}/api"
    return scale.model_copy(update={**elsewhere, "prefect_api_url": url, "api_port": 1})


def test_where_this_machine_has_no_server_that_of_the_installation_is_looked_at(sensor_only, answers):
    answers["/api/health"] = 200, True
    assert check(sensor_only, Service.SERVER) == Health(healthy=True)
    answers["/api/health"] = 500, None
    assert check(sensor_only, Service.SERVER) == Health(healthy=False, detail="/api/health says 500")


def test_where_this_machine_has_no_worker_one_of_another_is_enough(sensor_only, answers):
    answers[WORKERS] = 200, [worker(90, "there-1"), worker(1, "there-2")]
    assert check(sensor_only, Service.WORKER) == Health(healthy=True)
    answers[WORKERS] = 200, [worker(90, "there-1"), worker(50, "there-2")]
    assert check(sensor_only, Service.WORKER) == Health(healthy=False, detail="last heard of 50 s ago")
    answers[WORKERS] = 200, []
    assert check(sensor_only, Service.WORKER) == Health(healthy=False, detail="none has reported to the server yet")
