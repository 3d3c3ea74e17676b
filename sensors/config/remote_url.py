"""Parse and validate the URL and the options of a remote inbox (S3, Google Cloud Storage, SFTP).

The options go to the inbox's filesystem. The URL holds no credentials; an option names a variable for a secret, whose
value is in the environment or in the `.env` file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from sensors.config.settings import surrounding

OBJECT_STORES = ("s3", "gs")
SCHEMES = (*OBJECT_STORES, "sftp")

_CREDENTIALS = (
    "the URL must not hold credentials, it is in files and logs: put them into `.env` and name the variable under"
    " `options`, such as `password: ${SFTP_PASSWORD}`; an object store's are read from AWS_ACCESS_KEY_ID and the like"
)


@dataclass(frozen=True)
class Address:
    """The location of a remote inbox; `root` is a bucket and a prefix, or an absolute path on the server."""

    scheme: str
    root: str
    host: str = ""
    port: int | None = None
    user: str | None = None

    @classmethod
    def of(cls, url: str) -> Self:
        """Parse a URL that is valid according to `mistake_in`."""
        parts = urlsplit(url)
        if parts.scheme in OBJECT_STORES:
            return cls(parts.scheme, (parts.netloc + parts.path).rstrip("/"))
        return cls(parts.scheme, parts.path.rstrip("/") or "/", parts.hostname or "", parts.port, parts.username)


def without_slash(url: str) -> str:
    """Return the URL without trailing slashes; an SFTP URL of the server's root keeps one."""
    bare = url.rstrip("/")
    return f"{bare}/" if bare.startswith("sftp://") and not urlsplit(bare).path else bare


def mistake_in(url: str) -> str | None:
    """Return what is wrong with a URL, in words, or None.

    >>> mistake_in("ftp://host/in")
    'expected a URL that begins with s3://, gs:// or sftp://'
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading the port validates it
    except ValueError as error:
        return f"expected a URL, got none: {error}"
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
        return "expected a URL that begins with s3://, gs:// or sftp://"
    if parts.password is not None or (parts.scheme in OBJECT_STORES and "@" in parts.netloc):
        return _CREDENTIALS
    return _mistake_in_parts(parts, url)


def _mistake_in_parts(parts: SplitResult, url: str) -> str | None:
    if "?" in url or "#" in url:
        return "expected nothing behind the path: `?` and `#` mean something else in a URL; settings go under `options`"
    if not url.isprintable() or " " in parts.netloc:
        return "expected a URL without control characters"
    if parts.scheme in OBJECT_STORES and (not parts.netloc or ":" in parts.netloc):
        return f"expected {parts.scheme}://BUCKET/PREFIX; another server than the usual one goes under `options`"
    if parts.scheme == "sftp" and not (parts.hostname and parts.path):
        return "expected sftp://USER@HOST/PATH, PATH from the server's root, with :PORT if it is not 22"
    below = parts.path.rstrip("/")[1:]
    if below and any(part in {"", ".", ".."} for part in below.split("/")):
        return "expected a path without empty parts, `.` or `..`"
    return None


_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"pass(word|phrase)|secret|token|credential|(^|_)key$", re.IGNORECASE)
"""Names of options whose values are secrets; `client_keys` and `key_file` are paths and do not match."""
_OURS = frozenset(
    {"asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "session", "protocol", "host", "timeout"}
    | {"version_aware", "listings_expiry_time", "max_paths"}
)
_EXPORTED = ("AWS_", "GOOGLE_", "GCLOUD_", "SSH_AUTH_SOCK")


def export_credentials() -> None:
    """Copy the variables for the stores' libraries from `.env` into this process's environment, unless set there."""
    for name, value in surrounding().items():
        if name.startswith(_EXPORTED):
            os.environ.setdefault(name, value)


def mistakes_in(scheme: str, options: Mapping[str, Any], around: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield each wrong option's path, and what is wrong with it, in words."""
    for path, value in _leaves(options, []):
        named = _NAMED.findall(value) if isinstance(value, str) else []
        if path[0] in _OURS:
            yield path, "the sensor decides this by itself; leave it out"
        elif unset := [name for name in named if not around.get(name)]:
            yield path, f"expected {' and '.join(unset)} in the environment or in .env, got nothing"
        elif _SECRET.search(path[-1]) and not (isinstance(value, str) and _NAMED.fullmatch(value)):
            yield path, "expected the name of a variable such as ${SECRET}, whose value stands in .env, not a value"
    if scheme == "sftp" and not _is_path(options.get("known_hosts", "x")):
        yield ["known_hosts"], "expected the path of a file: the server's key is always checked"


def resolved(options: Mapping[str, Any], around: Mapping[str, str]) -> dict[str, Any]:
    """Return the options with each `${NAME}` replaced by the variable's value in `around`."""
    return {name: _resolve(value, around) for name, value in options.items()}


def secrets_in(options: Mapping[str, Any], around: Mapping[str, str]) -> frozenset[str]:
    """Return the values that no message may contain: those of variables named in options, and AWS's secrets."""
    named = [name for _, value in _leaves(options, []) if isinstance(value, str) for name in _NAMED.findall(value)]
    usual = [name for name in around if name.startswith("AWS_") and _SECRET.search(name)]
    keys = {around[name] for name in usual}
    # A variable named in options may hold the path of a key file, which may be shown; an AWS key may begin with /.
    found = {value for name in named if not (value := around.get(name, "")).startswith(os.path.sep)}
    return frozenset(value for value in keys | found if len(value) > 3)


def _leaves(value: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    if isinstance(value, Mapping):
        for name, below in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from _leaves(below, [*path, str(name)])  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list):
        for below in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _leaves(below, path)
    else:
        yield path, value


def _resolve(value: Any, around: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _NAMED.sub(lambda match: around.get(match[1], ""), value)
    if isinstance(value, Mapping):
        return {name: _resolve(below, around) for name, below in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_resolve(below, around) for below in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
