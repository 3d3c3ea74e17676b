"""Run a flow run in a fork of the warm server, or fall back to `python -m prefect.engine`.

`python -I -S flows/forkserver/client.py` does what `python -m prefect.engine` does, 2 s sooner. It uses only the
standard library and imports as little of it as possible; with -I and -S Python reads nothing else.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing for its TYPE_CHECKING takes 4 ms
    from typing import NoReturn

SOCKET_VARIABLE = "WARM_SOCKET"
"""The environment variable that holds the path of the warm server's socket."""

GREETING = b"warm 1\n"
"""The first message of a keeper; the number is the protocol version."""

READY = b"+"
"""A keeper's message that it can run the flow; any other message is the reason why it cannot."""

GO = b"\0"
"""The client's message that hands the run over to the keeper. Each later byte is the number of a signal."""

PATIENCE_SECONDS = 3.0
"""How long each step up to READY may take; starting without the warm server takes about as long."""

STATUS_BYTES = 4
"""The size in bytes of the keeper's last message: the exit status of the flow's process, negative for a signal."""

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> NoReturn:
    """Run the flow run that the environment names."""
    path = os.environ.get(SOCKET_VARIABLE)
    if path and len(sys.argv) == 1:
        try:
            connection = ask(path)
            connection.sendall(GO)
        except OSError as error:
            # Falling back is also safe if GO could not be sent: then the keeper has not read it.
            print(f"No warm start ({error}): starting Python the ordinary way.", file=sys.stderr, flush=True)
        else:
            end_as(follow(connection))
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine", *sys.argv[1:]])  # noqa: S606 # needs no shell


def ask(path: str) -> socket.socket:
    """Return a connection to a keeper that is ready to run this process's flow run. Raises OSError."""
    connection = connect(path)
    connection.settimeout(PATIENCE_SECONDS)
    expect(connection, GREETING)
    body = request()
    socket.send_fds(connection, [len(body).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(body)
    expect(connection, READY)
    return connection


def connect(path: str) -> socket.socket:
    """Connect to a socket whose server runs as the same user. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_SECONDS)
    folder = os.open(os.path.dirname(path), os.O_PATH)  # noqa: PTH120 # pathlib is slower to import than all the rest
    try:
        # The address of a Unix socket has at most 107 bytes; the path of the state folder may be longer.
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
    finally:
        os.close(folder)
    if user_of(connection) != os.geteuid():
        raise PermissionError(f"{path} is another user's")
    return connection


def user_of(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel reports it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def request() -> bytes:
    """Return the request for a process like this one: interpreter, working directory, umask and environment."""
    umask = os.umask(0o077)
    os.umask(umask)
    variables = [name + b"=" + value for name, value in os.environb.items()]
    folder = os.getcwdb()  # noqa: PTH109 # as above
    return b"\0".join([os.fsencode(sys.executable), folder, b"%d" % umask, *variables])


def expect(connection: socket.socket, wanted: bytes) -> None:
    """Read the wanted message. Raises OSError with the message that came instead."""
    got = b""
    while got != wanted:
        more = connection.recv(len(wanted) - len(got) if wanted.startswith(got) else 1000)
        if not more:
            raise ConnectionError(got.decode(errors="replace") or "the warm server hung up")
        got += more


def follow(connection: socket.socket) -> int:
    """Forward signals until the flow's process has ended, and return its exit status."""

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
        # The keeper was killed, so the kernel sent SIGKILL to the flow's process.
        return -signal.SIGKILL
    return int.from_bytes(status, "big", signed=True)


def end_as(status: int) -> NoReturn:
    """End this process as the flow's process ended: with its exit status or, if that is negative, by the signal."""
    if status < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump, if any, was written by the flow's process
        with suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        status = 128 - status
    os._exit(status)


if __name__ == "__main__":
    main()
