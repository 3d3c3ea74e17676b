"""Users and roles of the drop page, credential checks in constant time, and rejection of weak passwords."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHORTEST = 8
"""Minimum characters of a password or token (NIST SP 800-63B, 5.1.1.1); generated ones have 24."""
_WELL_KNOWN = frozenset({"change-me", "changeme", "change_me", "password", "passw0rd", "12345678", "prefect", "secret"})


class Role(StrEnum):
    """The permissions of an account on the drop page; each role includes those before it."""

    LOOK = "look"
    """See everything: inboxes, arrivals, reasons, and download files."""
    DROP = "drop"
    """Also upload files."""
    OPERATE = "operate"
    """Also retry and dismiss."""

    @property
    def included(self) -> frozenset["Role"]:
        """This role and the roles that it includes."""
        order = list(Role)
        return frozenset(order[: order.index(self) + 1])


@dataclass(frozen=True)
class Visitor:
    """The account behind a request."""

    name: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        """Return whether the account has a role."""
        return role in self.roles


ANYONE = Visitor("anyone", Role.OPERATE.included)
"""Any visitor while AUTH=off."""
UPLOADER = Visitor("upload token", frozenset({Role.DROP}))
"""A client that sends UPLOAD_TOKEN: it may upload files and see nothing."""


@dataclass(frozen=True)
class Account:
    """A user of the drop page with password and role."""

    user: str
    password: str
    role: Role

    @property
    def visitor(self) -> Visitor:
        """The visitor of a request with this account's credentials."""
        return Visitor(self.user, self.role.included)


def account_of(auth_string: str, role: Role) -> Account:
    """Return the account of `user:password`."""
    user, _, password = auth_string.partition(":")
    return Account(user, password, role)


def basic_credentials(authorization: str) -> bytes | None:
    """Return `user:password` of an Authorization header, or None if it is another scheme or malformed."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def bearer_token(authorization: str) -> str | None:
    """Return the token of an Authorization header, or None if it is another scheme."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def same(given: bytes, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given, expected.encode())


def find_account(credentials: bytes, accounts: Sequence[Account]) -> Account | None:
    """Return the account of `user:password`; always compares all accounts, so that the time reveals nothing."""
    found = [one for one in accounts if same(credentials, f"{one.user}:{one.password}")]
    return found[0] if found else None


def weakness(secret: str, user: str = "") -> str | None:
    """Return why a password or token is too weak, in words; None if it is strong enough.

    >>> weakness("journeys", "admin"), weakness("adminadmin", "adminadmin")
    (None, 'it is the same as the user name')
    """
    if not secret:
        return "it is empty"
    if secret.lower() in _WELL_KNOWN or "change-me" in secret.lower():
        return "it is an example that everyone knows"
    if user and secret.lower() == user.lower():
        return "it is the same as the user name"
    if len(secret) < SHORTEST:
        return f"it has fewer than {SHORTEST} characters"
    if len(set(secret)) < 4:
        return "it has fewer than 4 different characters"
    return None


def parse_accounts(text: str) -> tuple[Account, ...]:
    """Parse PAGE_USERS: `role=user:password`, separated by spaces.

    Raises ValueError that lists every mistake; its message contains no password.

    >>> [one.user for one in parse_accounts("look=anna:correct-horse drop=plant:battery-staple")]
    ['anna', 'plant']
    """
    found: list[Account] = []
    wrong: list[str] = []
    for number, entry in enumerate(text.split(), start=1):
        role, _, auth_string = entry.partition("=")
        user, colon, password = auth_string.partition(":")
        problem = _problem(role, user, colon, password, {one.user for one in found})
        if problem:
            wrong.append(f"entry {number}{f' ({user})' if colon and user.isprintable() else ''}: {problem}")
        else:
            found.append(Account(user, password, Role(role)))
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(found)


def _problem(role: str, user: str, colon: str, password: str, taken: set[str]) -> str | None:
    if role not in set(Role):
        return f"expected {', '.join(Role)} before the `=`, as in look=anna:password"
    if not user or not colon:
        return "expected user:password after the `=`, as in look=anna:password"
    if not (user + password).isascii():
        return "expected ASCII, as browsers disagree on how to send anything else"
    if user in taken:
        return "the user is there twice"
    weak = weakness(password, user)
    return f"choose another password: {weak}" if weak else None
