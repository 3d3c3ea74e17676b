"""The tables on the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tests.benchmarks.part import Grid, console
from tests.benchmarks.results import Comparison


def show(grid: Grid) -> None:
    """Print a table."""
    table = Table(title=Text(grid.title, "bold"), title_justify="left")
    for n, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if n else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    console.print(table)


def show_comparison(version: str, compared: Sequence[Comparison]) -> None:
    """Print the figures next to those of the release before, and flag what is slower now."""
    table = Table(title=Text(f"Next to {version}", "bold"), title_justify="left")
    for n, column in enumerate(("figure", version, "now", "times", "")):
        table.add_column(column, justify="right" if n in {1, 2, 3} else "left")
    for one in compared:
        unit = one.figure.unit
        values = (f"{value:,.3g} {unit}" for value in (one.before.median, one.figure.median))
        flag = Text("SLOWER", "bold red") if one.is_slower else Text("")
        table.add_row(one.figure.name, *values, f"{one.ratio:.2f}", flag)
    console.print(table)
