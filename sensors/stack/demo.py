"""The demo (`just demo`): follow a good file step by step, then a broken file up to the delivery of its alert."""

import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.files.beneath import created_anew
from sensors.files.permissions import make_state_folder
from sensors.ledger import Ledger, LedgerError
from sensors.ledger.states import FileState
from sensors.reports.files import FileJourney, journey_of
from sensors.stack.credentials import settle_credentials
from sensors.stack.drop import drop
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.state_dir import is_held, other_ports
from sensors.stack.status import read_status
from sensors.stack.supervisor import DIE_WITH_PARENT
from sensors.stack.terminal import Terminal, tail

INBOX = "metrics"
UP_SECONDS = 180
RECOVERY_SECONDS = 45
JOURNEY_SECONDS = 60
ALERT_SECONDS = 80
"""After a few demos in a row the alert is rate-limited, and arrives in a digest after a minute."""

_GOOD = """\
date,region,orders,revenue
2026-01-05,north,128,6411.20
2026-01-05,south,97,4880.75
2026-01-06,north,140,7022.00
"""
_BROKEN = """\
date,region,orders,revenue
2026-01-07,north,131,6600.10
2026-01-07,south,this line,has,two fields too many
"""


def demo() -> int:
    """Run both parts and return the exit status: 0 only if the rows were loaded and the alert was delivered.

    If the stack is down, the demo starts it and stops it at the end. Raises StackError.
    """
    terminal = Terminal()
    with _stack(checked_settings(), terminal) as settings:
        tour = _Tour(settings, terminal)
        return 0 if tour.good_file() and tour.broken_file() else 1


