"""The keeper of one run: agrees with the client, starts the flow's process, and ends with it."""

import ctypes
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from flows.warm.client import FORWARDED, GO, GREETING, READY, STATUS_BYTES
from flows.warm.request import RefusedError, Request, check_sameness, read_request

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h
_prctl = ctypes.CDLL(None).prctl
"""Looked up before any fork, where it costs nothing."""


def keep(connection: socket.socket, run: Callable[[Request], NoReturn]) -> NoReturn:
    """Have `run` called in a process of its own if the client wants it, and end when that has ended."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        request = _agreed(connection)
        if request is not None:
            _start(connection, request, run)
    except OSError:
        pass  # the client is gone, before or after all has been done for it
    except BaseException:  # noqa: BLE001 # nothing of ours may go on in the server's code
        traceback.print_exc()
    finally:
        os._exit(0)


def _agreed(connection: socket.socket) -> Request | None:
    """Return the request that the client has said GO for, or None."""
    connection.sendall(GREETING)
    try:
        request = read_request(connection)
        check_sameness(request)
        os.umask(request.umask)
        os.chdir(request.folder)
    except (RefusedError, OSError, ValueError) as error:
        connection.sendall(str(error).encode() or b"it cannot read the request")
        return None
    connection.sendall(READY)
    return request if connection.recv(1) == GO else None


def _start(connection: socket.socket, request: Request, run: Callable[[Request], NoReturn]) -> None:
    keeper = os.getpid()
    # None of these ends a keeper: the flow's process gets them, and it decides.
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        try:
            _become_flow_process(connection, keeper)
            run(request)
        except BaseException:  # noqa: BLE001 # nor in the keeper's
            traceback.print_exc()
        finally:
            os._exit(1)
    for stream in request.streams:
        os.close(stream)
    status = _follow(connection, pid)
    connection.sendall(status.to_bytes(STATUS_BYTES, "big", signed=True))


def _become_flow_process(connection: socket.socket, keeper: int) -> None:
    """Die with the keeper, be in a session of our own, and take signals as a new process does."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != keeper:  # it died before we were tied to it
        os._exit(1)
    connection.close()
    os.setsid()
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _follow(connection: socket.socket, pid: int) -> int:
    """Pass the client's signals on until the flow's process has ended; return its status, negative for a signal."""
    process = os.pidfd_open(pid)
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    waiting.register(connection, select.POLLIN)
    ended = False
    while not ended:
        ready = dict(waiting.poll())
        ended = process in ready
        if connection.fileno() in ready:
            numbers = _received(connection)
            if not numbers:
                waiting.unregister(connection)
            for number in numbers or (signal.SIGKILL,):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, number)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _received(connection: socket.socket) -> bytes:
    """Return the numbers of signals that the client has got; none when it is gone."""
    try:
        return connection.recv(16)
    except OSError:
        return b""
