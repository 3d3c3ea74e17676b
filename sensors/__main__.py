"""The commands of `python -m sensors COMMAND`; the justfile calls them.

Imports are made in the commands, so that `drop` and `status` do not wait for modules that only `up` needs.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

_OURS = frozenset({"automations", "flows", "sensors"})


@contextmanager
def exit_if_missing() -> Generator[None]:
    """Exit with one line when an import inside the block needs a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        sys.exit(f"the Python package {package} is not installed in {sys.prefix}; run `just setup`")


with exit_if_missing():
    import typer

    from sensors.access.log_ins import Action
    from sensors.stack.errors import as_stack_error

app = typer.Typer(
    help="Bring the stack up, drop files into it and see how it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _record(action: Action, **details: str) -> None:
    """Record a command in the audit log."""
    from sensors.access.log_ins import audit_of
    from sensors.stack.errors import checked_settings

    audit_of(checked_settings().logs_dir).record_command(action, **details)


@app.command()
def up() -> None:
    """Start server, worker and sensor and run them until Ctrl-C."""
    from sensors.stack.up import up as bring_up

    raise typer.Exit(bring_up())


@app.command()
def run() -> None:
    """Run the sensor alone; `up` does it for you."""
    from automations.alert_service import ConfigurationError
    from sensors.config.inboxes import InboxesError
    from sensors.daemon.process import SensorRunningError
    from sensors.daemon.process import run as run_sensor
    from sensors.ledger import LedgerError
    from sensors.stack.credentials import wrong_credentials
    from sensors.stack.errors import StackError, checked_settings

    settings = checked_settings()
    if wrong := wrong_credentials(settings):
        raise StackError(*wrong)
    try:
        run_sensor(settings)
    except (InboxesError, LedgerError, SensorRunningError, ConfigurationError) as error:
        raise StackError(*str(error).splitlines()) from error


@app.command()
def demo() -> None:
    """Show a file's journey, and the alert that a broken one causes."""
    from sensors.stack.demo import demo as show

    raise typer.Exit(show())


@app.command()
def drop(
    file: Annotated[Path, typer.Argument(help="The file; it stays where it is, a copy is dropped.")],
    inbox: Annotated[str, typer.Argument(help="The inbox's name.")] = "metrics",
) -> None:
    """Copy a file into an inbox, so that the sensor sees it only when it is complete."""
    from sensors.stack.drop import drop as drop_file

    said = drop_file(file, inbox)
    _record(Action.DROP, inbox=inbox, file=file.name)
    for line in said:
        typer.echo(line)


@app.command()
def profile() -> None:
    """Show the profile, what runs on this machine, and the settings that Prefect gets; secrets are masked."""
    from rich.console import Console

    from sensors.stack.terminal import show_profile

    with as_stack_error():
        show_profile(Console(highlight=False))


@app.command()
def preview() -> None:
    """Show what would become of the files that are in the inboxes now; nothing is changed."""
    from sensors.cli.preview import lines
    from sensors.cli.preview import preview as look
    from sensors.stack.errors import checked_settings

    with as_stack_error():
        for line in lines(look(checked_settings())):
            typer.echo(line)


@app.command()
def retry(arrival: Annotated[str, typer.Argument(help="The arrival's id, as `status` shows it.")]) -> None:
    """Announce an arrival again, whatever its outcome."""
    from sensors.recovery.replay import retry as try_again
    from sensors.stack.errors import checked_settings

    with as_stack_error():
        said = try_again(checked_settings(), arrival)
        _record(Action.RETRY, arrival=arrival)
        for line in said:
            typer.echo(line)


@app.command()
def dismiss(
    what: Annotated[str | None, typer.Argument(help="An arrival's id, a file's name, or a run's id or name.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every file that was not loaded, and every run.")] = False,
) -> None:
    """Mark files that were not loaded, or a run, as settled: `status` and the page no longer list them first."""
    from datetime import UTC, datetime

    from sensors.recovery.replay import dismiss as settle
    from sensors.stack.errors import StackError, checked_settings
    from sensors.stack.status import find_run_issues

    if (what is None) is not everything:
        raise StackError("expected either an arrival's id, a file's name or a run, or --all")
    settings = checked_settings()
    with as_stack_error():
        said = settle(settings, what, datetime.now(UTC), lambda: find_run_issues(settings))
        _record(Action.DISMISS, what=what or "all")
        typer.echo(said)


@app.command()
def replay(
    file: Annotated[str | None, typer.Argument(help="A file's name: the arrivals that it is in.")] = None,
    *,
    since: Annotated[str | None, typer.Option(help="2h, 3d or a local time: the arrivals since then.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only the arrivals that failed.")] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Replace the rows that are loaded.")] = False,
    rules: Annotated[
        str, typer.Option(help="Read by the rules of the day of their `arrival`, or by those of their inbox `now`.")
    ] = "arrival",
) -> None:
    """Announce arrivals again; files that are loaded are skipped, or replaced with --reload."""
    from datetime import UTC, datetime

    from sensors.recovery.replay import Selection, moment_of
    from sensors.recovery.replay import replay as announce_again
    from sensors.stack.errors import checked_settings

    with as_stack_error():
        moment = None if since is None else moment_of(since, datetime.now(UTC))
        said = announce_again(checked_settings(), Selection(file, moment, failed), reload=reload, rules=rules)
        details = {"file": file or "", "since": since or "", "failed": str(failed), "reload": str(reload)}
        details["rules"] = rules
        _record(Action.REPLAY, **details)
        for line in said:
            typer.echo(line)


@app.command()
def rebuild(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no server; every arrival is announced again.")
    ] = False,
) -> None:
    """Make a new ledger from the arrivals on disk and Prefect's data about them; the old one is put aside."""
    from contextlib import nullcontext

    from sensors.recovery.rebuild import rebuild as make_anew
    from sensors.stack.errors import checked_settings
    from sensors.stack.server import running_server
    from sensors.stack.terminal import Terminal

    settings = checked_settings()
    with as_stack_error(), nullcontext(settings) if offline else running_server(settings, Terminal()) as access:
        said = make_anew(access, offline=offline).lines()
        _record(Action.REBUILD, offline=str(offline))
        for line in said:
            typer.echo(line)