@contextmanager
def _stack(settings: Settings, terminal: Terminal) -> Generator[Settings]:
    """Keep the stack up inside the block, in its own session so that Ctrl-C reaches the demo first."""
    if read_status(settings).healthy or _recovers(settings, terminal):
        yield settings
        return
    # Before `up` does it: the output of `up` goes to a log, which never contains new credentials.
    settings = settle_credentials(settings, terminal)
    make_state_folder(settings.state_dir)
    settings.logs_dir.mkdir(exist_ok=True)
    log = settings.logs_dir / "demo-up.log"
    with created_anew(log) as output:
        process = subprocess.Popen(
            [*DIE_WITH_PARENT, "sensors", "up"],
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with terminal.waiting("bringing the stack up"):
            if not _true_within(lambda: process.poll() is not None or _is_up(log), UP_SECONDS) or process.poll():
                raise StackError("the stack did not come up; it said:", *(f"    {line}" for line in tail(log)))
        terminal.step("the stack is up")
        yield settings
    finally:
        terminal.step("stopping the stack")
        process.terminate()
        process.wait()


def _recovers(settings: Settings, terminal: Terminal) -> bool:
    """Wait until a running but unhealthy stack is healthy again; False if no stack runs. Raises StackError."""
    if not is_held(settings):
        return False
    if elsewhere := other_ports(settings):
        raise StackError(f"the stack of {settings.state_dir} {elsewhere}; set that in .env")
    with terminal.waiting("waiting for the stack to be healthy"):
        if not _true_within(lambda: read_status(settings).healthy, RECOVERY_SECONDS):
            raise StackError("the stack is up and not healthy; `just status` says what is wrong")
    return True


def _is_up(log: Path) -> bool:
    return any("everything is healthy" in line for line in tail(log, lines=1000))


class _Tour:
    """The steps of the demo, one file after the other."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self._settings = settings
        self._terminal = terminal
        self._name = f"demo-{secrets.token_hex(4)}"

    def good_file(self) -> bool:
        """Drop a good file; return whether its rows were loaded."""
        end = self._follow(f"{self._name}.csv", _GOOD)
        return self._verdict(end is not None and end.state is FileState.LOADED, "the file's rows are in the warehouse")

    def broken_file(self) -> bool:
        """Drop a broken file; return whether its alert was delivered."""
        end = self._follow(f"{self._name}-broken.csv", _BROKEN)
        if end is None or end.state is FileState.LOADED:
            return self._verdict(False, "the broken file was noticed")
        log = self._settings.logs_dir / "alerts.log"
        with self._terminal.waiting("waiting for the alert"):
            _true_within(lambda: was_delivered(alert_about(log, end)), ALERT_SECONDS)
        alert = alert_about(log, end)
        self._terminal.say(f"the alert, in {log}:")
        self._terminal.show_lines(alert)
        return self._verdict(was_delivered(alert), "the broken file caused an alert, and it was delivered")

    def _verdict(self, right: bool, what: str) -> bool:
        self._terminal.say(f"{'yes' if right else 'NO'}: {what}\n", "bold green" if right else "bold red")
        return right

    def _follow(self, name: str, content: str) -> FileJourney | None:
        """Drop a file and print each of its steps as it happens; return its journey, or None if it did not end."""
        with tempfile.TemporaryDirectory() as folder:
            original = Path(folder) / name
            original.write_text(content, "utf-8")
            dropped_at = datetime.now(UTC)
            drop(original, INBOX)
        self._terminal.say(f"dropped {name} into the inbox {INBOX}")
        deadline = time.monotonic() + JOURNEY_SECONDS
        shown: list[str] = []
        while time.monotonic() < deadline:
            journey = self._journey(name)
            reached = steps(journey) if journey else []
            for at, step in reached:
                kind = step.partition(" ")[0]  # a run may get its name after it was printed
                if kind not in shown:
                    self._terminal.say(f"{(at - dropped_at).total_seconds():6.2f} s  {step}")
                    shown.append(kind)
            if journey and journey.ended_at:
                return journey
            time.sleep(0.05)
        self._terminal.say(f"the file has not come to its end within {JOURNEY_SECONDS} s; see `just status`")
        return None

    def _journey(self, name: str) -> FileJourney | None:
        try:
            with Ledger(self._settings.ledger_path, read_only=True) as ledger:
                return journey_of(ledger, name)
        except LedgerError:
            return None


def steps(journey: FileJourney) -> list[tuple[datetime, str]]:
    """Return the steps that a file has reached, in order, each with its time (UTC)."""
    run = f"run {journey.run_name or journey.run_id} was started by the event"
    ended = f"{journey.state}: {journey.reason}" if journey.reason else f"{journey.state}: {journey.rows} rows"
    all_steps = [
        (journey.seen_at, "seen by the sensor"),
        (journey.settled_at, "settled: no process is writing it any more"),
        (journey.staged_at, f"staged as arrival {journey.arrival_id}"),
        (journey.announced_at, "announced: the server has the event inbox.arrival.ready"),
        (journey.receipt_at, run),
        (journey.ended_at, ended),
    ]
    return [(at, step) for at, step in all_steps if at is not None]


def alert_about(log: Path, journey: FileJourney) -> list[str]:
    """Return the lines of the alert log about a file's run: the alert and its delivery on each channel."""
    entries: list[list[str]] = []
    for line in tail(log, lines=500):
        if line[:1].strip() or not entries:
            entries.append([])
        entries[-1].append(line)
    # Entries are matched by the arrival, one of the run's parameters, as the run may be renamed before its alert is
    # delivered. Delivery entries are matched by the alert's subject, which contains the run's earlier name.
    names = [one for one in (journey.arrival_id, journey.run_name) if one]
    about = [entry for entry in entries if any(one in line for line in entry for one in names)]
    subjects = [subject for entry in about if (subject := entry[0].partition("  ")[2])]
    return [line for entry in entries if entry in about or any(one in entry[0] for one in subjects) for line in entry]


def was_delivered(alert: list[str]) -> bool:
    """Return whether the alert was delivered to any address; without configured addresses the log is enough."""
    return any("  delivered to " in line or "delivered nowhere else" in line for line in alert)


def _true_within(look: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
