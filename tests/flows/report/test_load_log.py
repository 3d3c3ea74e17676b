"""What a run says about its files, by a clock that the test turns."""

import logging

from flows.loading.file_result import FileResult, Outcome
from flows.report.artifacts import NAMED, PAUSE, LoadLog


def loaded(number: int) -> FileResult:
    return FileResult(f"{number}.csv", Outcome.LOADED, 10, 100, 0.1)


def rejected(number: int) -> FileResult:
    return FileResult(f"{number}.csv", Outcome.REJECTED, 0, 100, 0.1, "empty file")


def test_each_of_a_few_files_has_a_line():
    log = LoadLog(2, 100.0)
    results = [loaded(1), rejected(2)]
    assert list(log.lines(results, 101.0)) == [
        (logging.INFO, str(results[0])),
        (logging.WARNING, "2.csv: rejected: empty file"),
    ]


def test_of_many_it_says_at_a_sane_pace_how_far_it_has_come():
    log = LoadLog(1000, 100.0)
    assert list(log.lines([loaded(number) for number in range(300)], 100.1)) == []
    assert list(log.lines([loaded(number) for number in range(300)], 100.0 + PAUSE)) == [
        (logging.INFO, "600 of 1,000 files: 600 loaded with 6,000 rows, 0 skipped, 0 rejected; 300 files a second")
    ]
    assert list(log.lines([loaded(1)], 100.1 + PAUSE)) == []
    ((_, last),) = log.lines([loaded(number) for number in range(399)], 100.2 + PAUSE)
    assert last.startswith("1,000 of 1,000 files: 1,000 loaded with 10,000 rows")


def test_of_many_rejected_files_the_first_are_named_and_all_counted():
    log = LoadLog(100, 0.0)
    lines = [line for number in range(100) for line in log.lines([rejected(number)], 0.0)]
    assert [text for level, text in lines if level == logging.WARNING] == [
        f"{number}.csv: rejected: empty file" for number in range(NAMED)
    ]
    assert lines[-1][1].startswith("100 of 100 files: 0 loaded with 0 rows, 0 skipped, 100 rejected")
