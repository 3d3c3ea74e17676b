"""With WARM_START=off everything runs Prefect's ordinary way, with its own worker and commands, and works as well."""

import json
from collections.abc import Callable, Iterator

import psutil
import pytest

from sensors.stack.processes import environment_of
from tests.journeys.stack import Stack, command_of, process_of, wait_until
from tests.journeys.test_by_hand import run_by_hand
from tests.receiver import Receiver


@pytest.fixture(scope="module")
def ordinary(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, new_stack: Callable[..., Stack]
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("ordinary") / "state"
    running = new_stack(folder, NOTIFY_URLS=receiver.url("ordinary"), WARM_START="off").start()
    yield running
    running.stop()


def test_the_stack_consists_of_prefects_own_commands_and_has_no_fork_server(ordinary: Stack):
    commands = [" ".join(command_of(one)) for one in psutil.Process(ordinary.pid).children(recursive=True)]
    assert [one for one in commands if "forkserver" in one] == []
    assert "prefect worker start --type process" in " ".join(command_of(ordinary.program("worker")))
    assert ordinary.status()["services"].keys() == {"server", "worker", "sensor"}


def test_no_setting_of_the_server_is_there_for_speed_alone(ordinary: Stack):
    environment = environment_of(ordinary.program("server"))
    assert environment.keys().isdisjoint({"PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_API_SSL_CERT_FILE"})
    assert "WARM_SOCKET" not in environment
    assert (ordinary.state_dir / "prefect" / "prefect.db").exists()


def test_a_good_file_has_its_rows_in_the_warehouse_and_a_bad_one_causes_an_alert(ordinary: Stack, receiver: Receiver):
    ordinary.drop("good.csv", "day,orders\n2026-11-24,1\n2026-11-25,2\n2026-11-26,3\n")
    wait_until(lambda: ordinary.books()["loaded"] == 1, "the good file is loaded", pause=0.5)
    ordinary.drop("bad.csv", "day,orders\n2026-11-24,1\n2026-11-25,2,surplus\n")
    (message,) = wait_until(lambda: receiver.naming("bad.csv"), "the alert of the bad file came")
    assert "1 of 1 files rejected" in message["message"]
    wait_until(lambda: ordinary.books()["rejected"] == 1, "the bad file is rejected", pause=0.5)
    assert ordinary.rows("SELECT count(*), sum(orders) FROM public.daily_metrics") == [(3, 6)]


def test_a_run_by_hand_is_a_process_of_prefects_engine_and_loads_its_source(ordinary: Stack, receiver: Receiver):
    days = [{"day": f"2026-12-{day:02}", "visits": day} for day in range(1, 5)]
    receiver.pages["/ordinary"] = ("application/json", json.dumps({"data": days, "next": None}).encode())
    with receiver.holding("/ordinary") as source:
        run_id = run_by_hand(ordinary, "--param", f"source_url={source}")
        wait_until(lambda: ordinary.run(run_id)["state_name"] == "Running", "the run is under way")
        process = process_of(run_id)
        assert process is not None
        assert command_of(process)[-2:] == ["-m", "prefect.engine"]
    assert ordinary.wait_for_end(run_id)["state_name"] == "Completed"
    loaded = ordinary.rows(f"SELECT count(*), sum(visits) FROM public.daily_metrics WHERE _arrival_id = '{run_id}'")
    assert loaded == [(4, 10)]