@app.command()
def rotate_credentials() -> None:
    """Replace every password and token in `.env` by a generated one; a running stack restarts with them."""
    from sensors.stack.credentials import rotate_credentials as rotate

    rotate()


@app.command(hidden=True, context_settings={"ignore_unknown_options": True, "help_option_names": []})
def client(module: str, arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Run a Python module, such as prefect, that talks to this stack's server."""
    from sensors.stack.server import become

    become(module, arguments or [])


def main() -> None:
    """Run a command; report a user's mistake in plain lines, with exit status 1."""
    from sensors.files.permissions import take_private_umask
    from sensors.stack.errors import StackError

    take_private_umask()
    try:
        with exit_if_missing():
            app()
    except StackError as error:
        for line in error.lines:
            typer.echo(line, err=True)
        sys.exit(1)


@app.command()
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


@app.command()
def history(
    inbox: Annotated[str | None, typer.Argument(help="Only the arrivals of this inbox.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    failed: Annotated[bool, typer.Option("--failed", help="Only the arrivals that failed.")] = False,
    json: Json = False,
) -> None:
    """List the arrivals that were taken last, the newest first."""
    from sensors.cli.history import show_history
    from sensors.stack.errors import as_stack_error, checked_settings

    with as_stack_error():
        show_history(checked_settings(), inbox, limit=limit, failed=failed, as_json=json)


@app.command()
def show(
    arrival: Annotated[str, typer.Argument(help="The arrival's id, its beginning, or the name of a file of it.")],
    *,
    json: Json = False,
) -> None:
    """Show one arrival: every step with its time, its files, its run and the end of the run's log."""
    from sensors.cli.history import show_arrival
    from sensors.stack.errors import as_stack_error, checked_settings

    with as_stack_error():
        show_arrival(checked_settings(), arrival, as_json=json)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="A service, one of its processes, or alerts.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=0, max=100_000, help="How many of the last lines of each log.")] = 20,
) -> None:
    """Show the end of the services' logs."""
    from sensors.cli.logs import show_logs
    from sensors.stack.errors import checked_settings

    show_logs(checked_settings(), service, lines=lines, follow=follow)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="The files; they stay as they are.")],
    *,
    inbox: Annotated[str | None, typer.Option(help="Hold them to the rules and the table of this inbox.")] = None,
    table: Annotated[
        str | None, typer.Option(help="The table that they would go into, catalog.schema.table; without it a new one.")
    ] = None,
    json: Json = False,
    out: Annotated[str | None, typer.Option(help="Write the rows of each to FOLDER/<file name>.parquet.")] = None,
    rules: Annotated[
        str | None,
        typer.Option(help="Read and load them by the rules in this JSON or YAML file, as an inbox has them."),
    ] = None,
) -> None:
    """Show what would become of files if they were loaded; nothing is loaded.

    The exit status is 0 if all would load, 1 if some would be rejected, 2 if they cannot be checked.
    """
    from sensors.cli.check import CheckOptions, show_check

    raise typer.Exit(show_check(CheckOptions(tuple(files), inbox, table, out, rules), as_json=json))


if __name__ == "__main__":
    main()
