"""Kill the process between two steps of an arrival's processing, for crash tests.

BLUEPRINT_KILL_AT names the place when the process starts: `staged` kills there the first time, `staged:3` the third
time. Only tests set it; without it a crash point costs one call of an empty function.
"""

import os
import signal

VARIABLE = "BLUEPRINT_KILL_AT"

_armed, _, _times = os.environ.get(VARIABLE, "").partition(":")
_left = int(_times or 1)


def _kill_at(name: str) -> None:
    global _left  # noqa: PLW0603 - counted for this process's life
    if name == _armed:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _go_on(name: str) -> None:
    pass


kill_point = _kill_at if _armed else _go_on
"""Takes the name of the crash point."""
