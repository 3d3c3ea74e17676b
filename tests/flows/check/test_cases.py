"""The cases from public bug reports: what is dropped last comes out right, or is rejected in plain words.

Each is loaded as it was dropped then; a file by itself is checked too, and the check says the same.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.loading.file_result import FileResult, Outcome
from tests.flows.check.test_checker import check, same
from tests.pipeline import Pipeline
from tests.shared import shared

Rows = Iterable[tuple[Any, ...]]
THEIRS = re.compile(r"\b[A-Z]\w* Error:|STRUCT|maximum_object_size|transform error|auto.?detect|INTERNAL|0x[0-9a-f]{6}")
"""DuckDB's words, which no reason has."""


@dataclass(frozen=True)
class Case:
    """What is right: these rows, as texts, or a reason of this form; where both are given, either."""

    kind: str
    rows: Rows | int | None = None
    reason: str | None = None
    columns: tuple[str, ...] | int | None = None


CASES = {
    "header_newline_lf_in_crlf": Case("A", 2, columns=("x", "y", "test\n123")),
    "quoted_cell_ends_with_newline": Case("A", [("164", "quantity = 56\n\nmonth = Sat", "value of forex = 1\n", None)]),
    "mixed_line_ends": Case("Q", [("1", "2", "3"), ("4", "5", "6"), ("7", "8", "9")], r"line \d"),
    "extra_sep_shifts": Case("B", reason=r"line 3: expected 3 columns, got 4"),
    "pollock_preamble": Case("H", reason=r"line 1 holds no column names"),
    "pollock_no_header": Case("H", reason=r"line 1 holds no column names"),
    "excel_sep_line": Case("H", [("1", "a")], columns=("id", "v")),
    "semicolon_commas_in_names": Case(
        "G", [("1,5", "2,0", "3,5"), ("4,5", "5,0", "6,5")], columns=("Umsatz, EUR", "Menge, Stk", "Preis, EUR")
    ),
    "semicolon_quoted": Case("G", [("China", "35.86166;104.19397", "97100,7", "04/07/20")]),
    "space_after_comma_names": Case(
        "I",
        [("1", "2.30", "string"), (None, "4.30", "string"), ("3", "3.14", "string")],
        columns=("int", "number", "string"),
    ),
    "inch_mark_in_name": Case("I", [("1", "2"), ("2", "3")], r"line 1: .*quote"),
    "tsv_stray_quotes": Case("J", 4, r"line 2: a line end within quotes"),
    "tsv_inch": Case("J", [("alice", "5'9\" tall"), ("bob", 'said "hi" loudly')]),
    "corrupt_quotes": Case("I", reason=r"line 3: .*quote"),
    "unclosed_at_eof": Case("I", reason=r"line 3: .*quote"),
    "backslash_escape": Case("I", reason=r"line 4: .*quote"),
    "cell_130kB_then_misfit": Case("D", reason=r'line 3, column "v": .* is not '),
    "cell_2MB": Case("N", 2),
    "date_trailing_blank": Case("P", 6),
    "wide_csv_9074": Case("E", 1, r"9,0\d\d columns, the limit is"),
    "zip_leading_zero": Case("C", reason=r'line 2, column "zip": "01730" '),
    "uint256_amounts": Case("R", [("1", "0.1"), ("2", str(2**256 - 1))]),
    "money_17_digits": Case("K", [("1", "82544000000000707.52"), ("2", "0.10")], r'column "amount"'),
    "int64_with_NA": Case("K", [("1", "1234567890123456789"), ("2", "NA"), ("3", None)]),
    "naive_into_tz": Case("O", reason=r'line 2, column "t": .*2024-10-27T02:30:00'),
    "thousands": Case("K", [("1", "1,234.50"), ("2", "12,000.00")]),
    "utf16le_bom": Case("M", [("1", "2", "3"), ("4", "5", "\u02a4")]),
    "json_bom": Case("S", [("1",), ("2",)], r"byte order mark|BOM"),
    "gz_bit_flip": Case("F", reason=r"CRC|damaged|checksum"),
    "gz_concatenated": Case("F", 4),
    "zip_named_csv": Case("M", reason=r"ZIP"),
    "lfs_pointer_csv": Case("M", reason=r"Git LFS pointer"),
    "json_208_keys": Case("E", 1, columns=208),
    "json_dup_key": Case("T", reason=r"line 3\b.*(twice|more than once|duplicate).*|line 3\b.*\"id\""),
    "ndjson_truncated": Case("T", reason=r"line 3\b"),
    "json_empty_key": Case("T", 1, r"name"),
    "jsonl_suffix": Case("M", [("1",), ("2",)]),
    "parquet_rle_bitwidth": Case("D", reason=r"\w+ \w+ \w+"),
    "parquet_variant_malicious": Case("D", reason=r"\w+ \w+ \w+"),
    "parquet_empty_group": Case("T", 1, r"\w+ \w+ \w+"),
    "parquet_binary_into_text": Case("L", [("1", "café"), ("1", "café"), ("2", "abc")], r'column "name"'),
    "parquet_int96_far": Case("L", reason=r"column|INT96"),
    "upper_suffix": Case("M", [("1", "a")]),
    "inbox_one_bad_blocks_good_parquet": Case("D"),
    "inbox_one_bad_blocks_good_csv_misfit_after_big_cell": Case("D"),
}


