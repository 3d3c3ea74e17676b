"""The rules by which a run reads and loads files, as an inbox or a run's parameter `rules` gives them.

Imports nothing heavy: the sensor validates the same models when it starts.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from flows.sql_names import LOADS_TABLE, RESERVED_COLUMNS

_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}\.{_IDENTIFIER}")
DUCKDB_CATALOGS = frozenset({"main", "memory", "system", "temp"})


def _table_name(name: str) -> str:
    """Check a table's name: `catalog.schema.table`."""
    if not _TABLE.fullmatch(name):
        raise PydanticCustomError(
            "bad_table",
            "expected catalog.schema.table, three names of letters, digits and _, got {name}",
            {"name": repr(name)},
        )
    catalog, _, table = name.lower().split(".")
    if catalog in DUCKDB_CATALOGS:
        raise PydanticCustomError("bad_table", "DuckDB keeps the catalog name {name} for itself", {"name": catalog})
    if table == LOADS_TABLE:
        raise PydanticCustomError("bad_table", "the table {name} is where load keys are kept", {"name": LOADS_TABLE})
    return name


TableName = Annotated[str, AfterValidator(_table_name)]


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        known = get_close_matches(name.lower(), _ENCODINGS, n=1, cutoff=0.5)
        hint = f"; did you mean {known[0]}?" if known else ""
        raise PydanticCustomError(
            "encoding", "expected an encoding such as cp1252 or utf-16{hint}", {"hint": hint}
        ) from None
    try:
        "a".encode(name)
    except LookupError:  # of bytes to bytes, such as hex
        raise PydanticCustomError("encoding", "expected an encoding of texts such as cp1252 or utf-16") from None
    except UnicodeError:
        pass
    return found.name


_ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp1250", "cp1251", "cp437", "cp850", "latin-1",
              "iso8859-15", "shift_jis", "gb18030", "big5", "euc-kr", "mac-roman", "koi8-r")  # fmt: skip
_MOMENT_CODES = re.compile(r"%[-#]?([a-zA-Z%])")
_KNOWN_CODES = frozenset("aAwdbBmyYHIpMSfzZjUWcxXGVugn%")


def _moment_format(text: str) -> str:
    codes = _MOMENT_CODES.findall(text)
    if not codes or any(code not in _KNOWN_CODES for code in codes):
        raise PydanticCustomError("moment", "expected a format such as %d.%m.%Y or %H:%M")
    return text


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _no_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    lower = [name.lower() for name in names]
    if twice := next((name for name in names if lower.count(name.lower()) > 1), None):
        raise PydanticCustomError("repeated", "{name} is there twice; case makes no difference", {"name": repr(twice)})
    return names


def _no_reserved(names: tuple[str, ...]) -> tuple[str, ...]:
    if taken := next((name for name in names if name.lower() in RESERVED_COLUMNS), None):
        raise PydanticCustomError("reserved", "{name} is the pipeline's own column", {"name": repr(taken)})
    return names


