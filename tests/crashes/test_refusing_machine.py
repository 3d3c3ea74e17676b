"""A machine that refuses: a full disk, a read-only folder, no descriptor left. The sensor says so and goes on later."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sensors.ledger import Ledger
from sensors.ledger.files import still_blocked
from tests.crashes.installation import LoneSensor, small_file_system
from tests.journeys.stack import wait_until

FILES = {f"{n}.csv": f"n\n{n}\n" * 50_000 for n in range(3)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 8 MiB."""
    with small_file_system(tmp_path, "size=8m") as disk:
        yield disk


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[LoneSensor]:
    made = LoneSensor(tmp_path / "state", path=str(tmp_path / "dropped"))
    (tmp_path / "dropped").mkdir()
    yield made
    made.stop()


def drop(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).write_text(text)


def trouble(sensor: LoneSensor) -> str:
    said = sensor.health()
    assert said is not None, "it is alive"
    return said["loops"]["inbox metrics"]["trouble"] or ""


def blocked(sensor: LoneSensor) -> str:
    """Return why files may not be moved, as far as the sensor has found out."""
    ledger_path = sensor.state_dir / "ledger.db"
    if not ledger_path.exists():
        return ""
    with Ledger(ledger_path, read_only=True) as ledger:
        return "\n".join(file.reason for file in still_blocked(ledger, 100))


def everything_is_staged(sensor: LoneSensor, dropped: Path) -> None:
    wait_until(lambda: sensor.states() == {"staged": len(FILES)}, "all files are staged", 30)
    assert {path.name: path.read_text() for path in sensor.taken()} == FILES
    assert list(dropped.iterdir()) == []
    wait_until(lambda: trouble(sensor) == "", "it says that it works again", 10)


def lines_about(sensor: LoneSensor, words: str) -> int:
    return sum(words in line and "ERROR" in line for line in sensor.log.read_text().splitlines())


def test_on_a_full_disk_nothing_is_lost_and_it_goes_on_when_there_is_room(tmp_path, small_disk):
    dropped = tmp_path / "dropped"
    dropped.mkdir()
    sensor = LoneSensor(small_disk / "state", beside=tmp_path, path=str(dropped))
    try:
        sensor.start()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        drop(dropped)
        reported = wait_until(lambda: trouble(sensor), "it tells of the trouble", 30)
        assert "full" in reported or "No space left" in reported
        kept = {path.read_text() for path in dropped.iterdir()}
        assert kept == set(FILES.values()), "every file is where it was dropped, or claimed next to it"
        ballast.unlink()
        print(sensor.log.read_text())
        everything_is_staged(sensor, dropped)
        assert lines_about(sensor, reported) <= 2, "it is not said again and again"
    finally:
        sensor.stop()


def test_out_of_a_read_only_folder_files_are_taken_when_it_can_be_written_again(sensor, small_disk):
    dropped = small_disk / "inbox"
    dropped.mkdir()
    sensor.stop()
    sensor = LoneSensor(sensor.state_dir.with_name("other"), path=str(dropped))
    try:
        drop(dropped)
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        sensor.start()
        wait_until(lambda: "Read-only" in blocked(sensor), "it tells of the trouble", 30)
        assert sensor.states() == {"seen": len(FILES)}, "they wait"
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        everything_is_staged(sensor, dropped)
        assert blocked(sensor) == ""
        assert len([line for line in sensor.log.read_text().splitlines() if "Read-only" in line]) == len(FILES)
    finally:
        sensor.stop()


def test_without_a_descriptor_left_it_waits_for_one(sensor, tmp_path):
    dropped = tmp_path / "dropped"
    sensor.start()
    process = psutil.Process(sensor.process.pid)
    before = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    drop(dropped)
    wait_until(lambda: "Too many open files" in sensor.log.read_text(), "it tells of the trouble", 30)
    assert sensor.process.poll() is None
    assert sorted(path.name for path in dropped.iterdir()) == sorted(FILES)
    process.rlimit(resource.RLIMIT_NOFILE, before)
    everything_is_staged(sensor, dropped)


def test_without_a_watch_of_the_kernels_left_it_polls_and_says_so(tmp_path):
    """The limit is the kernel's own, in a user namespace of the sensor's."""
    no_watches = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    no_watches.append('echo 0 > /proc/sys/user/max_inotify_watches && exec "$0" "$@"')
    if subprocess.run([*no_watches, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make user namespaces")
    sensor = LoneSensor(tmp_path / "state")
    try:
        sensor.start(*no_watches)
        drop(sensor.inbox)
        everything_is_staged(sensor, sensor.inbox)
        metrics = sensor.health()["inboxes"]["metrics"]
        assert (metrics["mode"], metrics["why"]) == ("polling", "inotify watch limit reached")
        assert sensor.log.read_text().count("no file events (inotify watch limit reached)") == 1
    finally:
        sensor.stop()
