"""The error that commands show to the user, and the conversion of other errors into it."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream
from pydantic import SecretStr, ValidationError

from sensors.config.settings import Settings, env_file, read_settings


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


# Read and check the settings, and report mistakes in `.env` or the environment line by line.


def checked_settings() -> Settings:
    """Read the settings. Raises StackError with a line for each bad value or bad line, or for an unreadable file."""
    try:
        _check_lines(env_file())
        return read_settings()
    except OSError as error:
        raise StackError(f"{env_file()}: cannot be read ({error.strerror}); make it readable") from error
    except UnicodeDecodeError as error:
        raise StackError(f"{env_file()}: expected UTF-8 text, got something else; save it as UTF-8") from error
    except ValidationError as error:
        raise StackError(*(_setting_mistake(mistake) for mistake in error.errors())) from error


def _check_lines(file: Path) -> None:
    """Raise StackError for lines that dotenv would silently ignore. Values are not shown, as they may be secrets."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        wrong = [_line_mistake(file, binding) for binding in parse_stream(lines) if _is_wrong(binding)]
    if wrong:
        raise StackError(*wrong)


def _is_wrong(binding: Binding) -> bool:
    return binding.error or (binding.key is not None and binding.value is None)


def _line_mistake(file: Path, binding: Binding) -> str:
    text = binding.original.string.lstrip("\r\n")
    line = binding.original.line + binding.original.string[: -len(text)].count("\n")
    name, separator, _ = text.partition("=")
    got = f"`{name.strip()}=...` with a space in its name or an open quote" if separator else "a line without `=`"
    return f"{file}:{line}: expected NAME=value or a comment, got {got}; correct or remove it"


def _setting_mistake(mistake: Any) -> str:
    field = str(mistake["loc"][0]) if mistake["loc"] else ""
    known = Settings.model_fields.get(field)
    is_secret = known is not None and known.annotation is SecretStr
    got = "" if is_secret or not mistake["input"] else f", got {mistake['input']!r:.80}"
    return f"{field.upper() or 'the settings'}: {mistake['msg']}{got}; correct it in .env or in the environment"
