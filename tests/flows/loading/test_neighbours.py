"""What becomes of a file depends on that file and the table alone: not on its neighbours, their number, or the day."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.bulk import BulkLoader
from flows.loading.header_scan import plans_of
from flows.loading.loader import Loader
from flows.readers.guard import FileLimits, Guard
from flows.sources.files import files_of
from flows.sql_names import TargetTable
from flows.warehouse.duckdb import in_memory_reader
from tests.pipeline import Pipeline

COLUMNS = {"id": "BIGINT", "price": "DOUBLE", "name": "VARCHAR", "day": "DATE"}
CELLS = (
    *("1", "2", "-3", "2.5", "", "x", "ü", "007", "1e3", "1_000", "2026-01-02", "2026-13-01", '"a,b"', '""', '"', " 1"),
    *("1 ", "nan", "true", "99999999999999999999", "0.1", "1.0", "\t", "a;b", "\x01", "NULL", "1,2"),
)
VALUES = (
    *("1", "-2", "2.5", '"x"', '"1"', '"007"', "null", "true", '"2026-01-02"', '"2026-13-01"', "[1]", '{"a": 1}'),
    *("1e400", "", "12345678901234567890", '"\\u0000"', "NaN", '"1e3"'),
)
NUMBER = re.compile(r"\b(BIGINT|DOUBLE|HUGEINT|DECIMAL\(\d+,\d+\))")
EXAMPLES = int(os.environ.get("NEIGHBOUR_EXAMPLES", "3"))


@dataclass(frozen=True)
class Sample:
    """A file of any kind, by the end of its name."""

    suffix: str
    content: bytes


names = st.lists(st.sampled_from([*COLUMNS, "ID", "extra"]), min_size=1, max_size=4)
line_ends = st.sampled_from(["\n", "\r\n"])


@st.composite
def tables(draw: st.DrawFn) -> Sample:
    """A CSV or TSV file whose rows may have any form."""
    suffix = draw(st.sampled_from([".csv", ".csv", ".csv", ".tsv", ".csv.gz"]))
    separator = "\t" if suffix == ".tsv" else draw(st.sampled_from([",", ",", ";"]))
    header = draw(names)
    widths = st.just(len(header)) if draw(st.integers(0, 3)) else st.integers(1, 5)
    rows = draw(
        st.lists(widths.flatmap(lambda n: st.lists(st.sampled_from(CELLS), min_size=n, max_size=n)), max_size=4)
    )
    end = draw(line_ends)
    text = end.join(separator.join(row) for row in [header, *rows]) + draw(st.sampled_from([end, ""]))
    content = text.encode()
    if suffix.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
        content = draw(st.sampled_from([content, content, content[:-5], content + b"\0\0"]))
    return Sample(suffix, content)


@st.composite
def records(draw: st.DrawFn) -> Sample:
    """A JSON or NDJSON file whose values may be of any kind."""
    suffix = draw(st.sampled_from([".ndjson", ".json", ".json", ".ndjson"]))
    keys = draw(names)
    made = [
        "{" + ", ".join(f'"{key}": {draw(st.sampled_from(VALUES))}' for key in keys) + "}"
        for _ in range(draw(st.integers(0, 4)))
    ]
    joined = "\n".join(made) if suffix == ".ndjson" else "[" + ", ".join(made) + "]"
    return Sample(suffix, joined.encode() + draw(st.sampled_from([b"", b"\n", b"{", b"\xff"])))


def parquet(query: str) -> Sample:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "made.parquet"
        with duckdb.connect() as connection:
            connection.sql(query).write_parquet(str(path))
        return Sample(".parquet", path.read_bytes())


PARQUET = (
    parquet("SELECT 1 AS id, 2.5 AS price"),
    parquet("SELECT 'x' AS id"),
    parquet("SELECT DATE '2026-01-02' AS day, 1.5::DECIMAL(9, 2) AS price"),
    parquet("SELECT 'x'::BLOB AS name"),
    parquet("SELECT 1 AS id, 2 AS extra WHERE false"),
    Sample(".parquet", b"PAR1 cut"),
)
samples = st.one_of(tables(), tables(), records(), st.sampled_from(PARQUET))


def comparable(reason: str, table: TargetTable) -> str:
    """Return a reason without the table's name, and without the type of a column that another file makes wider."""
    return NUMBER.sub("NUMBER", reason.replace(f".{table.table}:", ".TABLE:"))


def text(value: object) -> str:
    is_whole = isinstance(value, float | Decimal) and isfinite(value) and value == int(value)
    return str(int(value)) if is_whole else str(value)


