"""Read and validate the inboxes file: each inbox is a watched folder, local or remote, with its rules.

Messages about mistakes name the file and line.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from cronsim import CronSim, CronSimError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from flows.rules import Contract, LoadRules, WriteMode, WriteRule, mistakes_in
from flows.source_file import Compression
from sensors.config.remote_url import Address, mistake_in, without_slash
from sensors.config.remote_url import mistakes_in as remote_mistakes_in
from sensors.config.settings import surrounding


class YamlLines:
    """Finds the line of a field in a YAML text; the text must be valid YAML."""

    def __init__(self, text: str) -> None:
        self._root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType]

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of a field, or of its nearest existing parent if the field is missing.

        >>> YamlLines("inboxes:\\n  metrics:\\n    max_files: 0").line_of(["inboxes", "metrics", "max_files"])
        3
        """
        node, line = self._root, 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            named, node = found
            line = named.start_mark.line + 1
        return line


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the key node and the value node of one step of a path; for a list, the item twice."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if str(pair[0].value) == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step], node.value[step]
    return None


_TEXT = ("csv", "tsv", "json", "ndjson")
DEFAULT_PATTERNS = (
    *(f"*.{suffix}" for suffix in _TEXT),
    "*.parquet",
    "*.xlsx",
    "*.xlsb",
    "*.ods",
    *(f"*.{suffix}.{compression.value}" for compression in Compression for suffix in _TEXT),
)

InboxName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


ARRIVAL_READY = "inbox.arrival.ready"
"""The event that announces an arrival, unless its inbox sets another one."""


class WatchChoice(StrEnum):
    """How an inbox is watched."""

    AUTO = "auto"
    POLLING = "polling"


class EmptyFiles(StrEnum):
    """How a settled file of zero bytes is treated."""

    WAIT = "wait"
    REJECT = "reject"
    TAKE = "take"


class Duplicates(StrEnum):
    """How a file is treated whose content has arrived before."""

    LOAD = "load"
    SKIP = "skip"
    REJECT = "reject"


def _known_cron(cron: str) -> str:
    try:
        CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise PydanticCustomError(
            "cron", "expected five fields such as `0 8 * * 1-5`: {why}", {"why": str(error)}
        ) from error
    return cron


def _known_zone(timezone: str) -> str:
    if timezone not in available_timezones():
        raise PydanticCustomError("timezone", "expected the name of a time zone such as Europe/Berlin")
    return timezone


def _known_url(url: str) -> str:
    if mistake := mistake_in(url):
        raise PydanticCustomError("url", "{mistake}", {"mistake": mistake})
    return without_slash(url)


