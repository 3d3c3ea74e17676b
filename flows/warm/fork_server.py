"""The fork server: waits for clients and forks a keeper for each; holds nothing and remembers nothing."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from flows.warm.client import user_of
from flows.warm.installation import Stamp, read_stamp
from flows.warm.keeper import keep
from flows.warm.request import Request

BACKLOG = 512
"""How many clients may wait; one that finds more before it starts the ordinary way."""


def listen(path: Path) -> socket.socket:
    """Return a socket that only our own user can reach, in place of any earlier one; raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH)
    umask = os.umask(0o177)
    new = f"{path.name}.{os.getpid()}"
    try:
        # The address has at most 107 bytes; a state folder's path may have more.
        listener.bind(f"/proc/self/fd/{folder}/{new}")
        listener.listen(BACKLOG)
        os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.umask(umask)
        os.close(folder)
    return listener


def serve(
    listener: socket.socket,
    run: Callable[[Request], NoReturn],
    imported: Stamp,
    start_again: Callable[[], NoReturn],
) -> NoReturn:
    """Fork a keeper for each client, until what is installed is not what was imported any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers leave nothing behind when they end
    while True:
        connection, _ = listener.accept()
        if read_stamp() != imported:
            listener.close()  # and whoever waits turns to the ordinary way
            connection.close()
            start_again()
        with connection:
            if user_of(connection) != os.geteuid():
                continue
            try:
                pid = os.fork()
            except OSError as error:
                print(f"no process for a run: {error}", file=sys.stderr, flush=True)
                continue
            if pid == 0:
                listener.close()
                keep(connection, run)
