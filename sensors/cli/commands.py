"""The command-line definitions of status, history, show, logs and check, which change nothing.

Each command imports its modules itself, so that `--help` is fast.
"""

from typing import Annotated

import typer

looking = typer.Typer(rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@looking.command()
def status(
    *,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s, until Ctrl-C.")] = False,
    services: Annotated[
        bool, typer.Option("--services", help="End with 0 if every service is well, whatever runs need attention.")
    ] = False,
) -> None:
    """Say whether all is well, and what became of the files.

    The exit status is 0 if every service is well and no run needs attention, else 1.
    """
    from sensors.cli.status import show_status

    raise typer.Exit(show_status(as_json=json, watch=watch, services_only=services))


@looking.command()
def history(
    inbox: Annotated[str | None, typer.Argument(help="Only the arrivals of this inbox.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    failed: Annotated[bool, typer.Option("--failed", help="Only the arrivals that failed.")] = False,
    json: Json = False,
) -> None:
    """List the arrivals that were taken last, the newest first."""
    from sensors.cli.history import show_history
    from sensors.stack.configuration import checked_settings
    from sensors.stack.errors import as_stack_error

    with as_stack_error():
        show_history(checked_settings(), inbox, limit=limit, failed=failed, as_json=json)


@looking.command()
def show(
    arrival: Annotated[str, typer.Argument(help="The arrival's id, its beginning, or the name of a file of it.")],
    *,
    json: Json = False,
) -> None:
    """Show one arrival: every step with its time, its files, its run and the end of the run's log."""
    from sensors.cli.show import show_arrival
    from sensors.stack.configuration import checked_settings
    from sensors.stack.errors import as_stack_error

    with as_stack_error():
        show_arrival(checked_settings(), arrival, as_json=json)


@looking.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="A service, one of its processes, or alerts.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines of each log.")] = 20,
) -> None:
    """Show the end of the services' logs."""
    from sensors.cli.logs import show_logs
    from sensors.stack.configuration import checked_settings

    show_logs(checked_settings(), service, lines=lines, follow=follow)


@looking.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="The files; they stay as they are.")],
    *,
    inbox: Annotated[str | None, typer.Option(help="Hold them to the rules and the table of this inbox.")] = None,
    table: Annotated[
        str | None, typer.Option(help="The table that they would go into, catalog.schema.table; without it a new one.")
    ] = None,
    json: Json = False,
    out: Annotated[str | None, typer.Option(help="Write the rows of each to FOLDER/<file name>.parquet.")] = None,
) -> None:
    """Show what would become of files if they were loaded; nothing is loaded.

    The exit status is 0 if all would load, 1 if some would be rejected, 2 if they cannot be checked.
    """
    from sensors.checks.command import CheckOptions
    from sensors.cli.check import show_check

    raise typer.Exit(show_check(CheckOptions(tuple(files), inbox, table, out), as_json=json))
