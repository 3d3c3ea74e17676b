"""The address of a remote inbox: what its URL says, and what it must not say."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

OBJECT_STORES = ("s3", "gs")
SCHEMES = (*OBJECT_STORES, "sftp")

_CREDENTIALS = (
    "the URL must not hold credentials, it is in files and logs: put them into `.env` and name the variable under"
    " `options`, such as `password: ${SFTP_PASSWORD}`; an object store's are read from AWS_ACCESS_KEY_ID and the like"
)


@dataclass(frozen=True)
class Address:
    """Where a remote inbox is; `root` is a bucket and a prefix, or an absolute path on the server."""

    scheme: str
    root: str
    host: str = ""
    port: int | None = None
    user: str | None = None

    @classmethod
    def of(cls, url: str) -> Self:
        """Return what a URL says in which there is no mistake."""
        parts = urlsplit(url)
        if parts.scheme in OBJECT_STORES:
            return cls(parts.scheme, (parts.netloc + parts.path).rstrip("/"))
        return cls(parts.scheme, parts.path.rstrip("/") or "/", parts.hostname or "", parts.port, parts.username)


def without_slash(url: str) -> str:
    """Return the URL as it is written everywhere: without slashes at its end, unless that is all of its path."""
    bare = url.rstrip("/")
    return f"{bare}/" if bare.startswith("sftp://") and not urlsplit(bare).path else bare


def mistake_in(url: str) -> str | None:
    """Return what is wrong with a URL, in words, or None.

    >>> mistake_in("ftp://host/in")
    'expected a URL that begins with s3://, gs:// or sftp://'
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read, because that is when it is checked
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
