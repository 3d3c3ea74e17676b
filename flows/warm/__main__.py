"""`python -m flows.warm`: the warm server, on the socket that WARM_SOCKET names."""

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

from flows.warm import flow_process, fork_safety, prefect_settings
from flows.warm.client import SOCKET_VARIABLE
from flows.warm.fork_server import listen, serve
from flows.warm.installation import read_stamp
from flows.warm.preload import LIBRARIES, preload, project_modules

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def main() -> NoReturn:
    """Import the libraries, make sure that it is safe to fork, and serve until somebody ends us."""
    path = os.environ.get(SOCKET_VARIABLE)
    if not path:
        sys.exit(f"{SOCKET_VARIABLE}: expected the path of the socket to make, got none; `just up` sets it")
    began, imported = time.monotonic(), read_stamp()
    inherited = fork_safety.open_descriptors()
    # Prefect reads settings in the folder where it is imported; the runs' folders have none.
    os.chdir("/")
    preload()
    ground = prefect_settings.settle()
    flow_process.load("prefect.engine")
    wrong = [
        *fork_safety.unsafe_to_fork(inherited),
        *(f"the project's own module {name}" for name in project_modules(PROJECT_ROOT, "flows.warm")),
    ]
    if wrong:
        print(
            f"It is not safe to fork flow runs: expected nothing but modules after importing {', '.join(LIBRARIES)},"
            f" got {'; '.join(wrong)}. Take the library that brought it out of flows/warm/preload.py; until then runs"
            " start the ordinary way.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # DuckDB would list what it has not freed, fifty lines of it
    listener = listen(Path(path))
    print(f"warm after {time.monotonic() - began:.1f} s", flush=True)
    serve(listener, partial(flow_process.run, ground=ground), imported, _start_again)


def _start_again() -> NoReturn:
    print("the installed packages have changed: starting again", flush=True)
    os.chdir(PROJECT_ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "flows.warm"])  # noqa: S606 # no shell in between


if __name__ == "__main__":
    main()
