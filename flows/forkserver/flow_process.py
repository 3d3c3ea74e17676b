"""Turn a fork of the warm server into the process that `python -m prefect.engine` would be.

A request whose process would differ from the server's in a way that cannot be changed after the start is refused.
"""

import atexit
import gc
import importlib
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import NoReturn, cast

from flows.forkserver import settings_fingerprint
from flows.forkserver.settings_fingerprint import SettingsFingerprint

STREAMS = 3
"""Standard input, output and error."""

FIXED_AT_START = (
    "PYTHON",
    "HOME",
    "LANG",
    "LC_",
    "LD_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "SSL_CERT_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
)
"""Prefixes of environment variables that are read only when a process starts or a library is imported."""


class CannotForkError(Exception):
    """A request that the warm server cannot serve; the client falls back to `python -m prefect.engine`."""


@dataclass(frozen=True)
class Request:
    """A client's request; `streams` are open descriptors of this process."""

    executable: str
    folder: str
    umask: int
    environment: dict[bytes, bytes]
    streams: tuple[int, ...]


def read_request(connection: socket.socket) -> Request:
    """Read a request. Raises RefusedError, ConnectionError if the client is gone, OSError."""
    head, streams, _, _ = socket.recv_fds(connection, 4, STREAMS)
    executable, folder, umask, *variables = _read(connection, int.from_bytes(_read(connection, 4, head), "big")).split(
        b"\0"
    )
    if len(streams) != STREAMS:
        raise CannotForkError(f"expected {STREAMS} standard streams, got {len(streams)}")
    environment = dict(variable.split(b"=", 1) for variable in variables)
    return Request(os.fsdecode(executable), os.fsdecode(folder), int(umask), environment, tuple(streams))


def check_sameness(request: Request, own: Mapping[bytes, bytes] = os.environb) -> None:
    """Raise RefusedError if the request needs another interpreter or other FIXED_AT_START variables than this process.

    `own` is the environment of this process.
    """
    if request.executable != sys.executable:
        raise CannotForkError(f"the warm server runs {sys.executable}, not {request.executable}")
    names = {*request.environment, *own}
    different = sorted(
        os.fsdecode(name)
        for name in names
        if os.fsdecode(name).startswith(FIXED_AT_START) and request.environment.get(name) != own.get(name)
    )
    if different:
        raise CannotForkError(f"the warm server was started with another {', '.join(different)}")


def _read(connection: socket.socket, size: int, got: bytes = b"") -> bytes:
    chunks = bytearray(got)
    while len(chunks) < size:
        more = connection.recv(min(size - len(chunks), 1 << 20))
        if not more:
            raise ConnectionError(f"the client hung up after {len(chunks)} of {size} bytes")
        chunks += more
    return bytes(chunks)


PACKAGE = __name__.partition(".")[0]
"""The package of the flows. The server has only its own modules of it imported; a run must import all of it anew."""


def run(request: Request, name: str = "prefect.engine", ground: SettingsFingerprint | None = None) -> NoReturn:
    """Run a module as `python -m` does, as the process that the request describes.

    `ground` is the fingerprint of the server's own Prefect settings.
    """
    code, main = load(name)
    _take_streams(request)
    os.environ.clear()
    os.environb.update(request.environment)
    time.tzset()
    _take_path(request, main)
    gc.enable()
    _end(lambda: _execute(code, main, ground))


def load(name: str) -> tuple[CodeType, ModuleType]:
    """Return a module's code and a new `__main__` for it. Raises ImportError."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"expected a module {name}, found none")
    code = cast("CodeType | None", spec.loader.get_code(name))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    if code is None:
        raise ImportError(f"the module {name} has no code")
    main = ModuleType("__main__")
    main.__dict__.update(__file__=spec.origin, __spec__=spec, __loader__=spec.loader, __package__=spec.parent)
    main.__dict__["__cached__"] = spec.cached
    return code, main


def _take_streams(request: Request) -> None:
    for target, source in enumerate(request.streams):
        os.dup2(source, target)
        os.close(source)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream.isatty() or stream is sys.stderr)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def _take_path(request: Request, main: ModuleType) -> None:
    sys.argv = [str(main.__file__)]
    if not sys.flags.safe_path:
        sys.path[0] = request.folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # multiprocessing's name for __main__
        sys.modules["__mp_main__"] = main
    importlib.invalidate_caches()


def _execute(code: CodeType, main: ModuleType, ground: SettingsFingerprint | None) -> None:
    _refresh(ground)
    exec(code, main.__dict__)  # noqa: S102 # as `python -m` does


def _refresh(ground: SettingsFingerprint | None) -> None:
    """Reset the state that libraries derived from the environment or from random numbers when they were imported."""
    tempfile.tempdir = None
    if "numpy" in sys.modules:  # `random` and OpenSSL reseed themselves after a fork
        sys.modules["numpy"].random.seed()
    if "prefect.main" in sys.modules:
        settings_fingerprint.refresh(ground)


def _end(work: Callable[[], None]) -> NoReturn:
    """Do the work and end as the interpreter does, but skip the teardown of all modules, which takes 0.1 s."""
    status = _status_of(work)
    # The first steps of Py_FinalizeEx: wait for non-daemon threads, then run the exit functions.
    threading._shutdown()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
    atexit._run_exitfuncs()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120  # as the interpreter does
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _status_of(work: Callable[[], None]) -> int:
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
        return -signal.SIGINT
    except BaseException:  # noqa: BLE001 # as the interpreter does
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
        return 1
    return 0
