"""SQLAlchemy plugin that makes Prefect's SQLite transactions take the write lock when they begin.

Prefect begins most transactions DEFERRED: they read first and write later. If another connection has written in
between, SQLite fails the write immediately, whatever the busy timeout (SQLITE_BUSY_SNAPSHOT,
https://sqlite.org/wal.html); the server answers 503, and Prefect's client retries 2 s later. Automations start runs
this way (`create_flow_run_from_deployment`, Prefect 3.8.8): of single drops one in six started 2 s late, and of 20
simultaneous runs the last ended after 47 s instead of 18 s (measured). A transaction that begins IMMEDIATE waits for
the lock instead.

SQLAlchemy loads the plugin in the server because the database URL names it; plugins exist for applications that cannot
be modified (https://docs.sqlalchemy.org/en/20/core/connections.html, CreateEnginePlugin).
"""

from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine import CreateEnginePlugin


class WriteLockFirst(CreateEnginePlugin):
    """Turns BEGIN DEFERRED into BEGIN IMMEDIATE on an engine."""

    def update_url(self, url: URL) -> URL:
        """Return the URL unchanged: the plugin has no parameters in it."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Rewrite the engine's statements before they are executed."""
        event.listen(engine, "before_cursor_execute", _take_write_lock, retval=True)


def _take_write_lock(
    _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    return ("BEGIN IMMEDIATE" if statement == "BEGIN DEFERRED" else statement), parameters
