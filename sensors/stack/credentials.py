"""The API's credentials: generated once, kept in the `.env` file."""

import os
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from sensors.access.accounts import SHORTEST, weakness
from sensors.config.settings import Auth, Settings, env_file
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
        if wrong := wrong_credentials(settings):
            raise StackError(*wrong)
        return Access(settings, tuple(notices))
    auth_string = f"{USER}:{secrets.token_urlsafe(18)}"
    _append(file, f"{VARIABLE}={auth_string}\n")
    with_credentials = settings.model_copy(update={"prefect_api_auth_string": SecretStr(auth_string)})
    if at_terminal:
        told = f"credentials of the page and the API: {auth_string} (shown only now; they are kept in {file})"
    else:
        told = f"credentials of the page and the API were generated: {VARIABLE} in {file}"
    return Access(with_credentials, (*notices, told))


def wrong_credentials(settings: Settings) -> list[str]:
    """Return what is wrong with the credentials that are set, in lines; they are not shown. Nothing with AUTH=off.

    With credentials that are easy to guess anyone who reaches the API runs commands as our user.
    """
    if settings.auth is Auth.OFF:
        return []
    wrong = [_wrong_auth_string(settings.auth_string), _wrong_token(settings.upload_token.get_secret_value())]
    return [line for line in wrong if line]


def _wrong_auth_string(auth_string: str | None) -> str | None:
    if auth_string is None:
        return None
    user, colon, password = auth_string.partition(":")
    # Prefect compares with hmac.compare_digest, which raises on text that is not ASCII.
    if not colon or not auth_string.isascii():
        problem = "got something else"
    elif not user.strip():
        problem = "got no user"
    elif weak := weakness(password, user):
        problem = f"choose another password: {weak}"
    else:
        return None
    return (
        f"{VARIABLE}: expected user:password in ASCII with at least {SHORTEST} characters of password, {problem}; "
        "correct it, or remove it to have new credentials generated"
    )


def _wrong_token(token: str) -> str | None:
    if not token or not (weak := weakness(token)):
        return None
    return f"UPLOAD_TOKEN: expected at least {SHORTEST} characters that cannot be guessed, but {weak}; set another one"


def _make_private(file: Path) -> bool:
    """Take a file's permissions away from everybody but its owner; return whether there were any."""
    try:
        mode = file.stat().st_mode
        if not mode & 0o077 or not stat.S_ISREG(mode):  # ENV_FILE=/dev/null is everyone's
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