Encoding = Annotated[str, AfterValidator(_encoding)]
MomentFormats = Annotated[
    tuple[Annotated[str, AfterValidator(_moment_format)], ...], BeforeValidator(_several), Field(min_length=1)
]
Words = Annotated[tuple[str, ...], BeforeValidator(_several)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Names = Annotated[
    tuple[ColumnName, ...], Field(min_length=1), AfterValidator(_no_repeats), AfterValidator(_no_reserved)
]
_Letter = Annotated[str, StringConstraints(min_length=1, max_length=1)]


class TextFormat(_Rules):
    """How values are written as texts, in any format that has texts."""

    decimal: Literal[".", ","] = "."
    """The decimal separator of numbers."""
    thousands: Literal["", ",", ".", " ", "'", "_"] = ""
    """The thousands separator of numbers; a blank stands for any kind of blank."""
    dates: MomentFormats | None = None
    """How dates are written, such as `%d.%m.%Y`; several are tried in their order. Not given: as in ISO 8601."""
    times: MomentFormats | None = None
    """How times of day are written, such as `%H.%M`."""
    timestamps: MomentFormats | None = None
    """How dates with a time are written, such as `%d.%m.%Y %H:%M`."""
    nulls: Words = ()
    """Texts that stand for a missing value, besides an empty field."""
    trues: Words = ()
    """Texts that stand for true, besides `true`."""
    falses: Words = ()
    """Texts that stand for false, besides `false`."""
    trim: bool = False
    """Whether blanks around values are removed."""

    @model_validator(mode="after")
    def _separators_differ(self) -> Self:
        if self.thousands == self.decimal:
            raise PydanticCustomError("separators", "decimal and thousands are the same separator")
        return self


class _LinesFormat(TextFormat):
    """A file of lines."""

    encoding: Encoding | None = None
    """Such as cp1252; not given: UTF-8, or UTF-16 by its byte order mark."""
    skip: int = Field(default=0, ge=0)
    """How many lines to leave out at the beginning."""
    footer: int = Field(default=0, ge=0, le=10_000)
    """How many lines to leave out at the end."""
    comment: str | None = Field(default=None, min_length=1, max_length=10)
    """Lines that begin with it are left out."""


class CsvFormat(_LinesFormat):
    """Values separated by a delimiter."""

    type: Literal["csv", "tsv"] = "csv"
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=20)] | None = None
    """One or several characters; not given: detected, or a tab for tsv."""
    quote: Literal[""] | _Letter = '"'
    """The character around values that contain a delimiter; "" if quotes are ordinary characters."""
    escape: _Letter | None = None
    """The character before a quote within quotes; not given: the quote is doubled."""
    header: int | Annotated[tuple[int, ...], Field(min_length=1, max_length=10)] | Literal["none"] = 1
    """The number of the line with the columns' names, counted from 1 in the file; several are joined by a blank; `none`
    if there is none. With `skip`, the first line that is not skipped counts as its first."""
    names: Names | None = None
    """The columns' names, in place of the header's; without both, those of the table are taken by position."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lines = self.header_lines
        special = [one for one in (self.quote, self.escape if self.escape != self.quote else None) if one]
        if self.delimiter and (set("\r\n\0") | set(special)) & set(self.delimiter):
            raise PydanticCustomError("delimiter", "delimiter: holds a line end, the quote or the escape character")
        if any(one in "\r\n\0 " for one in special):
            raise PydanticCustomError("quote", "quote or escape: expected a character, got a blank or a line end")
        if lines and (lines[0] < 1 or any(b != a + 1 for a, b in pairwise(lines))):
            raise PydanticCustomError("header", "header: expected line numbers from 1, one below the other")
        if lines and lines[0] <= self.skip and self.skip and lines != (1,):
            raise PydanticCustomError("header", "header: line {line} is among the skipped ones", {"line": lines[0]})
        return self

    @property
    def header_lines(self) -> tuple[int, ...]:
        """The lines of the header, counted from 1; none without a header."""
        if self.header == "none":
            return ()
        return (self.header,) if isinstance(self.header, int) else tuple(self.header)


class FixedWidthFormat(_LinesFormat):
    """Values by their positions in a line."""

    type: Literal["fixed_width"]
    fields: Annotated[dict[ColumnName, int | tuple[int, int]], Field(min_length=1)]
    """For each column its width in characters, or the first and the last position, counted from 1."""
    trim: bool = True

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """For each column where it begins and ends, counted from 0 as in a slice."""
        found, at = dict[str, tuple[int, int]](), 0
        for name, place in self.fields.items():
            first, last = (at, at + place) if isinstance(place, int) else (place[0] - 1, place[1])
            found[name], at = (first, last), last
        return found

    @model_validator(mode="after")
    def _positions(self) -> Self:
        _no_repeats(tuple(self.fields))
        _no_reserved(tuple(self.fields))
        for name, (first, last) in self.spans.items():
            if not 0 <= first < last:
                raise PydanticCustomError(
                    "fields", "{name}: expected a width, or the first and the last position", {"name": name}
                )
        return self


class ExcelFormat(TextFormat):
    """A sheet of a workbook: .xlsx, .xlsb or .ods."""

    type: Literal["excel"]
    sheet: str | Annotated[int, Field(ge=1)] = 1
    """The name or number of the sheet."""
    header: Annotated[int, Field(ge=1)] | Literal["none"] = 1
    """The number of the row with the columns' names."""
    names: Names | None = None
    footer: int = Field(default=0, ge=0, le=10_000)
    """How many rows to leave out at the end."""