@dataclass
class Loads:
    """Loads arrivals into tables of their own, all with the same columns beforehand."""

    pipeline: Pipeline
    numbers: "count[int]"

    def table(self) -> TargetTable:
        made = TargetTable("warehouse", "public", f"t{next(self.numbers)}")
        with self.pipeline.opened() as warehouse:
            warehouse.create_loads(made)
            columns = {**COLUMNS, "_arrival_id": "VARCHAR", "_file_name": "VARCHAR", "_loaded_at": "TIMESTAMPTZ"}
            warehouse.add_columns(made, {}, columns)
        return made

    def load(self, files: dict[str, Sample], table: TargetTable) -> dict[str, tuple[str, int, str]]:
        """Load an arrival as a run does and return outcome, rows and reason of each file."""
        arrival = f"a{next(self.numbers)}"
        folder = self.pipeline.folder / arrival
        for name, sample in files.items():
            self.pipeline.write(name, sample.content, arrival)
        found = files_of(folder.as_uri())
        limits = FileLimits()
        with (
            in_memory_reader("1GB", self.pipeline.folder / "transform.tmp") as reader,
            Guard(limits, lambda: reader.connection) as guard,
        ):
            plans = list(plans_of(reader, found, self.pipeline.spool, guard))
        with self.pipeline.opened() as warehouse, Guard(limits, lambda: warehouse.reader) as guard:
            loader = BulkLoader(Loader(warehouse, table, arrival, guard=guard))
            results = [one for known in loader.load(plans) for one in known]
        shutil.rmtree(folder)
        return {one.file: (one.outcome.value, one.rows, comparable(one.reason or "", table)) for one in results}

    def rows(self, table: TargetTable) -> dict[str, list[str]]:
        """Return the rows of each file, as texts and without the columns that have nothing in them.

        A whole number is written as one, whether or not another file has made its column wider.
        """
        described = self.pipeline.execute(f"DESCRIBE public.{table.table}")
        columns = [row[0] for row in described if not row[0].startswith("_")]
        values = ", ".join(f'"{column}"' for column in columns)
        found: dict[str, list[str]] = {}
        for name, *row in self.pipeline.execute(f"SELECT _file_name, {values} FROM public.{table.table}"):
            texts = {
                column.lower(): text(value) for column, value in zip(columns, row, strict=True) if value is not None
            }
            found.setdefault(name, []).append(json.dumps(texts, sort_keys=True))
        return {name: sorted(lines) for name, lines in found.items()}


@pytest.fixture
def loads(make_pipeline: Callable[[Path], Pipeline], tmp_path: Path) -> Loads:
    return Loads(make_pipeline(tmp_path), count())


def named(files: Sequence[Sample]) -> dict[str, Sample]:
    return {f"{at:02}{sample.suffix}": sample for at, sample in enumerate(files)}


def without_new(files: dict[str, Sample]) -> dict[str, Sample]:
    """Give each file a new column of its own: the type of one that they share is the first one's."""
    return {
        name: sample if sample.suffix in {".parquet", ".csv.gz"} else replaced(sample, f"extra{name[:2]}")
        for name, sample in files.items()
    }


def replaced(sample: Sample, name: str) -> Sample:
    return Sample(sample.suffix, sample.content.replace(b"extra", name.encode()))


GOOD = [Sample(".csv", b"id,price\n1,2.5\n"), Sample(".ndjson", b'{"id": 1, "price": 2.5}\n')] * 4


def one_by_one(loads: Loads, files: dict[str, Sample], among: dict[str, tuple[str, int, str]]) -> None:
    """Load each file into a table of its own, and compare it with what it became among others."""
    for name, sample in files.items():
        assert loads.load({name: sample}, loads.table())[name] == among[name], sample


IN_ANY_ORDER = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@IN_ANY_ORDER
@given(st.lists(samples, min_size=1, max_size=5))
def test_a_file_becomes_the_same_alone_and_among_others_and_after_them(loads: Loads, found: list[Sample]):
    files = without_new(named([*found, *GOOD]))
    together = loads.table()
    among = loads.load(files, together)
    rows = loads.rows(together)
    for name, sample in list(files.items())[: len(found)]:
        table = loads.table()
        assert loads.load({name: sample}, table)[name] == among[name], sample
        assert loads.rows(table).get(name, []) == rows.get(name, []), sample
        assert loads.load({name: sample}, together)[name] == among[name], sample


@pytest.mark.parametrize("suffix", [".csv.gz", ".ndjson.gz"])
def test_a_gzip_file_in_parts_or_with_zeros_at_its_end_becomes_the_same_alone_and_among_others(
    loads: Loads, suffix: str
):
    one, more = (b"id\n1\n", b"2\n") if suffix == ".csv.gz" else (b'{"id": 1}\n', b'{"id": 2}\n')
    padded, parts = gzip.compress(one, mtime=0) + b"\0\0", gzip.compress(one, mtime=0) + gzip.compress(more, mtime=0)
    files = named([*(Sample(suffix, content) for content in (padded, padded, parts, parts)), *GOOD])
    among = loads.load(files, loads.table())
    assert {name: found[:2] for name, found in among.items() if name.endswith(".gz")} == {
        name: ("loaded", 1 if sample.content is padded else 2)
        for name, sample in files.items()
        if sample.suffix == suffix
    }
    one_by_one(loads, files, among)


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(IN_ANY_ORDER, max_examples=1, derandomize=True)
@given(st.lists(samples, min_size=40, max_size=40))
def test_a_file_becomes_the_same_alone_and_among_five_thousand_others(loads: Loads, found: list[Sample]):
    files = without_new(named(found))
    others = {f"many/{at:04}{sample.suffix}": sample for at, sample in enumerate(GOOD * 625)}
    among = loads.load({**files, **others}, loads.table())
    assert {among[name][0] for name in others} == {"loaded"}
    one_by_one(loads, files, among)
