"""The error that commands show to the user, and the conversion of other errors into it."""

from collections.abc import Generator
from contextlib import contextmanager


class StackError(Exception):
    """An error that the user has to correct.

    Each argument is one line that says what was expected, what was found and what to do.
    """

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, line by line."""
        return tuple(str(line) for line in self.args)


@contextmanager
def as_stack_error() -> Generator[None]:
    """Convert errors of the ledger, the inboxes, the recovery commands and Prefect's API into StackError."""
    import sqlite3

    from sensors.config.inboxes import InboxesError
    from sensors.ledger import LedgerError
    from sensors.ledger.database import refusal_of
    from sensors.recovery.rebuild import RebuildError
    from sensors.recovery.replay import DismissalError, ReplayError
    from sensors.runs.api import ApiError

    try:
        yield
    except (DismissalError, InboxesError, LedgerError, RebuildError, ReplayError) as error:
        raise StackError(*str(error).splitlines()) from error
    except ApiError as error:
        raise StackError(f"the server gave no usable answer: {error}; `just status` says how it is") from error
    except sqlite3.Error as error:
        raise StackError(refusal_of(error)) from error