ARRIVALS = sorted(name for name in CASES if name.startswith("inbox_"))
SINGLE = sorted(CASES.keys() - ARRIVALS)


def load_all(pipeline: Pipeline, case: Path) -> FileResult:
    """Load what was dropped, in its order, and return what became of the last file."""
    result = None
    for step in sorted(one for one in case.iterdir() if one.is_dir()):
        (file,) = step.iterdir()
        result = pipeline.load(file.name, file.read_bytes())
    assert result
    return result


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_dropped_last_is_right_or_rejected_in_plain_words(name: str, tmp_path: Path) -> None:
    case, pipeline = CASES[name], Pipeline(tmp_path)
    result = load_all(pipeline, shared("cases", name))
    if result.outcome is Outcome.REJECTED:
        assert case.reason, result.reason
        assert re.search(case.reason, result.reason or ""), result.reason
        assert not THEIRS.search(result.reason or ""), result.reason
        return
    assert case.rows is not None, f"loaded {result.rows} rows: {pipeline.rows()}"
    rows = [tuple(None if one is None else str(one) for one in row) for row in pipeline.rows()]
    assert (len(rows) if isinstance(case.rows, int) else rows) == case.rows
    if case.columns is not None:
        columns = tuple(pipeline.types())
        assert (len(columns) if isinstance(case.columns, int) else columns) == case.columns


@pytest.mark.parametrize("name", ARRIVALS)
def test_one_bad_file_costs_its_arrival_no_good_one(name: str, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    pipeline.load("first.csv", "id,name\n1,x\n")
    for file in shared("cases", name, "together").iterdir():
        pipeline.write(file.name, file.read_bytes(), "together")
    results = {one.file: one.outcome for one in pipeline.load_in_bulk("together")}
    assert {outcome for name, outcome in results.items() if name.startswith("good")} == {Outcome.LOADED}
    assert [outcome for name, outcome in results.items() if not name.startswith("good")] == [Outcome.REJECTED]


@pytest.mark.parametrize("name", SINGLE)
def test_a_check_of_the_last_file_says_what_its_load_says(name: str, tmp_path: Path) -> None:
    folder, pipeline = shared("cases", name), Pipeline(tmp_path)
    *before, last = sorted(one for one in folder.iterdir() if one.is_dir())
    for step in before:
        (file,) = step.iterdir()
        pipeline.load(file.name, file.read_bytes())
    (file,) = last.iterdir()
    found, _ = check(pipeline, file)
    result = pipeline.load(file.name, file.read_bytes())
    assert same(found, result), f"{found}\n{result}"


def test_every_case_is_looked_at() -> None:
    assert {one.name for one in shared("cases").iterdir() if one.is_dir()} == CASES.keys()
