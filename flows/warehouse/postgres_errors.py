"""Classify PostgreSQL's errors: the file is rejected, a retry may help, or a person has to fix something.

The patterns match SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from flows.errors import PermanentError, PipelineError, RowRejectedError, StillInUseError, TemporaryError
from flows.sql_names import LOADS_TABLE

_REFUSALS = re.compile(r"22...|23...|42P10|428C9|44000|54...|P0001")
"""Data exceptions, constraint violations, generated columns, a view's check option, limits on the row size and the
number of columns, and errors raised by a trigger."""
_FOR_A_PERSON = re.compile(r"28...|3D000|42501|42809|42939|42602|42622|0A000|3F000")
"""Login, a missing database, missing privileges, a target that is no table, names."""
_LOST = re.compile("08...|57P0.")
"""The connection failed, or the server or an administrator ended the session."""
_LOCK_TIMEOUT = "55P03"
_NUL = "22021"
_KEY = re.compile(r"[^()]+\([^()]*\)=\(")
"""Matches a detail such as `Key (a)=(1) already exists.`; other details quote whole rows."""
_QUOTED = re.compile(r'^COPY .*?, line \d+, column (?P<column>.*?): "(?P<value>.*)"', re.DOTALL | re.MULTILINE)
"""The value that COPY quotes; its line number counts the lines that were sent, not those of the file."""


@contextmanager
def explained(shown: str, wait_seconds: float) -> Generator[None, None, None]:
    """Translate PostgreSQL's errors raised in the block; `shown` is the database's address, for messages.

    Raises RefusedError, TemporaryError, PermanentError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error, shown, wait_seconds) from None


def meaning(error: psycopg.Error, shown: str, wait_seconds: float) -> PipelineError | RowRejectedError:
    """Return the pipeline's error for a PostgreSQL error."""
    state, said = error.sqlstate, said_by(error)
    if state is None or _LOST.fullmatch(state):
        return TemporaryError(f"the connection to {shown} is lost: {said}; what was not committed is rolled back")
    if state == psycopg.errors.UniqueViolation.sqlstate and error.diag.table_name == LOADS_TABLE:
        return TemporaryError("another run has just loaded a file of this arrival; it is skipped when this one goes on")
    if _REFUSALS.fullmatch(state):
        return _refused(error, said)
    if state == _LOCK_TIMEOUT:
        return StillInUseError(
            f"waited for {wait_seconds:g} s for another session of {shown} that has locked the table, or loads the same"
            " arrival; end it, or set WAREHOUSE_WAIT_SECONDS to wait longer"
        )
    if _FOR_A_PERSON.fullmatch(state):
        return PermanentError(
            f"{shown}: {said}; docs/warehouse.md says what the user of WAREHOUSE_URL has to be granted"
        )
    return TemporaryError(f"{shown}: {said}")


def said_by(error: psycopg.Error) -> str:
    """Return an error's message in one line; it never contains a password."""
    message = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(message.split())


def _refused(error: psycopg.Error, said: str) -> RowRejectedError:
    if error.sqlstate == _NUL and said.endswith("0x00"):
        return RowRejectedError("holds a NUL character, which PostgreSQL cannot store", value="\0")
    detail = error.diag.message_detail or ""
    if _KEY.match(detail):
        return RowRejectedError(f"{said}: {detail}")
    quoted = _QUOTED.search(error.diag.context or "")
    return RowRejectedError(said, quoted["column"], quoted["value"]) if quoted else RowRejectedError(said)
