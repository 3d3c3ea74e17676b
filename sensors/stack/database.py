"""Prefect's PostgreSQL database: its tables made, or brought to this version, by one machine at a time."""

import psycopg

from sensors.config.profile import masked
from sensors.config.settings import Settings
from sensors.stack.errors import StackError
from sensors.stack.prefect_setup import Commands

_LOCK = int.from_bytes(b"blueprnt", "big") >> 1
"""Of all machines that start at the same time, the one that has this advisory lock migrates."""

TIMEOUT_SECONDS = 10


def migrate(settings: Settings, commands: Commands) -> None:
    """Bring the database to the version of this Prefect; waits while another machine does. Raises StackError."""
    url = libpq_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            commands.run("prefect server database upgrade", ("prefect", "server", "database", "upgrade", "--yes"))
    except psycopg.Error as error:
        raise StackError(f"DATABASE_URL {masked(url)}: {one_line(error)}") from error


def libpq_url(settings: Settings) -> str:
    """Return the database's address as PostgreSQL's own programs take it."""
    _, _, rest = settings.database_url.get_secret_value().partition("://")
    return f"postgresql://{rest}"


def one_line(error: Exception) -> str:
    """Return what an error says in one line; drivers say it in several."""
    return " ".join(str(error).split()) or type(error).__name__
