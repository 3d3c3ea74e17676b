"""The sensor alone, no Prefect behind it: how fast files are taken, what it costs when idle, how soon it is back.

CPU seconds and memory are what the kernel says of the sensor's process. Next to it stand watchdog, which only counts
what was closed, and a walk that lists, stats and renames every file: less work than that cannot take a file.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from sensors.files.beneath import Identity
from sensors.ledger import Ledger, files
from sensors.ledger.files import Dropped
from tests.benchmarks.sensor_process import fill, sensor, state_dir, write_rows
from tests.prefect_server import prefect_answering

SIZES = (1_000, 10_000, 100_000)
DROPS = 20
LYING = 10_000
"""Files in each of the ten idle inboxes."""
IDLE: dict[str, tuple[int, dict[str, Any], str, str]] = {
    "held": (4, {"max_in_flight": 1, "max_files": 1}, "{}.csv", "a\n1\n"),  # enough arrivals are in flight
    "refused": (2, {}, "{}.pdf", "%PDF"),
    "undone": (2, {"done_file": ".done"}, "{}.csv", "a\n1\n"),
    "empty": (1, {}, "{}.csv", ""),
    "temporary": (1, {}, "{}.csv.part", "a\n1\n"),
}
"""Why files lie: in how many inboxes, their rules, the files' names and what is in them."""
DROP = "import os, sys\nfor n in range(int(sys.argv[3])): os.rename(f'{sys.argv[1]}/{n}.csv', f'{sys.argv[2]}/{n}.csv')"


def rate(files: int, seconds: float, cpu: float) -> dict[str, float]:
    return {
        "files": files,
        "seconds": seconds,
        "files_per_second": files / seconds,
        "cpu_seconds": cpu,
        "cpu_ms_per_file": 1000 * cpu / files,
    }


ENOUGH = {"metrics": {"max_in_flight": 1000}}
"""Nobody ends a run here, so that many arrivals have to be allowed in flight."""


def taken_after_start(files: int, start_cpu: float) -> dict[str, float]:
    """Files that lie there before the sensor starts; from the moment at which it watches."""
    with state_dir() as folder:
        fill(folder / "inbox" / "metrics", files)
        with sensor(ENOUGH, folder) as running:
            began = running.wait(running.is_watching, "the sensor watches")
            ended = running.wait(lambda: running.count("state = 'staged'") == files, "all is staged")
            return rate(files, ended - began, running.cpu() - start_cpu)


def taken_while_running(files: int) -> dict[str, float]:
    """Files that are renamed in one after the other while the sensor runs; from the first rename on."""
    with state_dir() as folder:
        fill(folder / "outside", files)
        with sensor(ENOUGH, folder) as running:
            running.wait(running.is_watching, "the sensor watches")
            began, cpu = time.monotonic(), running.cpu()
            dropping = subprocess.Popen(
                [sys.executable, "-c", DROP, folder / "outside", folder / "inbox" / "metrics", str(files)]
            )
            ended = running.wait(lambda: running.count("state = 'staged'") == files, "all is staged")
            dropping.wait()
            return rate(files, ended - began, running.cpu() - cpu)


def bare_watchdog(files: int) -> dict[str, float]:
    """watchdog's observer, told of files that are closed after writing, and doing nothing but count them."""

    class Counter(FileSystemEventHandler):
        closed = 0

        def on_closed(self, event: FileSystemEvent) -> None:
            self.closed += 1

    with state_dir() as folder:
        counter, observer = Counter(), Observer()
        observer.schedule(counter, str(folder / "outside"))
        observer.start()
        began, cpu = time.monotonic(), time.process_time()
        writing = (
            "import sys\nfor n in range(int(sys.argv[2])):\n with open(f'{sys.argv[1]}/{n}', 'w') as f: f.write('a')"
        )
        subprocess.run([sys.executable, "-c", writing, folder / "outside", str(files)], check=True)
        deadline = time.monotonic() + 5
        while counter.closed < files and time.monotonic() < deadline:  # some are lost when the kernel's queue is full
            time.sleep(0.01)
        found = rate(files, time.monotonic() - began, time.process_time() - cpu)
        observer.stop()
        observer.join()
        return {**found, "lost": files - counter.closed}


def bare_walk(files: int) -> dict[str, float]:
    """os.scandir, one stat and one rename for each file: the physical limit."""
    with state_dir() as folder:
        fill(folder / "outside", files)
        began, cpu = time.monotonic(), time.process_time()
        with os.scandir(folder / "outside") as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                os.rename(entry.path, folder / "inbox" / entry.name)  # noqa: PTH104 - the bare call
        return rate(files, time.monotonic() - began, time.process_time() - cpu)


