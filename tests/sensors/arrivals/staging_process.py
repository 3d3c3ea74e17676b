"""`python -m tests.sensors.arrivals.staging_process STATE_DIR INBOX [plain]`: take what is in an inbox, and end.

`plain`: on a file system that cannot rename without replacing.
"""

import sys
from pathlib import Path

from sensors.config.inboxes import Inbox
from sensors.files import durability
from tests.one_inbox import OneInbox


def main() -> None:
    state_dir, path, *options = sys.argv[1:]
    if "plain" in options:
        durability._libc_renameat2 = None
    world = OneInbox(Path(state_dir), Inbox(name="metrics", path=Path(path), subfolders=True, max_files=100))
    world.pass_time(10)
    world.ledger.close()


if __name__ == "__main__":
    main()
