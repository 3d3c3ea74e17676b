"""The options of a remote inbox, handed on to its filesystem; a secret is named there and stands in the environment."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dotenv import dotenv_values

from sensors.config.settings import env_file

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"pass(word|phrase)|secret|token|credential|(^|_)key$", re.IGNORECASE)
"""Names of options whose value is nobody's business; `client_keys` and `key_file` are paths."""
_OURS = frozenset(
    {"asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "session", "protocol", "host", "timeout"}
    | {"version_aware", "listings_expiry_time", "max_paths"}
)
_EXPORTED = ("AWS_", "GOOGLE_", "GCLOUD_", "SSH_AUTH_SOCK")


def surroundings() -> dict[str, str]:
    """Return this process's environment over what the `.env` file says."""
    written = {name: value for name, value in dotenv_values(env_file()).items() if value is not None}
    return {**written, **os.environ}


def export_credentials() -> None:
    """Put what the `.env` file says to the libraries of the stores into this process's environment."""
    for name, value in surroundings().items():
        if name.startswith(_EXPORTED):
            os.environ.setdefault(name, value)


def mistakes_in(scheme: str, options: Mapping[str, Any], around: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield what is wrong, in words, and the path to the option that is."""
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
    """Return the options with each `${NAME}` replaced by what the environment says."""
    return {name: _resolve(value, around) for name, value in options.items()}


def secrets_in(options: Mapping[str, Any], around: Mapping[str, str]) -> frozenset[str]:
    """Return the values that no message may tell: those that were named, and those of the usual variables."""
    named = [name for _, value in _leaves(options, []) if isinstance(value, str) for name in _NAMED.findall(value)]
    usual = [name for name in around if name.startswith("AWS_") and _SECRET.search(name)]
    found = {around.get(name, "") for name in (*named, *usual)}
    return frozenset(value for value in found if len(value) > 3 and os.path.sep != value[0])


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
