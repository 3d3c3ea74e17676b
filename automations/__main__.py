"""Command line: `python -m automations plan|apply|export|check|alert-test`.

PREFECT_API_URL names the server for the first three; the other two need no server.
"""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from automations.as_code.drift import OWNER

if TYPE_CHECKING:
    from automations.as_code.diff import Changes

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Keep automations in files, and apply them to a Prefect server."""


Folder = Annotated[Path | None, typer.Argument(help="Another folder of automations than this project's.")]
Owner = Annotated[
    str,
    typer.Option(
        help="Whose automations these are; no other owner's are ever deleted. For another folder its name.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def plan(folder: Folder = None, *, owner: Owner = "", as_json: AsJson = False) -> None:
    """Show what `apply` would do; exit status 0 if nothing, 2 if there are changes, 1 if something is wrong."""
    from automations.as_code import plan as applying  # deferred: importing Prefect takes 2 s, too long for --help

    with _problems_told():
        changes = applying.plan(folder or applying.FOLDER, owner=owner or _owner(folder))
        _tell(changes, as_json=as_json)
    raise typer.Exit(2 if changes.changed else 0)


@app.command()
def apply(folder: Folder = None, *, owner: Owner = "", as_json: AsJson = False) -> None:
    """Apply the automations of a folder to the server; this project's notification blocks with its own automations."""
    from automations.as_code import plan as applying

    with _problems_told():
        _tell(applying.apply(folder or applying.FOLDER, owner=owner or _owner(folder)), as_json=as_json)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")] = False,
) -> None:
    """Export the automations of the server as files; exit status 1 if one cannot be written."""
    from automations.as_code.export import export as write

    with _problems_told():
        result = write(folder, force=force)
    for path in result.written:
        typer.echo(path)
    for problem in result.left_out:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if result.left_out else 0)


def _owner(folder: Path | None) -> str:
    return OWNER if folder is None else folder.resolve().name


def _tell(changes: "Changes", *, as_json: bool) -> None:
    from automations.as_code.diff import show

    if as_json:
        typer.echo(json.dumps(changes.as_json()))
    else:
        show(changes, Console(soft_wrap=True, highlight=False))


@contextmanager
def _problems_told() -> Generator[None]:
    from automations.errors import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        raise typer.Exit(1) from None


@app.command()
def check() -> None:
    """Check the NOTIFY settings, without a server; exit status 1 if anything is wrong."""
    from automations.settings import wrong_settings

    problems = wrong_settings()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    raise typer.Exit(1 if problems else 0)


@app.command()
def alert_test() -> None:
    """Send one alert of each kind to where real alerts would go; exit status 1 if one did not arrive."""
    from datetime import UTC, datetime

    from rich.table import Table
    from rich.text import Text

    from automations.alert_service import automations_in_files
    from automations.delivery.events import samples, send
    from automations.settings import read_settings

    with _problems_told():
        policy = read_settings().policy
    page = os.environ.get("PREFECT_API_URL", "http://127.0.0.1:4200/api").removesuffix("/api")
    table = Table("kind", "subject", "to", "result", box=None, pad_edge=False)
    console = Console(highlight=False)
    failed = False
    with console.status("sending"):
        for one in send(samples(automations_in_files(), datetime.now(UTC), page), policy):
            failed |= one.failure is not None
            result = Text("delivered", "green") if one.failure is None else Text(one.failure, "red")
            table.add_row(one.kind, Text(one.subject), one.channel, result)
    console.print(table)
    raise typer.Exit(1 if failed else 0)


def run() -> None:
    """Run a command; the files that it keeps in STATE_DIR are accessible to its user only."""
    os.umask(0o077)
    app()


if __name__ == "__main__":
    run()
