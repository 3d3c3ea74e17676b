"""Commands that talk to this stack's server."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import httpx

from sensors.config.settings import Settings
from sensors.files.permissions import make_state_folder
from sensors.stack.api import open_api
from sensors.stack.configuration import checked_settings
from sensors.stack.environment import client_environment, surrounding
from sensors.stack.errors import StackError

_WITHOUT_SERVER = frozenset({"config", "help", "init", "profile", "profiles", "server", "version"})
"""The commands of Prefect's that have nothing to do with a server, or start one."""


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python -m MODULE ARGUMENT...` with this stack's address and credentials.

    Raises StackError when a command of Prefect's needs the server and nobody listens there.
    """
    settings = checked_settings()
    with suppress(OSError):  # which the command itself reports, if it needs the folder
        make_state_folder(settings.state_dir)
    if module == "prefect" and needs_server(arguments):
        _look_for_server(settings)
    environment = client_environment(settings, surrounding())
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606


def needs_server(arguments: Sequence[str]) -> bool:
    """Tell whether a command of Prefect's talks to the server.

    >>> needs_server(["--no-prompt", "deploy", "--all"]), needs_server(["deploy", "--help"]), needs_server(["version"])
    (True, False, False)
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    return bool(words) and words[0] not in _WITHOUT_SERVER and not {"--help", "-h"} & {*arguments}


def _look_for_server(settings: Settings) -> None:
    try:
        with open_api(settings) as api:
            api.get("/health")
    except httpx.ConnectError as error:
        raise StackError(
            f"{settings.api_url}: no Prefect server answers ({error}); start it with `just up`, or set API_PORT"
        ) from error
    except httpx.HTTPError:
        return  # it listens; what is wrong with it the command itself will tell
