"""What became of the files of a run, in words."""

from dataclasses import replace

import pytest

from flows.loading.file_result import FileResult, Outcome, has_rejected, summary
from flows.report.artifacts import report_order, report_rows

LOADED = FileResult("a.csv", Outcome.LOADED, 1234, 5000, 0.123)
SKIPPED = FileResult("b.csv", Outcome.SKIPPED, 10, 100, 0.0)
REJECTED = FileResult("c.csv", Outcome.REJECTED, 0, 7, 0.01, "line 3: expected 2 columns, got 3")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([LOADED], "1 file, 1,234 rows loaded, 0 skipped"),
        ([LOADED, SKIPPED], "2 files, 1,234 rows loaded, 1 skipped"),
        ([LOADED, REJECTED], "1 of 2 files rejected: c.csv: line 3: expected 2 columns, got 3"),
    ],
)
def test_a_run_ends_with_a_message_that_counts_or_names(results: list[FileResult], message: str):
    assert summary(results) == message
    assert has_rejected(results) is (REJECTED in results)


def test_five_rejected_files_are_named_and_the_others_counted():
    rejected = [FileResult(f"{number}.csv", Outcome.REJECTED, 0, 1, 0.0, "empty file") for number in range(7)]
    message = summary([*rejected, LOADED])
    assert message.startswith("7 of 8 files rejected: 0.csv: empty file; 1.csv")
    assert message.endswith("4.csv: empty file; and 2 more")


def test_the_report_has_a_row_per_file_with_the_keys_that_the_sensor_reads():
    assert report_rows([replace(LOADED, replaced=1200), REJECTED]) == [
        {"file": "a.csv", "outcome": "loaded", "rows": 1234, "bytes": 5000, "seconds": 0.123, "reason": None},
        {
            "file": "c.csv",
            "outcome": "rejected",
            "rows": 0,
            "bytes": 7,
            "seconds": 0.01,
            "reason": "line 3: expected 2 columns, got 3",
        },
    ]


def test_the_report_of_many_files_shows_first_what_was_not_loaded():
    loaded = [replace(LOADED, file=f"{number}.csv") for number in range(200)]
    shown = report_order([*loaded[:50], SKIPPED, REJECTED, *loaded[50:]])
    assert shown == [REJECTED, SKIPPED, *loaded]
    assert report_order([LOADED, REJECTED]) == [LOADED, REJECTED]


def test_a_log_line_says_all_about_a_file():
    assert str(LOADED) == "a.csv: loaded 1,234 rows, 5,000 bytes, in 0.12 s"
    assert (
        str(replace(LOADED, replaced=1200)) == "a.csv: loaded 1,234 rows, 5,000 bytes, in 0.12 s; replaced 1,200 rows"
    )
    assert "skipped" in str(SKIPPED)
    assert str(REJECTED) == "c.csv: rejected: line 3: expected 2 columns, got 3"
