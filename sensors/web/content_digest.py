"""Content-Digest: a client says what it sends, and we look whether it came so (RFC 9530)."""

import base64
import binascii
import re

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""The two that RFC 9530 calls active, with hashlib's names for them."""
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?")


class DigestError(ValueError):
    """The header cannot be read; the message says what was expected."""


def expected_digests(header: str | None) -> dict[str, bytes]:
    """Return the digests that a Content-Digest header promises, by hashlib's names; raises DigestError.

    Algorithms that we do not know are left aside, as the RFC has it.

    >>> expected_digests("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:").keys()
    dict_keys(['sha256'])
    """
    found: dict[str, bytes] = {}
    for member in filter(str.strip, (header or "").split(",")):
        matched = _MEMBER.fullmatch(member)
        if matched is None:
            raise DigestError(f"Content-Digest: expected sha-256=:<base64>:, got {member.strip()!r:.100}")
        name, encoded = matched.groups()
        if name in ALGORITHMS:
            found[ALGORITHMS[name]] = _decoded(encoded)
    return found


def content_digest(sha256: bytes) -> str:
    """Return the header for what has come."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DigestError(f"Content-Digest: expected base64 between colons, got {encoded!r:.100}") from error