_RecordsPath = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class JsonFormat(_Rules):
    """Records in a JSON document."""

    type: Literal["json", "ndjson"]
    records: _RecordsPath | None = None
    """Where the list of records is in a JSON document, such as `data.items`."""

    @model_validator(mode="after")
    def _has_a_document(self) -> Self:
        if self.records and self.type == "ndjson":
            raise PydanticCustomError("records", "records: ndjson has a record on each line; leave it out, or use json")
        if self.records and not all(self.records.split(".")):
            raise PydanticCustomError("records", "records: expected names with dots between them, such as data.items")
        return self


class XmlFormat(TextFormat):
    """Elements of an XML document, each a record: its attributes and the texts of its child elements."""

    type: Literal["xml"]
    records: _RecordsPath
    """The path of the elements, such as `orders/order`."""

    @model_validator(mode="after")
    def _has_names(self) -> Self:
        if not all(step and not step.isspace() for step in self.records.strip("/").split("/")):
            raise PydanticCustomError("records", "records: expected names with / between them, such as orders/order")
        return self


class ParquetFormat(_Rules):
    """A Parquet file."""

    type: Literal["parquet"]


def _csv_by_default(value: Any) -> Any:
    if isinstance(value, dict) and "type" not in value:
        return {"type": "csv", **cast(dict[str, Any], value)}
    return cast(object, value)


FileRules = Annotated[
    CsvFormat | FixedWidthFormat | ExcelFormat | JsonFormat | XmlFormat | ParquetFormat, Field(discriminator="type")
]

_TYPES = {
    "text": "VARCHAR", "string": "VARCHAR", "varchar": "VARCHAR", "integer": "INTEGER", "int": "INTEGER",
    "smallint": "SMALLINT", "bigint": "BIGINT", "hugeint": "HUGEINT", "double": "DOUBLE", "float": "DOUBLE",
    "boolean": "BOOLEAN", "bool": "BOOLEAN", "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE", "uuid": "UUID", "json": "JSON",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric) ?\( ?(\d{1,2}) ?(?:, ?(\d{1,2}) ?)?\)")