class Expectation(BaseModel):
    """Files that have to arrive by certain times; an alert is sent when they are overdue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: Annotated[str, AfterValidator(_known_cron)]
    """When the files are due, such as `0 8 * * 1-5`."""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """The time zone of `cron`."""
    at_least: int = Field(default=1, ge=1)
    """How many files have to arrive between the previous due time and this one."""


_SHOWN = ("encoding", "delimiter", "sheet", "records")
"""The fields of a format that a line about the rules shows."""


class Inbox(LoadRules):
    """One watched folder and its rules; times are in seconds, sizes in bytes.

    The rules for reading and loading its files are those of `LoadRules`.
    """

    name: InboxName
    """The key of its entry: lower-case letters, digits and hyphens."""
    path: Path
    """The folder; none is created for an inbox that has a URL."""
    url: Annotated[str, AfterValidator(_known_url)] | None = None
    """A folder of an object store or SFTP server instead: `s3://bucket/prefix`, `gs://...`, `sftp://user@host/path`."""
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Options of the URL's filesystem; `${NAME}` is replaced by a variable of the environment or of `.env`."""
    subfolders: bool = False
    """Whether files in subfolders are taken too; a file's name is then its path below the inbox."""
    watch: WatchChoice = WatchChoice.AUTO
    """`auto` uses file events if the file system reports all changes, and polls otherwise."""
    patterns: tuple[str, ...] = Field(default=DEFAULT_PATTERNS, min_length=1)
    """Which files are taken, by name without folders; case makes no difference."""
    temporary: tuple[str, ...] = ()
    """More names of unfinished files, which are left alone, such as `*.writing`."""
    max_file_bytes: int = Field(default=100 * 2**30, ge=1)
    """A larger file is rejected."""
    empty: EmptyFiles = EmptyFiles.WAIT
    """`wait` for the content of a file of zero bytes, `reject` or `take` it."""
    done_file: Annotated[str, StringConstraints(pattern=r"^\.[^/]+$")] | None = None
    """With `.done`, `orders.csv` is complete when there is an `orders.csv.done` that is not older than `orders.csv`."""
    duplicates: Duplicates = Duplicates.LOAD
    """`load` a file again whose content has arrived before, `skip` or `reject` it."""
    grace_seconds: float = Field(default=0.1, ge=0, le=3600)
    """How long a file must stay unchanged after it was closed, as its writer may open it again. A file renamed into the
    inbox is complete immediately."""
    quiet_seconds: float = Field(default=1.0, ge=0, le=86400)
    """How long a file must stay unchanged if neither its closing nor a rename was noticed, and the kernel confirms that
    no process is writing it."""
    unproven_quiet_seconds: float = Field(default=5.0, ge=0.5, le=86400)
    """How long a file must stay unchanged if the kernel cannot confirm that no process is writing it (a network mount,
    another user's file), and before it is rejected."""
    rescan_seconds: float = Field(default=5.0, ge=0.1, le=3600)
    """How often the folder is listed even if no file event was noticed."""
    max_in_flight: int = Field(default=4, ge=1, le=1000)
    """How many arrivals may be unfinished; beyond that, settled files gather for the next arrival. It is 1 if
    the result of `write` depends on the order."""
    max_files: int = Field(default=4000, ge=1, le=10_000)
    """How many files an arrival takes at most; few large arrivals load faster than many small ones."""
    max_bytes: int = Field(default=10 * 2**30, ge=1)
    """How many bytes an arrival takes at most; a larger file is an arrival by itself."""
    event: Annotated[str, StringConstraints(pattern=r"^inbox(\.[a-z0-9-]+)+$", max_length=100)] = ARRIVAL_READY
    """The event that announces the inbox's arrivals; the automation that expects it defines which flow runs."""
    expect: Expectation | None = None
    """Files that have to arrive by certain times; an alert is sent when they are overdue."""
    keep_days: float | None = Field(default=None, gt=0)
    """How long loaded and skipped arrivals are kept; not set: indefinitely."""

    @field_validator("max_in_flight")
    @classmethod
    def _in_order(cls, value: int, info: ValidationInfo) -> int:
        write = info.data.get("write")
        if isinstance(write, WriteRule) and write.keeps_order and value > 1:
            raise PydanticCustomError(
                "order", "expected 1, as {mode} needs arrivals in their order; leave it out", {"mode": write.mode.value}
            )
        return value

    @property
    def at_once(self) -> int:
        """How many arrivals may be unfinished: one if they have to be loaded in their order."""
        return 1 if self.write.keeps_order else self.max_in_flight

    @cached_property
    def load_rules(self) -> str | None:
        """The rules for reading and loading its files as JSON; None without rules."""
        written = self.model_dump(
            mode="json", include=set(LoadRules.model_fields), exclude_unset=True, exclude_defaults=True
        )
        return json.dumps(written, ensure_ascii=False, sort_keys=True) if written else None

    @property
    def shown_rules(self) -> str:
        """The rules for reading and loading in a line, such as `csv, cp1252, ; | upsert by iban | freeze`."""
        form = self.format
        read = [] if form is None else [form.type, *(str(getattr(form, name, None) or "") for name in _SHOWN)]
        table = self.table or (f"{len(self.tables)} tables by name" if self.tables else "")
        write = self.write.mode.value + (f" by {', '.join(self.write.key)}" if self.write.key else "")
        parts = [
            ", ".join(filter(None, read)),
            f"into {table}" if table else "",
            write if self.write.mode is not WriteMode.APPEND else "",
            self.contract.value if self.contract is not Contract.EVOLVE else "",
            f"columns {', '.join(self.columns)}" if self.columns else "",
            f"{self.rows[0]:,} to {self.rows[1]:,} rows" if self.rows else "",
            f"up to {self.bad_rows.quarantine} bad rows aside" if self.bad_rows else "",
        ]
        return " | ".join(filter(None, parts))

    @property
    def where(self) -> str:
        """The URL, or the folder's path."""
        return self.url or str(self.path)

    def at(self, name: str) -> str:
        """Return the full path or URL of a file, given its path below the inbox."""
        return f"{self.where.rstrip('/')}/{name}"


