"""The client: runs a flow run in a fork of the warm server, or the ordinary way where that is not to be had.

`python -I -S flows/forkserver/client.py` does what `python -m prefect.engine` does, 2 s sooner. It runs alone, from the
standard library, and imports as little of that as it can: -I and -S keep Python from reading anything else.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's own takes 4 ms to import
    from typing import NoReturn

SOCKET_VARIABLE = "WARM_SOCKET"
"""The environment variable that holds the path of the warm server's socket."""

GREETING = b"warm 1\n"
"""What a keeper says first; the number is that of the protocol."""

READY = b"+"
"""What a keeper says when it would run the flow; anything else is the reason why not."""

GO = b"\0"
"""What the client says then: from here on the run is the keeper's. Each later byte is the number of a signal."""

PATIENCE_SECONDS = 3.0
"""How long a step up to READY may take; the ordinary way takes about as long."""

STATUS_BYTES = 4
"""The exit status of the flow's process comes last, as a number of so many bytes, negative for a signal."""

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> NoReturn:
    """Run the flow run that the environment names."""
    path = os.environ.get(SOCKET_VARIABLE)
    if path and len(sys.argv) == 1:
        try:
            connection = ask(path)
            connection.sendall(GO)
        except OSError as error:
            # Also when GO could not be sent: then nobody has read it.
            print(f"No warm start ({error}): starting Python the ordinary way.", file=sys.stderr, flush=True)
        else:
            end_as(follow(connection))
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine", *sys.argv[1:]])  # noqa: S606 # no shell between


def ask(path: str) -> socket.socket:
    """Return a connection to a keeper that is ready to run us; raises OSError when there is none."""
    connection = connect(path)
    connection.settimeout(PATIENCE_SECONDS)
    expect(connection, GREETING)
    body = request()
    socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(body)
    expect(connection, READY)
    return connection


def connect(path: str) -> socket.socket:
    """Connect to a socket of our own user's; raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_SECONDS)
    folder = os.open(os.path.dirname(path), os.O_PATH)  # noqa: PTH120 # pathlib takes longer than all the rest
    try:
        # The address of a Unix socket has at most 107 bytes; a state folder's path may have more.
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
    finally:
        os.close(folder)
    if user_of(connection) != os.geteuid():
        raise PermissionError(f"{path} is another user's")
    return connection


def user_of(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel has it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def request() -> bytes:
    """Return what makes us this process: interpreter, working directory, umask and environment."""
    umask = os.umask(0o077)
    os.umask(umask)
    variables = [name + b"=" + value for name, value in os.environb.items()]
    folder = os.getcwdb()  # noqa: PTH109 # as above
    return b"\0".join([os.fsencode(sys.executable), folder, b"%d" % umask, *variables])


def expect(connection: socket.socket, wanted: bytes) -> None:
    """Read what is wanted; raises OSError with what came instead."""
    got = b""
    while got != wanted:
        more = connection.recv(len(wanted) - len(got) if wanted.startswith(got) else 1000)
        if not more:
            raise ConnectionError(got.decode(errors="replace") or "the warm server hung up")
        got += more


def follow(connection: socket.socket) -> int:
    """Pass signals on until the flow's process has ended, and return its exit status."""

    def forward(number: int, _frame: object) -> None:
        with suppress(OSError):
            connection.send(bytes([number]))

    connection.settimeout(None)
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    status = b""
    with suppress(OSError):
        while len(status) < STATUS_BYTES and (more := connection.recv(STATUS_BYTES)):
            status += more
    if len(status) < STATUS_BYTES:
        # The keeper was killed, and the flow's process with it, by the kernel and in just this way.
        return -signal.SIGKILL
    return int.from_bytes(status, "big", signed=True)


def end_as(status: int) -> NoReturn:
    """End as a process with this exit status has ended: a negative one says by which signal."""
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it has dumped its core, if at all
        with suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        status = 128 - status
    os._exit(status)


if __name__ == "__main__":
    main()
