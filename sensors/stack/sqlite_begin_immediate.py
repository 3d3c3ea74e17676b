"""The write lock of Prefect's SQLite: taken when a transaction begins, and not when it first writes.

Prefect begins most transactions DEFERRED: they read, and then write. If another connection has written in between,
SQLite refuses the write at once, however long the busy timeout is (SQLITE_BUSY_SNAPSHOT, https://sqlite.org/wal.html);
the server answers 503, and Prefect's client asks again 2 s later. Among others that is how an automation starts a run
(`create_flow_run_from_deployment`, Prefect 3.8.8): of single drops one in six started 2 s late, and of 20 runs at once
the last ended after 47 s instead of 18 s (measured). A transaction that begins IMMEDIATE waits for its turn instead.

SQLAlchemy loads this plugin for the server because the database's URL names it: it is made for applications that
are not to be modified (https://docs.sqlalchemy.org/en/20/core/connections.html, CreateEnginePlugin).
"""

from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine import CreateEnginePlugin


class WriteLockFirst(CreateEnginePlugin):
    """Begins every transaction of an engine IMMEDIATE that would begin DEFERRED."""

    def update_url(self, url: URL) -> URL:
        """Return the URL as it is: nothing in it is for us."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Listen to the engine's statements."""
        event.listen(engine, "before_cursor_execute", _take_write_lock, retval=True)


def _take_write_lock(
    _connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> tuple[str, Any]:
    return ("BEGIN IMMEDIATE" if statement == "BEGIN DEFERRED" else statement), parameters
