"""Stopping: the wish to stop, and taking the stack down in order."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from sensors.config.settings import Settings
from sensors.stack import processes as marking
from sensors.stack.services import STOP_SECONDS, Service
from sensors.stack.supervisor import Supervisor

RESTART = signal.SIGUSR1
RUN_SECONDS = 1.5
"""How long flow runs have to end by themselves: enough to roll a load back and to report it."""


class StopRequestedError(Exception):
    """Somebody asked us to stop while we were waiting for something."""


class StopRequest:
    """The wish to stop, made by SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal was closed).

    SIGUSR1 asks for a restart, with the settings read anew; a wish to stop that comes before it is over wins.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_restart = False
        self._is_stop = False

    def listen(self) -> None:
        """Take the signals over; only the main thread may call this."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, RESTART):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {RESTART})  # blocked by the `up` that became this one

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == RESTART:
            self._is_restart = True
            self._asked.set()
            return
        self.ask()

    def ask(self) -> None:
        """Make the wish."""
        self._is_stop = True
        self._asked.set()

    @property
    def is_restart(self) -> bool:
        """Whether a restart is wished for, and nothing more."""
        return self._is_restart and not self._is_stop

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long, for the wish to stop; return whether it was made."""
        return self._asked.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Wait, and raise StopRequestedError as soon as the wish to stop is made."""
        if self.wait(seconds):
            raise StopRequestedError


def take_down(settings: Settings, supervisor: Supervisor) -> None:
    """Stop everything, in the reverse of the order of starting, and leave no process behind.

    First the sensor and the worker, so that nothing new is begun; then the runs that the worker has started;
    the server last, so that all of them can report to it. Takes less than 10 seconds, usually 4.
    """
    _stop(supervisor, Service.SENSOR, Service.WORKER)
    runs = [process for process in marking.marked_processes(settings.state_dir) if marking.is_flow_run(process)]
    marking.end(runs, RUN_SECONDS)
    _stop(supervisor, Service.WARM, Service.SERVICES, Service.BALANCER, Service.SERVER)
    supervisor.close()
    marking.sweep(settings.state_dir, grace_seconds=1)


def _stop(supervisor: Supervisor, *services: Service) -> None:
    for service in services:
        supervisor.ask_to_stop(service)
    wait_while(lambda: any(map(supervisor.is_running, services)), STOP_SECONDS + 0.5)


def wait_while(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait while a condition holds, at most so long; return whether it has ended."""
    deadline = time.monotonic() + seconds
    while condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
