"""Generate, check and rotate the credentials of the API, the page and uploads, which are kept in the `.env` file.

The API's credentials are generated at the first start. Rotation replaces every password and token in `.env` and
restarts a running stack with the new ones.
"""

import errno
import os
import re
import secrets
import signal
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import psutil
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import SecretStr

from sensors.access.accounts import SHORTEST, parse_accounts, weakness
from sensors.access.log_ins import Action, audit_of
from sensors.config.settings import Auth, Settings, env_file
from sensors.files.beneath import replace_text
from sensors.runs.api import ApiError, open_api
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.state_dir import holder_of, is_held
from sensors.stack.stop import RESTART
from sensors.stack.terminal import Terminal

VARIABLE = "PREFECT_API_AUTH_STRING"
USER = "admin"

AUTH_OFF = (
    "AUTH=off: the API asks for no credentials; every user and every program on this machine can run "
    "deployments and read parameters, logs and blocks"
)


@dataclass(frozen=True)
class Credentials:
    """The settings with their credentials, and notices for the user about them."""

    settings: Settings
    notices: tuple[str, ...] = ()


def settle_credentials(settings: Settings, terminal: Terminal) -> Settings:
    """Return the settings with the credentials, and print the notices about them. Raises StackError."""
    access = ensure_credentials(settings, env_file(), at_terminal=sys.stdout.isatty())
    for notice in access.notices:
        terminal.say(notice, "bold yellow")
    return access.settings


def ensure_credentials(settings: Settings, file: Path, *, at_terminal: bool) -> Credentials:
    """Return the settings with the API's credentials, which are generated the first time.

    New credentials are appended to `file`, which is made private (0600) and otherwise left as it is. A notice contains
    them only with `at_terminal`, as any other output is a log. Raises StackError if they cannot be used or written.
    """
    notices = [notice] if (notice := _make_private(file)) else []
    if settings.auth is Auth.OFF:
        return Credentials(settings, (*notices, AUTH_OFF))
    if settings.auth_string is not None:
        if wrong := wrong_credentials(settings):
            raise StackError(*wrong)
        return Credentials(settings, tuple(notices))
    auth_string = f"{USER}:{secrets.token_urlsafe(18)}"
    _append(file, f"{VARIABLE}={auth_string}\n")
    with_credentials = settings.model_copy(update={"prefect_api_auth_string": SecretStr(auth_string)})
    if at_terminal:
        notice = f"credentials of the page and the API: {auth_string} (shown only now; they are kept in {file})"
    else:
        notice = f"credentials of the page and the API were generated: {VARIABLE} in {file}"
    return Credentials(with_credentials, (*notices, notice))


