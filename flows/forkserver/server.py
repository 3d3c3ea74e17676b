"""`python -m flows.forkserver.server`: the fork server, on the socket that WARM_SOCKET names, and its keepers.

The server waits for clients and forks a keeper for each; it keeps no state. The keeper of a run negotiates with the
client, starts the flow's process, and ends with it. When a client connects and the installed packages have changed
since they were imported, the server restarts itself.
"""

import ctypes
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from flows.forkserver import flow_process, settings_fingerprint
from flows.forkserver.client import FORWARDED, GO, GREETING, READY, SOCKET_VARIABLE, STATUS_BYTES, user_of
from flows.forkserver.flow_process import CannotForkError, Request, check_sameness, read_request
from flows.forkserver.preload import LIBRARIES, open_descriptors, preload, project_modules, unsafe_to_fork

_MARKS = (".dist-info", ".egg-info", ".egg-link", ".pth")
"""Suffixes of the entries that an installer writes next to each package at every installation."""

Stamp = frozenset[tuple[str, int]]


def read_stamp(folders: Iterable[str] = tuple(sys.path)) -> Stamp:
    """Return the modification times of the packages in the folders, the interpreter and this package."""
    return frozenset({*_marks(folders), *_interpreter(), *_own()})


def _marks(folders: Iterable[str]) -> Iterable[tuple[str, int]]:
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                marks = [entry for entry in entries if entry.name.endswith(_MARKS)]
        except OSError:
            continue  # a zip file, or gone
        for mark in marks:
            yield from _changed(Path(mark.path))


def _interpreter() -> Iterable[tuple[str, int]]:
    executable = Path(sys.executable)
    yield from _changed(executable)  # follows links
    yield from _changed(executable.parent.parent / "pyvenv.cfg")


def _own() -> Iterable[tuple[str, int]]:
    for file in Path(__file__).parent.glob("*.py"):
        yield from _changed(file)


def _changed(path: Path) -> Iterable[tuple[str, int]]:
    try:
        yield str(path), path.stat().st_mtime_ns
    except OSError:
        return


_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h
_prctl = ctypes.CDLL(None).prctl
"""Looked up before any fork, so that it does not delay one."""


def keep(connection: socket.socket, run: Callable[[Request], NoReturn]) -> NoReturn:
    """Be the keeper of one run: call `run` in a child process if the client sends GO, and exit when the child ends."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        request = _agreed(connection)
        if request is not None:
            _start(connection, request, run)
    except OSError:
        pass  # the client is gone
    except BaseException:  # noqa: BLE001 # must not return into the server's code
        traceback.print_exc()
    finally:
        os._exit(0)


def _agreed(connection: socket.socket) -> Request | None:
    """Return the client's request after its GO, or None if there is no agreement."""
    connection.sendall(GREETING)
    try:
        request = read_request(connection)
        check_sameness(request)
        os.umask(request.umask)
        os.chdir(request.folder)
    except (CannotForkError, OSError, ValueError) as error:
        connection.sendall(str(error).encode() or b"it cannot read the request")
        return None
    connection.sendall(READY)
    return request if connection.recv(1) == GO else None


def _start(connection: socket.socket, request: Request, run: Callable[[Request], NoReturn]) -> None:
    keeper = os.getpid()
    # These signals must not end the keeper: the flow's process gets them and decides.
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        try:
            _become_flow_process(connection, keeper)
            run(request)
        except BaseException:  # noqa: BLE001 # must not return into the keeper's code
            traceback.print_exc()
        finally:
            os._exit(1)
    for stream in request.streams:
        os.close(stream)
    status = _follow(connection, pid)
    connection.sendall(status.to_bytes(STATUS_BYTES, "big", signed=True))


def _become_flow_process(connection: socket.socket, keeper: int) -> None:
    """Die with the keeper, start a new session, and restore the default signal handlers."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != keeper:  # the keeper died before the call above
        os._exit(1)
    connection.close()
    os.setsid()
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _follow(connection: socket.socket, pid: int) -> int:
    """Forward the client's signals until the flow's process has ended; return its status, negative for a signal."""
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
    """Return the numbers of the signals that the client received; empty if the client is gone."""
    try:
        return connection.recv(16)
    except OSError:
        return b""


BACKLOG = 512
"""How many clients may wait to be accepted; further ones start without the warm server."""


def listen(path: Path) -> socket.socket:
    """Return a listening socket that only the same user can reach, replacing an earlier one. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_PATH)
    umask = os.umask(0o177)
    new = f"{path.name}.{os.getpid()}"
    try:
        # The address of a Unix socket has at most 107 bytes; the path of the state folder may be longer.
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
    """Fork a keeper for each client until the installed packages differ from `imported`, then call `start_again`."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the keepers
    while True:
        connection, _ = listener.accept()
        if read_stamp() != imported:
            listener.close()  # waiting clients start their runs without the warm server
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


PROJECT_ROOT = Path(__file__).resolve().parents[2]


def main() -> NoReturn:
    """Import the libraries, check that it is safe to fork, and serve until the process is ended."""
    os.umask(0o077)
    path = os.environ.get(SOCKET_VARIABLE)
    if not path:
        sys.exit(f"{SOCKET_VARIABLE}: expected the path of the socket to make, got none; `just up` sets it")
    began, imported = time.monotonic(), read_stamp()
    inherited = open_descriptors()
    # Prefect reads settings files of the working directory at import; the folders of runs have none.
    os.chdir("/")
    preload()
    ground = settings_fingerprint.settle()
    flow_process.load("prefect.engine")
    wrong = [
        *unsafe_to_fork(inherited),
        *(f"the project's own module {name}" for name in project_modules(PROJECT_ROOT, "flows.forkserver")),
    ]
    if wrong:
        print(
            f"It is not safe to fork flow runs: expected nothing but modules after importing {', '.join(LIBRARIES)},"
            f" got {'; '.join(wrong)}. Take the library that brought it out of flows/forkserver/preload.py; until then"
            " runs start the ordinary way.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # a normal exit would print fifty lines of objects that DuckDB has not freed
    listener = listen(Path(path))
    print(f"warm after {time.monotonic() - began:.1f} s", flush=True)
    serve(listener, partial(flow_process.run, ground=ground), imported, _start_again)


def _start_again() -> NoReturn:
    print("the installed packages have changed: starting again", flush=True)
    os.chdir(PROJECT_ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "flows.forkserver.server"])  # noqa: S606 # no shell in between


if __name__ == "__main__":
    main()
