"""Run a Python module that receives SIGTERM when its parent process dies.

`python -m sensors.stack.die_with_parent MODULE ARGUMENT...` becomes `python -m MODULE ARGUMENT...`.

Without it, `kill -9` of the supervisor would leave the services running unsupervised. Linux only (prctl(2),
PR_SET_PDEATHSIG); elsewhere the next `up` ends processes that were left behind.
"""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


def tie() -> None:
    """Have the kernel send SIGTERM to this process when its parent dies; survives an exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


if __name__ == "__main__":
    tie()
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 # no shell between