def wrong_credentials(settings: Settings) -> list[str]:
    """Return what is wrong with the credentials that are set, a line each, without showing them; empty with AUTH=off.

    Anyone who can reach the API and guess its credentials can run commands as the stack's user.
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


def _make_private(file: Path) -> str | None:
    """Remove a file's permissions for group and others; return a notice if it had any that matter.

    If they cannot be removed because another user owns the file or its file system is read-only, the file may stay
    readable. Raises StackError if it stays writable for others: they could change what the stack runs.
    """
    mode = 0
    try:
        mode = file.stat().st_mode
        if not mode & 0o077 or not stat.S_ISREG(mode):  # ENV_FILE=/dev/null is no regular file
            return None
        file.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        how = f"and cannot be made so: {error.strerror}; as its owner `chmod {mode & 0o740:04o} {file}`"
        # An administrator may own the file and let the stack's group read it (0640).
        if mode & 0o022 or error.errno not in {errno.EPERM, errno.EROFS}:
            raise StackError(f"{file} must be private (0600) {how}") from error
        return f"{file} is readable by every user of this machine {how}" if mode & 0o004 else None
    return f"{file} was readable by others; it is private now (0600)"


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


ROTATED = (VARIABLE, "UPLOAD_TOKEN", "PAGE_USERS")
RESTART_SECONDS = 240.0


def rotate_credentials() -> None:
    """Replace the credentials in `.env`, restart a running stack with them, and print what remains to be done.

    Active runs are stopped with the stack and restarted by it. Raises StackError; then nothing has changed, or only
    the file.
    """
    settings, file, terminal = checked_settings(), env_file(), Terminal()
    _check(settings)
    new = new_credentials(settings)
    _replace(file, new)
    audit_of(settings.logs_dir).record_command(Action.CREDENTIALS_ROTATED, variables=" ".join(new))
    terminal.step(f"{', '.join(new)} {'is' if len(new) == 1 else 'are'} new, in {file}")
    if is_held(settings):
        _restart(settings, terminal)
    else:
        terminal.say("the stack is not running; `just up` starts it with them")
    terminal.say("scripts, bookmarks and other machines of the installation need the new ones as well")


def _check(settings: Settings) -> None:
    wrong: list[str] = []
    if settings.auth is Auth.OFF:
        wrong.append("AUTH=off: there are no credentials to rotate; set AUTH=on in .env")
    if not settings.has_server:
        wrong.append("API_SERVERS=0: rotate the credentials where the API is, and copy PREFECT_API_AUTH_STRING here")
    # The environment overrides the file: in containers and pods it comes from a secret.
    wrong += [
        f"{name}: expected it in {env_file()} alone, got it from the environment, which wins over the file; "
        "change it where it is set, and restart"
        for name in ROTATED
        if os.environ.get(name)
    ]
    if wrong:
        raise StackError(*wrong)


def new_credentials(settings: Settings) -> dict[str, str]:
    """Return new values for the credential variables that are set; users and roles are kept."""
    user = (settings.auth_string or f"{USER}:").partition(":")[0]
    found = {VARIABLE: f"{user}:{generated()}"}
    if settings.upload_token.get_secret_value():
        found["UPLOAD_TOKEN"] = generated()
    if accounts := parse_accounts(settings.page_users.get_secret_value()):
        found["PAGE_USERS"] = " ".join(f"{one.role}={one.user}:{generated()}" for one in accounts)
    return found


def generated() -> str:
    """Return a password of 144 random bits, without characters that are special in a shell or a URL."""
    return secrets.token_urlsafe(18)


def with_values(text: str, new: Mapping[str, str]) -> str:
    """Return the text of an `.env` file with new values; everything else stays unchanged and in place.

    >>> with_values("# mine\\nA=1\\nexport B='x' # why\\n", {"B": "2", "C": "3 4"})
    '# mine\\nA=1\\nB=2\\nC="3 4"\\n'
    """
    kept: list[str] = []
    left = dict(new)
    for binding in parse_stream(StringIO(text)):
        if binding.key not in new:
            kept.append(binding.original.string)
        elif binding.key in left:  # later duplicates are dropped: the last would win
            before = re.match(r"\s*", binding.original.string)
            kept.append(f"{before[0] if before else ''}{_line(binding.key, left.pop(binding.key))}")
    end = "" if not kept or kept[-1].endswith("\n") else "\n"
    return "".join([*kept, end, *(_line(name, value) for name, value in left.items())])


def _line(name: str, value: str) -> str:
    return f'{name}="{value}"\n' if " " in value else f"{name}={value}\n"


def _replace(file: Path, new: Mapping[str, str]) -> None:
    """Write the file atomically, private (0600) and with the owner that it had. Raises StackError."""
    target = file.resolve()  # it may be a symlink to a file elsewhere
    try:
        owner = target.stat() if target.exists() else None
        text = with_values(target.read_text("utf-8") if owner else "", new)
        replace_text(target, text, mode=0o600)
        if owner is not None and os.getuid() == 0:
            os.chown(target, owner.st_uid, owner.st_gid)
        found = dotenv_values(target)
    except OSError as error:
        raise StackError(
            f"{file} cannot be written: {error.strerror}; nothing has changed. Make it writable for its folder's user"
        ) from error
    if any(found.get(name) != value for name, value in new.items()):
        raise StackError(f"{file}: expected the new credentials in it, got others; remove {', '.join(new)} and repeat")


def _restart(settings: Settings, terminal: Terminal) -> None:
    by_hand = "restart it: Ctrl-C and `just up`, or `systemctl restart`; until then the old credentials are in force"
    pid = holder_of(settings)
    if pid is None or not _restarts_on_signal(pid):
        raise StackError(
            f"the credentials are new, but the stack that runs is not one that restarts by itself; {by_hand}"
        )
    try:
        os.kill(pid, RESTART)
    except OSError as error:
        raise StackError(
            f"the credentials are new, but pid {pid} cannot be signalled ({error.strerror}); {by_hand}"
        ) from error
    with terminal.waiting("waiting for the stack to restart with them"):
        _wait(checked_settings(), pid)
    terminal.step("the API takes the new credentials")


def _restarts_on_signal(pid: int) -> bool:
    """Return whether a process handles the restart signal; the signal would end a process without a handler."""
    try:
        said = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return sys.platform != "linux" and psutil.pid_exists(pid)
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", said, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & (1 << (RESTART - 1)))


def _wait(settings: Settings, pid: int) -> None:
    deadline = time.monotonic() + RESTART_SECONDS
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid):
            break
        try:
            with open_api(settings) as api:
                api.get("/admin/version")
                return
        except ApiError:
            pass  # the server is restarting
        time.sleep(0.5)
    raise StackError("the stack does not answer with the new credentials; `just status` and `just logs` say why")


def exec_up() -> None:
    """Replace this process by a new `up`, which reads `.env` again; the process id stays the same, for systemd."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {RESTART})
    os.execv(sys.executable, [sys.executable, "-m", "sensors", "up"])  # noqa: S606 # no shell between
