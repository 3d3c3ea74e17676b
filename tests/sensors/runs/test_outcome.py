"""What becomes of an arrival when its run has ended."""

from sensors.ledger.announcements import FileOutcome
from sensors.ledger.states import ArrivalState, FileState
from sensors.runs.api import Run
from sensors.runs.outcomes import outcome_of


def run(state: str, state_type: str, message: str = "") -> Run:
    return Run("r1", "wise-owl", state, state_type, message, ended=True)


def row(file: str, outcome: str, rows: int = 0, reason: str = "") -> dict[str, object]:
    return {"file": file, "outcome": outcome, "rows": rows, "bytes": 1, "seconds": 0.1, "reason": reason}


def test_a_completed_run_has_loaded_its_arrival():
    outcome = outcome_of(run("Completed", "COMPLETED"), [row("a.csv", "loaded", 3), row("b.csv", "skipped")])
    assert outcome.state is ArrivalState.LOADED
    assert outcome.files == (
        FileOutcome("a.csv", FileState.LOADED, 3, None),
        FileOutcome("b.csv", FileState.LOADED, 0, None),
    )


def test_a_failed_run_shows_each_files_own_outcome():
    outcome = outcome_of(
        run("Failed", "FAILED", "1 of 2 files rejected: b.csv: line 3"),
        [row("a.csv", "loaded", 3), row("b.csv", "rejected", reason="line 3")],
    )
    assert outcome.state is ArrivalState.FAILED
    assert outcome.reason == "Failed: 1 of 2 files rejected: b.csv: line 3"
    assert [file.state for file in outcome.files] == [FileState.LOADED, FileState.REJECTED]


def test_a_run_that_left_no_word_gives_its_files_its_own_reason():
    outcome = outcome_of(run("Cancelled", "CANCELLED"), [])
    assert (outcome.state, outcome.files, outcome.reason) == (ArrivalState.FAILED, (), "Cancelled")


def test_a_run_that_somebody_deleted_is_reported_as_such():
    assert outcome_of(None, []).reason == "its run was deleted"
