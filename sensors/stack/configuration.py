"""The configuration of a stack, with its mistakes told to a person."""

from typing import Any

from pydantic import ValidationError

from sensors.settings import Settings, env_file, read_settings
from sensors.stack.errors import StackError


def checked_settings() -> Settings:
    """Read the settings; raises StackError with a line for each bad value or for an unreadable file."""
    try:
        return read_settings()
    except UnicodeDecodeError as error:
        raise StackError(f"{env_file()}: expected UTF-8 text, got something else; save it as UTF-8") from error
    except ValidationError as error:
        raise StackError(*(_setting_mistake(mistake) for mistake in error.errors())) from error


def _setting_mistake(mistake: Any) -> str:
    name = str(mistake["loc"][0]).upper() if mistake["loc"] else "the settings"
    return f"{name}: {mistake['msg']}, got {mistake['input']!r:.80}; correct it in .env or in the environment"
