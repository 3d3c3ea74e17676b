"""The Pollock benchmark through `just check`: 2,290 polluted CSV files, of which none may load as what it is not.

Each is right (header and every cell), or rejected with the line and a reason. Where a row has a separator too many or
too few, or a stray quote, what it says cannot be known, so most have to be rejected.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.documentation import ROOT
from tests.flows.check.pollock_rules import rules_of_corpus
from tests.shared import shared

RIGHT = frozenset(
    {
        "source.csv",
        "file_one_data_row.csv",
        "file_header_only.csv",
        "file_no_trailing_newline.csv",
        "file_double_trailing_newline.csv",
        "file_record_delimiter_0xA.csv",
        "file_record_delimiter_0xD.csv",
        "file_field_delimiter_0x3B.csv",
        "file_field_delimiter_0x9.csv",
        "file_field_delimiter_0x2C_0x20.csv",
        "file_quotation_char_0x27.csv",
    }
)
"""Files that say what they mean, in one dialect or another."""
FILES = 2290
LOADED_BY_RULES = 2000
SECONDS = 60.0
LONGEST = 1200.0
"""In seconds, for one call on a busy machine."""


@dataclass(frozen=True)
class Run:
    """A check of the whole benchmark."""

    report: list[dict[str, Any]]
    verdicts: dict[str, tuple[str, str]]
    """By the file's name: `right`, `rejected` or `WRONG`, and why."""
    cpu_seconds: float


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the benchmark."""
    folder = tmp_path_factory.mktemp("pollock")
    with tarfile.open(shared("corpus", "pollock.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def run(corpus: Path) -> Run:
    """Check every file of the benchmark as it is."""
    return checked(corpus, "as-it-is")


@pytest.fixture(scope="module")
def run_by_rules(corpus: Path) -> Run:
    """Check every file of the benchmark by the rules that its parameters give, with one bad row put aside."""
    rules = corpus / "rules.json"
    rules.write_text(json.dumps({"files": rules_of_corpus(corpus)}))
    return checked(corpus, "by-rules", "--rules", str(rules))


@pytest.fixture(scope="module")
def some_by_rules(corpus: Path) -> Run:
    """Check every twentieth file in the same way: all of them take more than two minutes of CPU."""
    rules = corpus / "some-rules.json"
    rules.write_text(json.dumps({"files": rules_of_corpus(corpus)}))
    return checked(corpus, "some-by-rules", "--rules", str(rules), every=20)


def checked(corpus: Path, name: str, *options: str, every: int = 1) -> Run:
    """Check the files in one call, and have the benchmark's own program compare what comes of it."""
    environment = {**os.environ, "STATE_DIR": str(corpus / "state"), "ENV_FILE": str(corpus / "none.env")}
    report, loaded = corpus / f"{name}.json", corpus / name
    files = sorted((corpus / "csv").iterdir())[::every]
    command = [sys.executable, "-P", "-m", "sensors", "check", "--json", *options, "--out", loaded, *files]
    before = os.times()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST
    )
    after = os.times()
    assert done.returncode == 1, done.stderr
    report.write_text(done.stdout)
    judged = subprocess.run(
        [sys.executable, shared("corpus", "evaluate.py"), corpus, report, loaded, "--list"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    listed = [line.split("\t") for line in judged.stdout.splitlines() if line.count("\t") == 2]
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    return Run(json.loads(done.stdout), {name: (verdict, why) for verdict, name, why in listed}, seconds)


def test_no_file_of_the_benchmark_would_be_loaded_as_what_it_is_not(run: Run) -> None:
    assert len(run.verdicts) == FILES
    assert {name: why for name, (verdict, why) in run.verdicts.items() if verdict not in ("right", "rejected")} == {}


def test_files_that_say_what_they_mean_are_right(run: Run) -> None:
    assert {name: run.verdicts[name] for name in RIGHT if run.verdicts[name][0] != "right"} == {}


def test_every_rejected_file_has_a_reason_that_names_its_line(run: Run) -> None:
    rejected = {Path(one["file"]).name: one["reason"] or "" for one in run.report if one["outcome"] == "rejected"}
    assert {name: why for name, why in rejected.items() if not re.search(r"\bline \d+\b", why)} == {
        "file_no_payload.csv": "empty file"
    }
    assert len(rejected) + sum(verdict == "right" for verdict, _ in run.verdicts.values()) == FILES


def test_a_reason_is_in_our_own_words(run: Run) -> None:
    theirs = re.compile(r"Error:|STRUCT|auto.?detect|strict_mode|ignore_errors|Possible")
    assert [one["reason"] for one in run.report if one["reason"] and theirs.search(one["reason"])] == []


def test_the_whole_benchmark_is_checked_in_less_than_a_minute(run: Run) -> None:
    assert run.cpu_seconds < SECONDS


def test_by_the_rules_of_its_parameters_a_twentieth_of_the_benchmark_is_loaded_and_none_of_it_wrong(
    some_by_rules: Run,
) -> None:
    verdicts = [verdict for verdict, _ in some_by_rules.verdicts.values()]
    assert len(verdicts) == -(-FILES // 20)
    assert verdicts.count("WRONG") == 0
    assert len(verdicts) - verdicts.count("rejected") >= LOADED_BY_RULES // 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_by_the_rules_of_its_parameters_the_benchmark_is_loaded_with_one_bad_row_aside(run_by_rules: Run) -> None:
    assert len(run_by_rules.verdicts) == FILES
    verdicts = {name: verdict for name, (verdict, _) in run_by_rules.verdicts.items()}
    assert {name: run_by_rules.verdicts[name] for name, verdict in verdicts.items() if verdict == "WRONG"} == {}
    assert sum(verdict in {"right", "aside"} for verdict in verdicts.values()) >= LOADED_BY_RULES
