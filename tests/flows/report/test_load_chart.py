"""The bars that a run's report shows above its table."""

import pytest

from flows.loading.file_result import FileResult, Outcome
from flows.report.artifacts import SHOWN, WIDTH, bar, chart, description_of, plain


def loaded(name: str, rows: int) -> FileResult:
    return FileResult(name, Outcome.LOADED, rows, 10 * rows, 0.1)


def test_what_somebody_has_to_see_to_stands_first_and_then_the_largest() -> None:
    rejected = FileResult("bad.csv", Outcome.REJECTED, 0, 9, 0.0, "line 3")
    skipped = FileResult("old.csv", Outcome.SKIPPED, 3, 9, 0.0)
    lines = chart([loaded("small", 1), skipped, rejected, loaded("large", 8)]).splitlines()[2:]
    assert lines == [
        r"| bad\.csv | | &ensp;✗ rejected |",
        f"| large | 8 | &ensp;{'▇' * WIDTH} |",
        r"| old\.csv | 3 | &ensp;▇▇▇▇▇▇▇▇ ↷ skipped, it was loaded before |",
        "| small | 1 | &ensp;▇▇ |",
    ]


def test_of_many_files_the_rest_is_summed_up() -> None:
    lines = chart([loaded(f"f{number}", 1000) for number in range(SHOWN + 5)]).splitlines()
    assert len(lines) == 2 + SHOWN + 1
    assert lines[-1] == "| and 5 more | 5,000 | |"


def test_one_file_has_no_chart() -> None:
    assert chart([loaded("a", 5)]) == ""


@pytest.mark.parametrize("rows", [0, 1, 10**12])
def test_files_of_any_size_have_a_bar_that_fits(rows: int) -> None:
    assert len(bar(rows, 10**12)) == {0: 0, 1: 1, 10**12: WIDTH}[rows]
    assert bar(0, 0) == ""


@pytest.mark.parametrize(
    "name", ["a|b.csv", "[x](javascript:1)", "<img src=x>", "``` `", "![x](y)", "a\n| b", "~~a~~ **b**"]
)
def test_a_file_name_is_shown_as_it_is_and_breaks_no_line(name: str) -> None:
    shown = plain(name)
    assert "\n" not in shown
    assert shown.replace("\\", "") == " ".join(name.split())
    assert not any(f"{sign}" in shown.replace(f"\\{sign}", "") for sign in "|[]()<>`*!~")


def test_the_description_links_to_the_arrivals_page_where_there_is_one() -> None:
    page = "http://127.0.0.1:4201/arrivals/m-1"
    assert description_of([loaded("a", 5)], page).endswith(f"\n\n[The arrival's page ↗]({page})")
    assert description_of([loaded("a", 5)]) == ("1 loaded with 5 rows, 0 skipped, 0 rejected.")
