"""The status on the screen: printed once, as JSON for scripts, or refreshed in place."""

import json
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live

from sensors.cli.screen import open_console
from sensors.cli.status import needs_a_person, tables
from sensors.stack.configuration import checked_settings
from sensors.stack.errors import StackError
from sensors.stack.status import Status, read_status

REFRESH_SECONDS = 2.0


def show_status(*, as_json: bool, watch: bool, services_only: bool = False) -> int:
    """Print the status, or keep it on the screen with `watch`; return the exit status.

    With `services_only` it is 1 unless every service is well: a container in which a run failed is healthy.
    Raises StackError.
    """
    settings = checked_settings()
    console = open_console()
    if watch:
        _check_that_somebody_watches(console, as_json=as_json)
        return watch_status(lambda: read_status(settings), console)
    status = read_status(settings)
    if as_json:
        print(json.dumps(status.as_json()))
    else:
        print_status(status, console)
    return int(not status.healthy) if services_only else status.exit_status


def print_status(status: Status, console: Console) -> None:
    """Print the status once; a line with a command in it is left to the terminal to break."""
    for line in needs_a_person(status):
        console.print(line, soft_wrap=True)
    console.print(tables(status))


def watch_status(look: Callable[[], Status], console: Console, pause: Callable[[float], object] = time.sleep) -> int:
    """Look again and again and show each status in the place of the one before, until Ctrl-C.

    Returns the exit status of the last look. Raises what `look` raises.
    """
    status = look()
    try:
        with Live(_whole(status), console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                pause(REFRESH_SECONDS)
                status = look()
                live.update(_whole(status), refresh=True)
    except KeyboardInterrupt:
        return status.exit_status


def _whole(status: Status) -> Group:
    return Group(*needs_a_person(status), tables(status))


def _check_that_somebody_watches(console: Console, *, as_json: bool) -> None:
    if as_json:
        raise StackError("--watch draws on a terminal and --json is for scripts: leave one of them out")
    if not console.is_terminal:
        raise StackError("--watch needs a terminal to draw on, the output goes elsewhere; leave it out, or use --json")