def _duckdb_type(name: str) -> str:
    """Return DuckDB's name of a type that a user has written."""
    lower = " ".join(name.lower().split())
    if found := _DECIMAL.fullmatch(lower):
        width, scale = int(found[1]), int(found[2] or 0)
        if 1 <= width <= 38 and scale <= width:
            return f"DECIMAL({width},{scale})"
    known = {**_TYPES, "timestamp with time zone": "TIMESTAMP WITH TIME ZONE"}
    if lower not in known and lower.upper() not in known.values():
        near = get_close_matches(lower, [*_TYPES, "decimal(18,2)"], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PydanticCustomError(
            "type", "expected a type such as text, bigint, decimal(18,2), date{hint}", {"hint": hint}
        )
    return known.get(lower, lower.upper())


ColumnType = Annotated[str, AfterValidator(_duckdb_type)]


def _bound(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        raise PydanticCustomError("bound", "expected a number, a date or a time such as 2024-01-31 12:00") from None


_Bound = Decimal | date | datetime | None
_AnyBound = Annotated[_Bound, WrapValidator(_bound)]


_NOT_RE2 = re.compile(r"\(\?(?:<?[=!]|P=|>|\()|\\[1-9]|[*+?}]\+")
"""Parts of Python's regular expressions that DuckDB's do not have: looking around, references, possessive repeats."""


def _bound_of(type_: str) -> str:
    """Return what a column of this type is compared with; nothing if it has no bounds."""
    if type_ in {"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}:
        return "date"
    is_number = type_.endswith("INT") or type_ in {"INTEGER", "DOUBLE"} or type_.startswith("DECIMAL")
    return "number" if is_number else ""


def _said(name: str, bound: _Bound) -> dict[str, Any]:
    return {"name": name, "bound": str(bound)}


def _ordered(bound: _Bound) -> Any:
    """Return a bound that can be compared with others of its kind."""
    if isinstance(bound, datetime):
        return (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).timestamp()
    return datetime(bound.year, bound.month, bound.day, tzinfo=UTC).timestamp() if isinstance(bound, date) else bound


class ColumnRule(_Rules):
    """What one column has to be."""

    type: ColumnType | None = None
    """The column's type, if the table does not have the column yet; values are held to it in any case."""
    required: bool = False
    """Whether each row must have a value."""
    min: _AnyBound = None
    """The smallest value that is taken."""
    max: _AnyBound = None
    """The largest value that is taken."""
    unique: bool = False
    """Whether each value must be there only once in a file."""
    pattern: str | None = None
    """A regular expression (RE2) that the whole text has to match."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise PydanticCustomError("pattern", "pattern: {why}", {"why": str(error)}) from None
            if found := _NOT_RE2.search(self.pattern):
                raise PydanticCustomError("pattern", "pattern: RE2 has no {what}", {"what": found[0]})
        return self

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        for name, bound in (("min", self.min), ("max", self.max)):
            if isinstance(bound, Decimal) and not bound.is_finite():
                raise PydanticCustomError("bound", "{name}: expected a number, got {bound}", _said(name, bound))
            wanted = None if bound is None or self.type is None else _bound_of(self.type)
            if wanted == "":
                raise PydanticCustomError("bound", "{name}: a {type} has no bounds", {"name": name, "type": self.type})
            if wanted and isinstance(bound, Decimal) != (wanted == "number"):
                why = "{name}: expected a {wanted}, as the type is {type}, got {bound}"
                raise PydanticCustomError("bound", why, {**_said(name, bound), "wanted": wanted, "type": self.type})
        if self.min is None or self.max is None:
            return self
        if isinstance(self.min, Decimal) != isinstance(self.max, Decimal):
            raise PydanticCustomError("bound", "min and max: expected two numbers or two dates")
        if _ordered(self.min) > _ordered(self.max):
            raise PydanticCustomError("bound", "min is greater than max, so no value is right")
        return self


def _column_rule(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Columns = dict[ColumnName, Annotated[ColumnRule, BeforeValidator(_column_rule)]]


class Contract(StrEnum):
    """What becomes of a file whose columns differ from the table's."""

    EVOLVE = "evolve"
    """New columns are added to the table; missing ones are null."""
    FREEZE = "freeze"
    """The file is rejected."""
    DISCARD = "discard"
    """New columns are left out."""
    RESCUE = "rescue"
    """New columns, and values that do not fit, go into the column `_rescued` as JSON."""


class WriteMode(StrEnum):
    """What a load does to the rows that are in the table."""

    APPEND = "append"
    REPLACE = "replace"
    """The newest file is the table."""
    REPLACE_SAME_NAME = "replace_same_name"
    """A file replaces the rows of files of its name."""
    UPSERT = "upsert"
    """A row replaces the rows of its key."""
    INSERT_NEW = "insert_new"
    """Only rows are added whose key the table does not have."""
    DELETE_INSERT = "delete_insert"
    """The rows of the partitions that a file has are replaced by the file's."""


_KEYED = frozenset({WriteMode.UPSERT, WriteMode.INSERT_NEW, WriteMode.DELETE_INSERT})


class WriteRule(_Rules):
    """How rows are written."""

    mode: WriteMode = WriteMode.APPEND
    key: Annotated[Names, BeforeValidator(_several)] | None = None
    """The columns of the key; for `delete_insert` those of the partition."""
    duplicates: Literal["reject", "last"] = "reject"
    """Whether a file with a key twice is rejected, or the last of its rows counts."""

    @property
    def keeps_order(self) -> bool:
        """Whether the result depends on the order of the loads."""
        return self.mode not in {WriteMode.APPEND, WriteMode.INSERT_NEW}

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if (self.mode in _KEYED) != (self.key is not None):
            what = "needs a key" if self.mode in _KEYED else "takes no key"
            raise PydanticCustomError("key", "{mode} {what}", {"mode": self.mode.value, "what": what})
        return self


_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")


def _quarantine(value: Any) -> Any:
    if isinstance(value, str) and not _SHARE.fullmatch(value.strip()):
        raise PydanticCustomError("quarantine", "expected a number of rows, or a share such as 5%")
    return value


class BadRows(_Rules):
    """What becomes of rows that do not fit."""

    quarantine: Annotated[Annotated[int, Field(ge=1)] | str, BeforeValidator(_quarantine)]
    """How many rows of a file, or which share such as `5%`, are put aside; with more the file is rejected."""

    def limit(self, rows: int) -> int:
        """Return how many of a file's rows may be bad.

        >>> BadRows(quarantine="5%").limit(1000)
        50
        """
        if isinstance(self.quarantine, int):
            return self.quarantine
        return int(rows * float(self.quarantine.strip().rstrip("% ")) / 100)


_PLACE = re.compile(r"\{([^{}]*)\}")


def _name_pattern(text: str) -> str:
    places = [place.partition(":") for place in _PLACE.findall(text)]
    if not places or "{" in _PLACE.sub("", text) or "}" in _PLACE.sub("", text):
        raise PydanticCustomError("name", "expected columns in braces, such as orders_{{day:date}}_{{region}}.csv")
    for name, _, type_ in places:
        if not re.fullmatch(_IDENTIFIER, name):
            raise PydanticCustomError("name", "expected a column's name in braces, got {name}", {"name": repr(name)})
        _duckdb_type(type_ or "text")
    _no_repeats(tuple(name for name, _, _ in places))
    _no_reserved(tuple(name for name, _, _ in places))
    return text


def _range(rows: tuple[int, int]) -> tuple[int, int]:
    if rows[0] > rows[1]:
        raise PydanticCustomError("rows", "expected the least, then the most")
    return rows


class LoadRules(_Rules):
    """The rules by which files are read and loaded."""

    table: TableName | None = None
    """The table of all files; not given: that of the deployment."""
    tables: Annotated[dict[str, TableName], Field(min_length=1)] | None = None
    """The table by the file's name: the first pattern that matches counts."""
    format: Annotated[FileRules | None, BeforeValidator(_csv_by_default)] = None
    """How files are read; not given: by their suffix."""
    columns: Columns = Field(default_factory=dict[str, ColumnRule])
    """Types and checks by the column's name."""
    columns_from_name: Annotated[str, AfterValidator(_name_pattern)] | None = None
    """Columns taken from the file's name or path, such as `{region}/orders_{day:date}.csv`; `*` stands for any text."""
    contract: Contract = Contract.EVOLVE
    write: WriteRule = Field(default_factory=WriteRule)
    bad_rows: BadRows | None = None
    rows: Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], AfterValidator(_range)] | None = (
        None
    )
    """How many rows a file has at least and at most."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.table and self.tables:
            raise PydanticCustomError("tables", "table and tables do not go together; leave one out")
        _no_repeats(tuple(self.columns))
        _no_reserved(tuple(self.columns))
        return self

    @property
    def changes_reading(self) -> bool:
        """Whether files are read differently from files without rules."""
        return bool(self.format or self.columns or self.columns_from_name or self.bad_rows)

    @property
    def known_format(self) -> str | None:
        """The format of all files, if the rules give it."""
        return self.format.type if self.format else None

    def table_of(self, name: str) -> str | None:
        """Return the table of a file by its name; None if the rules name none for it."""
        if self.tables is None:
            return self.table
        base = name.rpartition("/")[2].lower()
        return next((table for glob, table in self.tables.items() if fnmatchcase(base, glob.lower())), None)

    def from_name(self, name: str) -> dict[str, tuple[str, str]] | None:
        """Return the columns that a file's name gives, each with its text and DuckDB type; None if it does not match.

        >>> LoadRules(columns_from_name="orders_{day:date}.csv").from_name("orders_2024-01-05.csv")
        {'day': ('2024-01-05', 'DATE')}
        """
        if self.columns_from_name is None:
            return {}
        parts = _PLACE.split(self.columns_from_name)
        places = [place.partition(":") for place in parts[1::2]]
        texts = [re.escape(part).replace(r"\*", "[^/]*?") for part in parts[::2]]
        pattern = "".join(a + b for a, b in zip(texts, ["([^/]+?)"] * len(places) + [""], strict=True))
        found = re.search(rf"(?:^|/){pattern}$", name)
        if found is None:
            return None
        return {
            name_: (value, _duckdb_type(type_ or "text"))
            for (name_, _, type_), value in zip(places, found.groups(), strict=True)
        }


NO_RULES = LoadRules()


def rules_of(written: Mapping[str, Any] | None) -> LoadRules:
    """Return rules from a run's parameter or an inbox's entry. Raises ValidationError; see `mistakes_in`."""
    return LoadRules.model_validate(written or {})


_MODELS: Mapping[str, type[BaseModel]] = {
    "csv": CsvFormat, "tsv": CsvFormat, "fixed_width": FixedWidthFormat, "excel": ExcelFormat, "json": JsonFormat,
    "ndjson": JsonFormat, "xml": XmlFormat, "parquet": ParquetFormat,
}  # fmt: skip


@dataclass(frozen=True)
class Mistake:
    """A mistake in rules."""

    place: tuple[str | int, ...]
    """The field."""
    message: str
    type: str
    """Pydantic's name of the kind of mistake."""
    given: Any


def mistakes_in(error: ValidationError, model: type[BaseModel] = LoadRules, below: str | None = None) -> list[Mistake]:
    """Return each mistake with its field and what was expected, and the nearest right word for a wrong name.

    `below` is the field that holds the rules, if they are not the whole.
    """
    found: list[Mistake] = []
    for one in error.errors(include_url=False):
        head = one["loc"][:1] if below is not None and one["loc"][:1] == (below,) else ()
        loc = one["loc"][len(head) :]
        # A union's members are part of pydantic's location, and no field of the file.
        place = (*head, *(step for at, step in enumerate(loc) if not _is_member(step, loc, at)))
        message = one["msg"]
        if one["type"] == "extra_forbidden":
            message = f"there is no such rule{_nearest(str(loc[-1]), _names_at(loc, model))}"
        elif one["type"] == "enum":
            expected = str(one.get("ctx", {}).get("expected", ""))
            message = f"expected {expected}"
        elif one["type"] == "union_tag_invalid":
            near = _nearest(str(one.get("ctx", {}).get("tag")), list(_MODELS), "")
            message = f"type: expected one of {', '.join(_MODELS)}{near}"
        found.append(Mistake(place, message, one["type"], one["input"]))
    return found


def _is_member(step: str | int, place: tuple[str | int, ...], at: int) -> bool:
    if at == 1 and place[0] == "format":
        return step in _MODELS
    return isinstance(step, str) and (step.endswith("]") or step in {"int", "str", "none", "constrained-int"})


def _names_at(place: tuple[str | int, ...], top: type[BaseModel]) -> list[str]:
    if place[0] == "format" and len(place) > 2:
        return list(_MODELS.get(str(place[1]), CsvFormat).model_fields)
    inner: Mapping[str, type[BaseModel]] = {"write": WriteRule, "bad_rows": BadRows, "columns": ColumnRule}
    model = inner.get(str(place[0]), top) if len(place) > 1 else top
    return list(model.model_fields)


def _nearest(word: str, known: list[str], otherwise: str | None = None) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(known)}" if otherwise is None else otherwise
