"""The API's credentials: generated once, kept in the `.env` file."""

import os
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from sensors.settings import Auth, Settings, env_file
from sensors.stack.errors import StackError
from sensors.stack.terminal import Terminal

VARIABLE = "PREFECT_API_AUTH_STRING"
USER = "admin"

AUTH_OFF = (
    "AUTH=off: the API asks for no credentials; every user and every program on this machine can run "
    "deployments and read parameters, logs and blocks"
)


@dataclass(frozen=True)
class Access:
    """The settings with their credentials, and what a person has to be told about them."""

    settings: Settings
    notices: tuple[str, ...] = ()


def settle_credentials(settings: Settings, terminal: Terminal) -> Settings:
    """Return the settings with the credentials, and say on the terminal what a person has to be told about them.

    Raises StackError.
    """
    access = ensure_credentials(settings, env_file(), at_terminal=sys.stdout.isatty())
    for notice in access.notices:
        terminal.say(notice, "bold yellow")
    return access.settings


def ensure_credentials(settings: Settings, file: Path, *, at_terminal: bool) -> Access:
    """Return the settings with the credentials that the API will ask for, generating them the first time.

    New ones are appended to `file`, which is made private (0600) and otherwise left as it is. They are told only
    `at_terminal`: anything else that is written to is a log. Raises StackError when they cannot be used or written.
    """
    notices = [f"{file} was readable by others; it is private now (0600)"] if _make_private(file) else []
    if settings.auth is Auth.OFF:
        return Access(settings, (*notices, AUTH_OFF))
    if settings.auth_string is not None:
        _check(settings.auth_string)
        return Access(settings, tuple(notices))
    auth_string = f"{USER}:{secrets.token_urlsafe(18)}"
    _append(file, f"{VARIABLE}={auth_string}\n")
    with_credentials = settings.model_copy(update={"prefect_api_auth_string": SecretStr(auth_string)})
    if at_terminal:
        told = f"credentials of the page and the API: {auth_string} (shown only now; they are kept in {file})"
    else:
        told = f"credentials of the page and the API were generated: {VARIABLE} in {file}"
    return Access(with_credentials, (*notices, told))


def _check(auth_string: str) -> None:
    # Prefect compares with hmac.compare_digest, which raises on text that is not ASCII.
    if ":" not in auth_string or not auth_string.isascii():
        raise StackError(
            f"{VARIABLE}: expected user:password in ASCII, got something else; correct it, "
            "or remove it to have new credentials generated"
        )


def _make_private(file: Path) -> bool:
    """Take a file's permissions away from everybody but its owner; return whether there were any."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if not mode & 0o077:
            return False
        file.chmod(0o600)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StackError(f"{file} must be private (0600) and cannot be made so: {error.strerror}") from error
    return True


def _append(file: Path, line: str) -> None:
    try:
        written = file.read_bytes() if file.exists() else b""
        separator = "" if not written or written.endswith(b"\n") else "\n"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(separator + line)
    except OSError as error:
        raise StackError(
            f"the API's credentials cannot be written to {file}: {error.strerror}; make it writable, "
            f"or set {VARIABLE}=user:password in the environment"
        ) from error