def single_drop(*, renamed: bool) -> dict[str, float]:
    """Medians of the milliseconds from one drop on an idle sensor to each step; the last is: Prefect has the event."""
    seconds: dict[str, list[float]] = {}
    with state_dir() as folder, prefect_answering() as prefect, sensor(ENOUGH, folder, prefect.port) as running:
        running.wait(running.is_watching, "the sensor watches")
        for n in range(DROPS):
            time.sleep(0.5)
            path, written = folder / "inbox" / "metrics" / f"drop-{n}.csv", folder / "outside" / f"{n}"
            (written if renamed else path).write_text("a\n1\n")
            dropped = time.time()
            if renamed:
                written.rename(path)
            running.wait(lambda n=n: running.count(f"name = 'drop-{n}.csv' AND state = 'staged'"), "it is staged")
            time.sleep(0.3)
            with Ledger(running.ledger, read_only=True) as ledger:
                (row,) = ledger.rows(
                    "SELECT f.seen_at, f.settled_at, a.created_at AS begun_at, a.staged_at, a.announced_at,"
                    " n.confirmed_at FROM files f JOIN arrivals a ON a.id = f.arrival_id"
                    " JOIN announcements n ON n.arrival_id = a.id WHERE f.name = ?",
                    (path.name,),
                )
            for step in row.keys():  # noqa: SIM118 - a row's iterator gives its values
                at = datetime.fromisoformat(row[step]).timestamp()
                seconds.setdefault(step.removesuffix("_at"), []).append(at - dropped)
    return {step: 1000 * statistics.median(found) for step, found in seconds.items()}


def idle(seconds: float) -> dict[str, float]:
    """Ten inboxes in which files lie that are not taken, for each of the reasons, and no server."""
    inboxes: dict[str, dict[str, Any]] = {}
    with state_dir() as folder:
        for kind, (count, rules, name, text) in IDLE.items():
            for n in range(count):
                inboxes[f"{kind}-{n}"] = rules
                fill(folder / "inbox" / f"{kind}-{n}", LYING, name, text)
        known = LYING * sum(count for kind, (count, *_) in IDLE.items() if kind != "temporary")
        with sensor(inboxes, folder) as running:
            running.wait(lambda: running.count("1") == known, "all is seen")
            held = LYING * IDLE["held"][0]
            running.wait(lambda: running.count("state IN ('settled', 'staged')") == held, "all has settled")
            time.sleep(65)  # the looks at what has just changed are over
            cpu, began = running.cpu(), time.monotonic()
            time.sleep(seconds)
            percent = 100 * (running.cpu() - cpu) / (time.monotonic() - began)
            return {"cpu_percent": percent, "files": LYING * len(inboxes), **running.megabytes()}


def start() -> dict[str, float]:
    """An empty sensor, from its command to its answer."""
    with state_dir() as folder, sensor(ENOUGH, folder) as running:
        ended = running.wait(running.is_watching, "the sensor watches")
        return {"seconds": ended - running.began, "cpu_seconds": running.cpu(), **running.megabytes()}


def restart(rows: int, waiting: int) -> dict[str, float]:
    """A start with a ledger of many rows, and many files that waited when the sensor was killed."""
    with state_dir() as folder:
        inbox = folder / "inbox" / "metrics"
        fill(inbox, waiting)
        with Ledger(folder / "ledger.db") as ledger:
            write_rows(ledger, rows)
            found = sorted(inbox.iterdir())
            dropped = [Dropped(one, one.name, Identity.of(one.stat())) for one in found]
            files.record_seen(ledger, "metrics", dropped, datetime.now(UTC))
        with sensor(ENOUGH, folder) as running:
            ready = running.wait(running.is_watching, "the sensor watches")
            first = running.wait(lambda: running.count("state = 'staged'"), "the first files are staged")
            ended = running.wait(lambda: running.count("state = 'staged'") == waiting, "all is staged")
            return {
                "watching_seconds": ready - running.began,
                "first_staged_seconds": first - running.began,
                "all_staged_seconds": ended - running.began,
                "cpu_seconds": running.cpu(),
                **running.megabytes(),
            }


def measure(sizes: Sequence[int] = SIZES, idle_seconds: float = 60, rows: int = 1_000_000) -> dict[str, Any]:
    """Measure everything; takes about ten minutes. The keys say the units."""
    empty = start()
    return {
        "start": empty,
        "taken_after_start": [taken_after_start(size, empty["cpu_seconds"]) for size in sizes],
        "taken_while_running": [taken_while_running(size) for size in sizes],
        "bare_watchdog": [bare_watchdog(size) for size in sizes],
        "bare_walk": [bare_walk(size) for size in sizes],
        "written_to_each_step_ms": single_drop(renamed=False),
        "renamed_to_each_step_ms": single_drop(renamed=True),
        "idle": idle(idle_seconds),
        "restart": restart(rows, max(sizes)),
    }
