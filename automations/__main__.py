"""The command line: `python -m automations apply`."""

import sys

import typer
from rich.console import Console

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Keep the automations of this project on its Prefect server."""


@app.command()
def apply() -> None:
    """Create or update the alert block and every automation of this folder."""
    from automations.applying.apply import apply as put_on_server  # here: Prefect takes 2 s, too long for --help
    from automations.problem import ConfigurationError

    try:
        result = put_on_server()
    except ConfigurationError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        raise typer.Exit(1) from None
    Console(soft_wrap=True).print(result.table())


@app.command()
def check() -> None:
    """Tell which NOTIFY_URLS Apprise does not understand, without a server; exit status 1 if there are any."""
    from automations.alerting.delivery import misunderstood
    from automations.problem import ConfigurationError, Problem
    from automations.settings import read_settings

    try:
        urls = read_settings().notify_urls.get_secret_value().split()
        problems = tuple(Problem("NOTIFY_URLS", what) for what in misunderstood(urls))
    except ConfigurationError as error:
        problems = error.problems
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    raise typer.Exit(1 if problems else 0)


if __name__ == "__main__":
    app()
