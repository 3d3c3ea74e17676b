"""Handle the signals that stop or restart the stack, and stop its services in order."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from sensors.config.settings import Settings
from sensors.stack import processes
from sensors.stack.services import STOP_SECONDS, Service
from sensors.stack.supervisor import Supervisor

RESTART = signal.SIGUSR1
RUN_SECONDS = 1.5
"""How long flow runs may take to end by themselves: enough to roll back a load and to report it."""


class StopRequestedError(Exception):
    """A stop or restart was requested during a wait."""


class StopRequest:
    """A request to stop, made by SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal was closed).

    SIGUSR1 requests a restart, which reads the settings again. A stop requested before the restart is over wins.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_restart = False
        self._is_stop = False

    def listen(self) -> None:
        """Install the signal handlers; only the main thread may call this."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, RESTART):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RESTART})  # `exec_up` blocks it before the exec

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == RESTART:
            self._is_restart = True
            self._asked.set()
            return
        self.ask()

    def ask(self) -> None:
        """Request a stop."""
        self._is_stop = True
        self._asked.set()

    @property
    def is_restart(self) -> bool:
        """Whether a restart was requested, and no stop."""
        return self._is_restart and not self._is_stop

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for a request to stop or restart; return whether there is one."""
        return self._asked.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait, and raise StopRequestedError as soon as a stop or restart is requested."""
        if self.wait(seconds):
            raise StopRequestedError


def take_down(settings: Settings, supervisor: Supervisor) -> None:
    """Stop all services and end every process of the stack. Takes less than 10 seconds, usually 4.

    The sensor and the worker stop first, so that no new run starts; then the active runs; the server stops last, so
    that all of them can report to it.
    """
    _stop(supervisor, Service.SENSOR, Service.WORKER)
    runs = [process for process in processes.marked_processes(settings.state_dir) if processes.is_flow_run(process)]
    processes.end(runs, RUN_SECONDS)
    _stop(supervisor, Service.WARM, Service.SERVICES, Service.BALANCER, Service.SERVER)
    supervisor.close()
    processes.sweep(settings.state_dir, grace_seconds=1)


def _stop(supervisor: Supervisor, *services: Service) -> None:
    for service in services:
        supervisor.ask_to_stop(service)
    wait_while(lambda: any(map(supervisor.is_running, services)), STOP_SECONDS + 0.5)


def wait_while(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait while a condition holds, at most `seconds`; return whether it has ended."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
