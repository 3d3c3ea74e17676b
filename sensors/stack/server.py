"""Give commands access to this stack's Prefect server, which is started for them while the stack is down."""

import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from sensors.config.settings import Settings
from sensors.files.permissions import make_state_folder
from sensors.runs.api import ApiError, NoServerError, open_api
from sensors.stack import processes
from sensors.stack.credentials import settle_credentials
from sensors.stack.environment import client_environment, stack_environment, surrounding
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.health import check
from sensors.stack.preflight import NoAddressError, taken_by
from sensors.stack.services import Service, newest_log, programs
from sensors.stack.state_dir import hold_state_folder
from sensors.stack.stop import take_down
from sensors.stack.supervisor import Supervisor
from sensors.stack.terminal import Terminal, tail

HEALTHY_SECONDS = 180.0


@contextmanager
def running_server(settings: Settings, terminal: Terminal) -> Generator[Settings]:
    """Make Prefect's server available inside the block: the running one, or a temporary one while the stack is down.

    Yields the settings with the server's credentials. Raises StackError if the server cannot be started.
    """
    if not settings.has_server or check(settings, Service.SERVER).healthy:
        yield settings
        return
    try:
        held = hold_state_folder(settings, terminal.say)
    except StackError:  # a stack holds it but has no healthy server now; the caller's request fails and reports why
        yield settings
        return
    with held:
        processes.sweep(settings.state_dir, grace_seconds=3)
        try:
            listener = taken_by(settings.api_port, settings.api_host)
        except NoAddressError as error:
            raise StackError(f"API_HOST: {error}") from error
        if listener:
            raise StackError(f"API_PORT {settings.api_port} is taken by {listener}; stop it or set another port")
        settings = settle_credentials(settings, terminal)
        with _started(settings, terminal):
            yield settings


@contextmanager
def _started(settings: Settings, terminal: Terminal) -> Generator[None]:
    server = [program for program in programs(settings) if program.service in {Service.SERVER, Service.BALANCER}]
    environment = stack_environment(settings, surrounding())
    with Supervisor(settings, server, environment, lambda incident: terminal.say(incident.message)) as supervisor:
        try:
            terminal.say("the stack is down; its server is started for as long as it is needed")
            supervisor.wait_until_it_answers()
            for service in (Service.SERVER, Service.BALANCER):
                supervisor.start(service)
            _wait(settings, terminal, supervisor)
            yield
        finally:
            take_down(settings, supervisor)


def _wait(settings: Settings, terminal: Terminal, supervisor: Supervisor) -> None:
    log = newest_log(settings, Service.SERVER)
    deadline = terminal.seconds + HEALTHY_SECONDS
    with terminal.waiting("waiting for the server"):
        while not (health := check(settings, Service.SERVER)).healthy:
            if supervisor.given_up(Service.SERVER) or not supervisor.alive or terminal.seconds > deadline:
                raise StackError(
                    f"the server does not come up: {health.detail}; last lines of {log}:",
                    *(f"    {line}" for line in tail(log)),
                )
            time.sleep(0.2)


_WITHOUT_SERVER = frozenset({"config", "help", "init", "profile", "profiles", "server", "version"})
"""Prefect's commands that do not use a server, or start one."""


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python -m MODULE ARGUMENT...` with this stack's address and credentials.

    Raises StackError if a Prefect command needs the server and the server is not running.
    """
    settings = checked_settings()
    with suppress(OSError):  # the command itself reports it, if it needs the folder
        make_state_folder(settings.state_dir)
    if module == "prefect" and needs_server(arguments):
        _look_for_server(settings)
    environment = client_environment(settings, surrounding())
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606


def needs_server(arguments: Sequence[str]) -> bool:
    """Return whether a Prefect command uses the server.

    >>> needs_server(["--no-prompt", "deploy", "--all"]), needs_server(["deploy", "--help"]), needs_server(["version"])
    (True, False, False)
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    return bool(words) and words[0] not in _WITHOUT_SERVER and not {"--help", "-h"} & {*arguments}


def _look_for_server(settings: Settings) -> None:
    try:
        with open_api(settings) as api:
            api.get("/health")
    except NoServerError as error:
        why = f"{settings.api_url}: no Prefect server answers ({error.__cause__})"
        raise StackError(f"{why}; start it with `just up`, or set API_PORT") from error
    except (ApiError, ValueError):
        return  # the server listens; the command itself reports other errors
