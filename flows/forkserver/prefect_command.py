"""`python -m flows.forkserver.prefect_command ...`: Prefect's command line with the settings cache installed."""

import os

from prefect.cli import app

from flows.forkserver.settings_cache import keep


def main() -> None:
    """Run `prefect ...`."""
    os.umask(0o077)
    keep()
    app()


if __name__ == "__main__":
    main()
