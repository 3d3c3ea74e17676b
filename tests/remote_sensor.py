"""A sensor's intake of one remote inbox, killed at a kill point and started again: `python -m tests.remote_sensor`.

The arguments are a folder with an `inboxes.yaml` of one inbox, and the point. A fork is killed, and then the process
itself goes on as the next one would; it ends when nothing lies in the inbox any more. Started with BLUEPRINT_KILL_AT.
"""

import os
import signal
import sys
import time
from pathlib import Path

from sensors.config.inboxes import Inbox, read_inboxes
from sensors.remote.open import open_store
from sensors.runtime import crash_points
from tests.hand_clock import HandClock
from tests.remote_stack import RemoteStack, by_the_ledger

DEADLINE_SECONDS = 150.0


def main(folder: Path, point: str) -> int:
    """Return 0 when it was killed at the point and has taken everything afterwards."""
    (inbox,) = read_inboxes(folder / "inboxes.yaml", folder / "inbox")
    import_filesystem(inbox)
    child = os.fork()
    if child == 0:
        name, _, times = point.partition(":")
        crash_points._armed, crash_points._left = name, int(times or 1)
        work(folder, inbox)
        os._exit(2)  # it was not killed
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        return 3
    return 0 if work(folder, inbox) else 1


def import_filesystem(inbox: Inbox) -> None:
    """Import it before the fork, which takes most of the time; nothing is started by that."""
    if inbox.where.startswith("s3:"):
        import s3fs  # noqa: F401
    else:
        import sshfs  # noqa: F401


def work(folder: Path, inbox: Inbox) -> bool:
    store = by_the_ledger(open_store(inbox)) if "TEST_WITHOUT_CLAIMS" in os.environ else open_store(inbox)
    stack = RemoteStack(folder / "state", inbox, HandClock(), store)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        stack.step()
        stack.hand.turn(1)
        if not list(stack.origin.store.listing(subfolders=True)):
            stack.close()
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
