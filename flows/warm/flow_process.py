"""The flow's process: a fork of the warm server becomes what `python -m prefect.engine` would be."""

import atexit
import gc
import importlib
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import NoReturn, cast

from flows.warm import prefect_settings
from flows.warm.prefect_settings import Ground
from flows.warm.request import Request

PACKAGE = __name__.partition(".")[0]
"""The package of the flows: this one's own parts are all that the server knows of it, and have to be forgotten."""


def run(request: Request, name: str = "prefect.engine", ground: Ground | None = None) -> NoReturn:
    """Run a module in the way of `python -m`, as the process that the request describes.

    `ground` is what the server's own Prefect settings were made from.
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
    """Return a module's code and a new `__main__` for it; raises ImportError."""
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
    if "__mp_main__" in sys.modules:  # multiprocessing's name for it
        sys.modules["__mp_main__"] = main
    importlib.invalidate_caches()


def _execute(code: CodeType, main: ModuleType, ground: Ground | None) -> None:
    _refresh(ground)
    exec(code, main.__dict__)  # noqa: S102 # it is what `python -m` does


def _refresh(ground: Ground | None) -> None:
    """Make anew what libraries have made of the environment or of chance when they were imported."""
    tempfile.tempdir = None
    if "numpy" in sys.modules:  # `random` and OpenSSL see to themselves
        sys.modules["numpy"].random.seed()
    if "prefect.main" in sys.modules:
        prefect_settings.refresh(ground)


def _end(work: Callable[[], None]) -> NoReturn:
    """Do the work and end as the interpreter ends, without taking every module apart, which takes 0.1 s."""
    status = _status_of(work)
    # What Py_FinalizeEx does first: threads that are no daemons are waited for, then the exit functions.
    threading._shutdown()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
    atexit._run_exitfuncs()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType]
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120  # the interpreter's own status for that
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
    except BaseException:  # noqa: BLE001 # the interpreter's own end
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
        return 1
    return 0
