"""A damaged file costs itself, and is rejected in one line of our words."""

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.loading.file_result import Outcome
from tests.pipeline import Pipeline

FORBIDDEN = re.compile(
    r"STRUCT|VARCHAR|BLOB|maximum_object_size|transform error|auto.?detect|ignore_errors|Candidate functions|LINE 1"
    r"|(Binder|IO|Invalid Input|Catalog|Conversion|Parser|Internal|INTERNAL|FATAL|Not implemented|Out of Range) Error"
    r"|read_(csv|json|parquet)|TProtocol|thrift|Exception|Traceback|[Dd]uck|[Oo]ut of buffer|Malformed JSON|strict_mode"
    r"|all_varchar|null_padding|Stack Trace|codec can't decode|dictionary offset|bitpacked"
)
"""Words of DuckDB's, and of Python's."""
ROWS = [(at, f"name {at}", at / 8, f"2024-01-{at % 28 + 1:02}") for at in range(60)]


def good_files(folder: Path) -> dict[str, bytes]:
    """Return a good file of each format."""
    lines = [f'{{"id": {at}, "name": "{name}", "v": {v}, "day": "{day}"}}' for at, name, v, day in ROWS]
    csv = "id,name,v,day\n" + "".join(f'{at},"{name}",{v},{day}\n' for at, name, v, day in ROWS)
    found = {
        "csv": csv.encode(),
        "tsv": csv.replace(",", "\t").encode(),
        "csv.gz": gzip.compress(csv.encode(), mtime=0),
        "json": ("[" + ",\n".join(lines) + "]").encode(),
        "ndjson": "\n".join(lines).encode(),
        "ndjson.gz": gzip.compress("\n".join(lines).encode(), mtime=0),
    }
    table = "SELECT range AS id, 'name ' || range AS name, range / 8 AS v, DATE '2024-01-01' AS day, [range] AS l"
    for codec in ("snappy", "uncompressed", "zstd"):
        path = folder / f"{codec}.parquet"
        duckdb.sql(f"COPY ({table} FROM range(60)) TO '{path}' (CODEC {codec})")
        found[f"{codec}.parquet"] = path.read_bytes()
    return found


def damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """Yield a file cut short, with bytes changed, left out, put in, and with others of its own bytes."""
    choose = random.Random(seed)
    for at in range(1, len(content), max(1, len(content) // 12)):
        yield content[:at]
    for _ in range(12):
        changed = bytearray(content)
        for _ in range(choose.choice((1, 1, 3, 30))):
            changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
        yield bytes(changed)
    for _ in range(6):
        at, size = choose.randrange(len(content)), choose.randrange(1, 40)
        yield content[:at] + content[at + size :]
        yield content[:at] + choose.randbytes(size) + content[at:]
        yield content[:at] + content[-size:] + content[at:]


def check_reason(reason: str | None) -> None:
    assert reason
    assert "\n" not in reason
    assert len(reason) <= 300
    # Names and values that a file has are in quotes.
    assert not FORBIDDEN.search(re.sub(r'"[^"]*"', "", reason)), reason


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_hundreds_of_damaged_files_cost_themselves_and_are_rejected_in_our_words(pipeline: Pipeline, seed: int):
    for number in range(20):
        pipeline.write(f"good{number}.csv", "id,name,v,day\n1,x,0.5,2024-01-01\n", "x")
    bad = [(suffix, one) for suffix, good in good_files(pipeline.folder).items() for one in damaged(good, seed)]
    for number, (suffix, content) in enumerate(bad):
        pipeline.write(f"bad{number}.{suffix}", content, "x")
    results = pipeline.load_in_bulk("x")
    assert len(results) == 20 + len(bad)
    rejected = [one for one in results if one.outcome is Outcome.REJECTED]
    assert [one.file for one in rejected if one.file.startswith("good")] == []
    assert len(rejected) > len(bad) / 2
    for one in rejected:
        check_reason(one.reason)


GOOD = {
    "a.json": b'[{"id": 1, "name": "x", "l": [1, {"y": null}]}, {"id": 2.5, "name": "\\u00fc"}]',
    "a.ndjson": b'{"id": 1, "name": "x"}\n{"id": 2, "name": null}\n',
    "a.csv": b'id,name\n1,"x, y"\n2,z\n',
    "a.tsv": b"id\tname\n1\tx\n2\tz\n",
}


@pytest.fixture(scope="module")
def module_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(tmp_path_factory.mktemp("damaged"))


@given(
    st.sampled_from(sorted(GOOD)),
    st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 3), st.binary(max_size=3) | st.sampled_from([b'"', b",", b"\0"])),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_changed_in_a_text_the_reason_is_in_our_words(
    module_pipeline: Pipeline, name: str, changes: list[tuple[int, int, bytes]]
):
    content = GOOD[name]
    for at, left_out, put_in in changes:
        content = content[:at] + put_in + content[at + left_out :]
    result = module_pipeline.load(name, content)
    if result.outcome is Outcome.REJECTED:
        check_reason(result.reason)
