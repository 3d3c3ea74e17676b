"""What PostgreSQL's errors mean for a load: a file is refused, trying again may help, or a person has to see to it."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from flows.errors import PermanentError, PipelineError, RefusedError, StillInUseError, TemporaryError
from flows.sql_names import LOADS_TABLE

_REFUSALS = re.compile(r"22...|23...|42P10|428C9|44000|54...|P0001")
"""Data, constraints, columns that compute themselves, a view's check, the size of a row or the number of columns, and
what a trigger objects to."""
_FOR_A_PERSON = re.compile(r"28...|3D000|42501|42809|42939|42602|42622|0A000|3F000")
"""Who may log in, a database that is not there, missing privileges, what is no table, names."""
_LOST = re.compile("08...|57P0.")
"""The server, or somebody by way of it, has ended the session."""
_LOCK_TIMEOUT = "55P03"
_NUL = "22021"
_KEY = re.compile(r"[^()]+\([^()]*\)=\(")
"""A detail such as `Key (a)=(1) already exists.`; others quote whole rows."""
_QUOTED = re.compile(r'^COPY .*?, line \d+, column (?P<column>.*?): "(?P<value>.*)"', re.DOTALL | re.MULTILINE)
"""Where COPY says that a value stands; its line is one of what we sent, not of the file."""


@contextmanager
def explained(shown: str, wait_seconds: float) -> Generator[None, None, None]:
    """Turn PostgreSQL's errors into ours; `shown` is the database's address, for messages.

    Raises RefusedError, TemporaryError, PermanentError.
    """
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error, shown, wait_seconds) from None


def meaning(error: psycopg.Error, shown: str, wait_seconds: float) -> PipelineError | RefusedError:
    """Return what an error means."""
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
    """Return what an error says, in one line; it never holds a password."""
    message = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(message.split())


def _refused(error: psycopg.Error, said: str) -> RefusedError:
    if error.sqlstate == _NUL and said.endswith("0x00"):
        return RefusedError("holds a NUL character, which PostgreSQL cannot store", value="\0")
    detail = error.diag.message_detail or ""
    if _KEY.match(detail):
        return RefusedError(f"{said}: {detail}")
    quoted = _QUOTED.search(error.diag.context or "")
    return RefusedError(said, quoted["column"], quoted["value"]) if quoted else RefusedError(said)
