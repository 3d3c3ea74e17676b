"""Remove credentials from URLs for display and storage: they may be in a URL's user part, query and fragment."""

import re

_URL = re.compile(r"(?P<scheme>[^:/?#@]*://)?(?P<authority>[^/?#]*)(?P<path>[^?#]*)", re.DOTALL)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?P<port>:\d+)?")


def redact_url(url: str) -> str:
    """Return a URL without user, password, query and fragment.

    Accepts any text and never raises.

    >>> redact_url("https://me:secret@example.com:8080/v1/metrics?key=secret#top")
    'https://example.com:8080/v1/metrics'
    """
    scheme, host, port, path = _parts(url)
    return f"{scheme}{host}{port}{path}"


def source_name(url: str) -> str:
    """Return the name of an http source in load keys and reports: host and path.

    >>> source_name("https://me:secret@example.com:8080/v1/metrics?key=secret")
    'example.com/v1/metrics'
    """
    _, host, _, path = _parts(url)
    return f"{host.lower()}{path}"


def _parts(url: str) -> tuple[str, str, str, str]:
    parts = _URL.match(url)
    assert parts is not None  # noqa: S101 - every part of the pattern may be empty
    # Text after the host that is not a port is part of a password with an unquoted / or ? in it: it is not shown.
    host = _HOST.match(parts["authority"].rpartition("@")[2])
    assert host is not None  # noqa: S101 - every part of the pattern may be empty
    whole = host.end() == len(host.string)
    return parts["scheme"] or "", host["host"], host["port"] or "", parts["path"] if whole else ""
