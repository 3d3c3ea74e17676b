"""More files than the kernel's queue of events holds, and more than Prefect's server would bear at once."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml

from sensors.stack.services import Service
from tests.crashes.installation import Installation, LoneSensor
from tests.journeys.stack import wait_until

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


def write_files(inbox: str, writer: int, count: int) -> None:
    """Write files as fast as one process can; every third one by renaming it in."""
    for n in range(count):
        path = f"{inbox}/{writer}-{n}.csv"
        written = f"{inbox}/.{writer}-{n}" if n % 3 == 0 else path
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, f"n\n{writer * 1_000_000 + n}\n".encode())
        os.close(descriptor)
        if written != path:
            os.rename(written, path)  # noqa: PTH104 - as fast as it goes


def overflow(sensor: LoneSensor, writers: int, files: int) -> None:
    """Have the kernel's queue overflow while the sensor is stopped, and see that every file is taken once."""
    sensor.start()
    (sensor.inbox / "first.csv").write_text("n\nfirst\n")
    wait_until(lambda: sensor.states() == {"staged": 1}, "it watches its inbox", 20)
    sensor.signal(signal.SIGSTOP)
    processes = [
        get_context("spawn").Process(target=write_files, args=(str(sensor.inbox), writer, files // writers))
        for writer in range(writers)
    ]
    began = time.monotonic()
    for process in processes:
        process.start()
    queue = int(QUEUE.read_text())
    wait_until(lambda: sum(1 for _ in os.scandir(sensor.inbox)) > queue * 1.1, "more than the queue holds", 120)
    sensor.signal(signal.SIGCONT)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    wait_until(lambda: sensor.states() == {"staged": files + 1}, "every file is staged", 300, pause=0.5)
    print(f"\n{files} files of {writers} writers: all staged after {time.monotonic() - began:.1f} s")
    texts = sorted(path.read_text() for path in sensor.taken())
    expected = sorted(f"n\n{writer * 1_000_000 + n}\n" for writer in range(writers) for n in range(files // writers))
    assert texts == sorted([*expected, "n\nfirst\n"])
    assert list(sensor.inbox.iterdir()) == []
    assert sensor.log.read_text().count("queue of file events was full") == 1


@pytest.fixture
def sensor(tmp_path: Path):
    made = LoneSensor(tmp_path / "state", max_in_flight=1000, max_files=10_000)
    yield made
    made.stop()


@pytest.mark.skipif(not QUEUE.exists(), reason="the kernel's queue of Linux")
def test_when_the_kernels_queue_overflows_every_file_is_taken_once(sensor: LoneSensor):
    overflow(sensor, writers=2, files=20_000)


@pytest.mark.slow
@pytest.mark.skipif(not QUEUE.exists(), reason="the kernel's queue of Linux")
def test_60_000_files_of_4_writers_are_all_taken_and_none_twice(sensor: LoneSensor):
    overflow(sensor, writers=4, files=60_000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10_000_files_at_once_are_loaded_and_prefect_never_holds_more_than_it_may(
    tmp_path: Path, new_installation: Callable[[Path], Installation]
):
    installation = new_installation(tmp_path / "state")
    try:
        installation.prepare()
        inboxes = tmp_path / "inboxes.yaml"
        inboxes.write_text(yaml.safe_dump({"inboxes": {"metrics": {"max_in_flight": 2}}}))
        installation.environment["INBOXES_FILE"] = str(inboxes)
        write_files(str(installation.stack.inbox), 0, 10_000)
        began = time.monotonic()
        installation.start(Service.WORKER)
        installation.start(Service.SENSOR)
        most = 0

        def all_loaded() -> bool:
            nonlocal most
            wanted = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}
            runs = installation.stack.api.post("/flow_runs/filter", json={"flow_runs": wanted}).json()
            most = max(most, sum(not run["auto_scheduled"] for run in runs) if isinstance(runs, list) else 0)
            return installation.states() == {"loaded": 10_000}

        wait_until(all_loaded, "all files are loaded", 1500, pause=1)
        print(f"\n10,000 files: loaded after {time.monotonic() - began:.0f} s, at most {most} runs at a time")
        assert most <= 2
        query = "SELECT count(*), count(DISTINCT n), count(DISTINCT _file_name) FROM public.daily_metrics"
        assert installation.stack.rows(query) == [(10_000, 10_000, 10_000)]
    finally:
        installation.stop()