class InboxesError(Exception):
    """The inboxes file is invalid; the message has one line for each mistake."""


class _InboxesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inboxes: dict[str, Any] = Field(min_length=1)


_RULES = TypeAdapter(dict[str, Any])


def read_inboxes(file: Path, inbox_dir: Path) -> tuple[Inbox, ...]:
    """Read the inboxes file.

    An inbox without a `path` is the folder of its name in `inbox_dir`; a relative path starts there. Raises
    InboxesError that lists every mistake in the file.
    """
    written, place = _read(file)
    try:
        folders = _InboxesFile.model_validate(written).inboxes
    except ValidationError as error:
        raise InboxesError("\n".join(_mistakes(place, error, ()))) from error

    inboxes: list[Inbox] = []
    mistakes: list[str] = []
    for name, written_rules in folders.items():
        try:
            rules = _RULES.validate_python(written_rules)
            path = inbox_dir / str(rules.get("path", name))
            inboxes.append(Inbox.model_validate({**rules, "name": name, "path": path}))
            mistakes += _remote_mistakes(place, inboxes[-1], rules)
        except ValidationError as error:
            mistakes += _mistakes(place, error, ("inboxes", name))
    mistakes += _shared_folders(place, inboxes)
    if mistakes:
        raise InboxesError("\n".join(mistakes))
    return tuple(inboxes)


@dataclass(frozen=True)
class _Places:
    """Formats the file, line and path of a field for messages."""

    file: Path
    lines: YamlLines

    def __call__(self, *path: str | int) -> str:
        field = ".".join(map(str, path)) or "the file"
        return f"{self.file}:{self.lines.line_of(path)}: {field}"


def _read(file: Path) -> tuple[Any, _Places]:
    """Return the content of a YAML file, and the places of its fields. Raises InboxesError."""
    try:
        text = file.read_text("utf-8")
        written, place = yaml.safe_load(text), _Places(file, YamlLines(text))
    except OSError as error:
        raise InboxesError(f"{file}: cannot be read ({error.strerror}); set INBOXES_FILE") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InboxesError(f"{file}{line}: expected YAML, got a mistake in it: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InboxesError(f"{file}: expected YAML in UTF-8, got: {' '.join(str(error).split()):.200}") from error
    if written is None:
        raise InboxesError(
            f"{file}: expected an inbox at least, such as `inboxes: {{metrics: {{}}}}`, got an empty file"
        )
    return written, place


def _shared_folders(place: _Places, inboxes: list[Inbox]) -> list[str]:
    """Return a mistake for each inbox whose folder is inside another inbox's: both would take the same files."""
    local = {inbox.name: Path(inbox.path).resolve() for inbox in inboxes if not inbox.url}
    remote = {inbox.name: PurePosixPath(inbox.url) for inbox in inboxes if inbox.url}
    return [*_shared(place, "path", local), *_shared(place, "url", remote)]


def _shared(place: _Places, field: str, folders: Mapping[str, PurePath]) -> Iterator[str]:
    for name, folder in folders.items():
        for other, outer in folders.items():
            if name != other and folder.is_relative_to(outer) and (folder != outer or name > other):
                what = folder if field == "path" else "its folder"
                where = place("inboxes", name, field)
                yield f"{where}: {what} is in inbox {other!r}; each inbox needs a folder of its own"


def _remote_mistakes(place: _Places, inbox: Inbox, rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield the mistakes in a remote inbox's rules, and the `options` of a local inbox, which may have none."""
    if inbox.url is None:
        if inbox.options:
            yield f"{place('inboxes', inbox.name, 'options')}: only an inbox with a `url` has options; leave them out"
        return
    for local, why in {"path": "an inbox has either", "watch": "it is listed, there are no events of changes"}.items():
        if local in rules:
            yield f"{place('inboxes', inbox.name, local)}: does not go together with `url`: {why}; leave one out"
    for path, mistake in remote_mistakes_in(Address.of(inbox.url).scheme, inbox.options, surrounding()):
        yield f"{place('inboxes', inbox.name, 'options', *path)}: {mistake}"


def _mistakes(place: _Places, error: ValidationError, prefix: tuple[str, ...]) -> list[str]:
    return [
        f"{place(*prefix, *mistake.place)}: {mistake.message}"
        + ("" if mistake.type == "url" else f" (got {mistake.given!r:.80})")  # a URL may hold credentials
        for mistake in mistakes_in(error, Inbox)
    ]
