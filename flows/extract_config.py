"""Validate the parameters of a run."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from flows.errors import PermanentError, TemporaryError
from flows.loading.loader import Reload
from flows.rules import NO_RULES, LoadRules, TableName, mistakes_in
from flows.sources.redact_url import redact_url
from flows.sql_names import TargetTable

HTTP_SCHEMES = frozenset({"http", "https"})
SCHEMES = HTTP_SCHEMES | {"file"}

_UNKNOWN_SCHEME = "unknown_scheme"
_SHA256 = re.compile("[0-9a-f]{64}")
_ARRIVAL_ID = re.compile("[a-z0-9-]{1,100}")


def _known_source(url: str) -> str:
    try:
        address = urlsplit(url)
        _ = address.port
    except ValueError:
        # Python's own message may quote a part of a password that contains a bare / or ?.
        raise PydanticCustomError("bad_url", "expected a URL, got one with a bad host or port") from None
    if address.scheme.lower() not in SCHEMES:
        raise PydanticCustomError(
            _UNKNOWN_SCHEME,
            "expected http://, https:// or file://, got {url}",
            {"url": redact_url(url)},
        )
    if address.scheme.lower() in HTTP_SCHEMES and not address.hostname:
        raise PydanticCustomError("no_host", "expected http(s)://host/path, got {url}", {"url": redact_url(url)})
    if address.scheme.lower() == "file":
        _check_file_address(address.netloc, address.path, address.query or address.fragment)
    return url


def _check_file_address(host: str, path: str, rest: str) -> None:
    if host not in {"", "localhost"} or not path.startswith("/"):
        raise PydanticCustomError("relative_file", "expected file:///absolute/path, got a host or a relative path")
    if rest:
        raise PydanticCustomError("unquoted_file", "holds a bare ? or #: write %3F or %23 (Path.as_uri() does)")


def _arrival_key(arrival_id: str | None) -> str | None:
    if arrival_id is not None and not _ARRIVAL_ID.fullmatch(arrival_id):
        raise PydanticCustomError(
            "bad_arrival_id",
            "expected at most 100 of a-z, 0-9 and -, got {arrival_id}",
            {"arrival_id": repr(arrival_id[:120])},
        )
    return arrival_id


def _manifest_digest(manifest: str | None) -> str | None:
    if manifest is not None and not _SHA256.fullmatch(manifest):
        raise PydanticCustomError("bad_manifest", "expected the SHA-256 of a manifest, 64 of 0-9 and a-f")
    return manifest


def _names_to_reload(names: list[str] | None, others: ValidationInfo) -> list[str] | None:
    if names is None:
        return None
    if not all(names):
        raise PydanticCustomError("bad_reload", "expected the names of files, or *, got an empty name")
    if others.data.get("arrival_id", "") is None:  # missing if it is invalid itself
        raise PydanticCustomError("no_arrival", "expected an arrival_id with it: without one nothing was loaded before")
    return names


class ExtractConfig(BaseModel):
    """The validated parameters of a run."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    source_url: Annotated[str, AfterValidator(_known_source), Field(repr=False)]
    """`http(s)://...`, or `file:///...` of a file or of an arrival's folder."""
    target_table: TableName
    """`catalog.schema.table`."""
    batch_size: int = Field(default=500, ge=1)
    """How many rows of an http source are inserted at a time."""
    arrival_id: Annotated[str | None, AfterValidator(_arrival_key)] = None
    """The arrival that the files belong to; None: the run itself counts as the arrival."""
    reload: Annotated[list[str] | None, AfterValidator(_names_to_reload)] = None
    """The names of the arrival's files whose rows are replaced even if already loaded; `*` means all files."""

    manifest: Annotated[str | None, AfterValidator(_manifest_digest)] = None
    """The SHA-256 of the manifest that files are compared with; None: use the manifest in the folder, if any."""

    rules: LoadRules = NO_RULES
    """How files are read and loaded."""

    @property
    def is_http(self) -> bool:
        """Whether the source is fetched over HTTP."""
        return urlsplit(self.source_url).scheme.lower() in HTTP_SCHEMES

    @property
    def reloaded(self) -> Reload:
        """The files that are loaded again."""
        return Reload(frozenset(self.reload or ()))

    @property
    def table(self) -> TargetTable:
        """The target table; names are folded to lower case, as SQL does with unquoted names."""
        return TargetTable(*self.target_table.lower().split("."))

    @property
    def tables(self) -> tuple[TargetTable, ...]:
        """All tables that files may go into, the most common one first."""
        named = (*(self.rules.tables or {}).values(),) or (self.rules.table or self.target_table,)
        return tuple(dict.fromkeys(TargetTable(*name.lower().split(".")) for name in named))

    def table_of(self, name: str) -> TargetTable | None:
        """Return the table of a file by its name; None if the rules name tables, and none for it."""
        if self.rules.tables is None:
            return self.tables[0]
        found = self.rules.table_of(name)
        return TargetTable(*found.lower().split(".")) if found else None


def _mistakes(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for one in mistakes_in(error, below="rules"):
        yield one.place if one.place[0] == "rules" else one.place[:1], one.message


def extract_config(
    source_url: str,
    target_table: str,
    batch_size: int,
    arrival_id: str | None,
    reload: list[str] | None = None,
    manifest: str | None = None,
    rules: Mapping[str, Any] | None = None,
) -> ExtractConfig:
    """Validate the parameters of a run and report all mistakes together.

    Raises TemporaryError if only the URL's scheme is unknown (issue 2 wants a retry then), else PermanentError.
    """
    try:
        return ExtractConfig.model_validate(
            {
                "source_url": source_url,
                "target_table": target_table,
                "batch_size": batch_size,
                "arrival_id": arrival_id,
                "reload": reload,
                "manifest": manifest,
                "rules": rules or {},
            }
        )
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        message = "; ".join(f"{'.'.join(map(str, place))}: {said}" for place, said in _mistakes(error))
        kind = TemporaryError if all(one["type"] == _UNKNOWN_SCHEME for one in problems) else PermanentError
        raise kind(message) from None
