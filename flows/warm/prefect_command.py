"""`python -m flows.warm.prefect_command ...`: Prefect's command line, in a process that keeps its settings as text."""

from prefect.cli import app

from flows.warm.settings_text import keep


def main() -> None:
    """Run what `prefect ...` would."""
    keep()
    app()


if __name__ == "__main__":
    main()
