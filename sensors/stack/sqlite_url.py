"""The address of Prefect's SQLite, made without SQLAlchemy, which takes 0.7 s to import."""

from pathlib import Path

PLUGIN = "write-lock-first"
"""What sensors/stack/sqlite_begin_immediate.py is called in a URL; pyproject.toml has it as well."""


def database_url(prefect_home: Path) -> str:
    """Return the URL of the database that Prefect keeps in its home, with the plugin."""
    return f"sqlite+aiosqlite:///{prefect_home / 'prefect.db'}?plugin={PLUGIN}"
