"""The logs of the services on the terminal: the last lines of each, and what comes then."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from sensors.cli.harmless import plain
from sensors.cli.log_tail import LogTail
from sensors.cli.screen import open_console
from sensors.config.admission_part import readable
from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from sensors.stack.services import log_file, programs

OTHERS = ("alerts", "supervisor")
"""Logs that are no service's: every alert, and what supervisord says of the services."""
EVERY_SECONDS = 0.25
_STYLES = ("cyan", "green", "magenta", "blue", "yellow", "red")


def show_logs(settings: Settings, service: str | None, *, lines: int, follow: bool) -> None:
    """Print the last lines of all logs, or of one service's, and with `follow` what comes until Ctrl-C.

    Raises StackError for a name that is none.
    """
    names = log_names(settings, service)
    if not follow and not any(log_file(settings, name).exists() for name in names):
        raise StackError(f"there is no log of {', '.join(names)} in {settings.logs_dir}; `just up` starts the services")
    view_logs(settings, names, open_console(), lines=lines, follow=follow)


def log_names(settings: Settings, service: str | None) -> list[str]:
    """Return the logs that are meant: all, a service's, which may have several processes, or one process's.

    Raises StackError that lists what there is.
    """
    all_programs = programs(settings)
    if service is None:
        return [*(program.name for program in all_programs), OTHERS[0]]
    if service in OTHERS:
        return [service]
    if found := [program.name for program in all_programs if service in {program.service.value, program.name}]:
        return found
    there_is = dict.fromkeys(name for program in all_programs for name in (program.service.value, program.name))
    raise StackError(f"there is no service {readable(service)}; there is {', '.join([*there_is, *OTHERS])}")


def view_logs(
    settings: Settings,
    names: Sequence[str],
    console: Console,
    *,
    lines: int,
    follow: bool,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Print the logs of these names; of several each line says whose it is."""
    width = max(map(len, names)) if len(names) > 1 else 0
    tails = {name: LogTail(log_file(settings, name)) for name in names}
    styles = {name: _STYLES[place % len(_STYLES)] for place, name in enumerate(names)}

    def show(name: str, said: Sequence[str]) -> None:
        for line in said:
            text = Text(f"{name:<{width}} | " if width else "").append_text(plain(line))
            text.stylize(styles[name], 0, width)
            console.print(text, soft_wrap=True)

    try:
        for name, tail in tails.items():
            show(name, tail.last(lines))
        while follow:
            pause(EVERY_SECONDS)
            for name, tail in tails.items():
                show(name, tail.more())
    except KeyboardInterrupt:
        return
    finally:
        for tail in tails.values():
            tail.close()
