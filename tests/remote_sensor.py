"""A sensor's intake of one remote inbox in a process of its own, to be killed: `python -m tests.remote_sensor FOLDER`.

The inbox is the one in FOLDER/inboxes.yaml. It ends when nothing lies there any more, its claims included.
"""

import os
import sys
import time
from pathlib import Path

from sensors.inbox import read_inboxes
from sensors.remote.opening import open_store
from tests.conftest import HandClock
from tests.remote_stack import RemoteStack
from tests.remote_world import by_the_ledger

DEADLINE_SECONDS = 90.0


def main(folder: Path) -> int:
    (inbox,) = read_inboxes(folder / "inboxes.yaml", folder / "inbox")
    store = by_the_ledger(open_store(inbox)) if "TEST_WITHOUT_CLAIMS" in os.environ else open_store(inbox)
    stack = RemoteStack(folder / "state", inbox, HandClock(), store)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        stack.step()
        stack.hand.turn(1)
        if not list(stack.origin.store.listing(subfolders=True)):
            stack.close()
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
