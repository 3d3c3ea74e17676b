"""An arrival that is announced again loads nothing twice, and replaces its rows when it is told to reload."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.stack import Stack, wait_until

MISSING: Any = object()


class Arrival:
    """An arrival in a folder of its own, announced by hand with an event as a sensor's."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.id = f"by-hand-{uuid.uuid4()}"
        self.folder = folder
        (folder / "north").mkdir(parents=True)
        self.write("first", "first")
        stack.know_one_of(["reload"])

    def write(self, *reloads: str) -> None:
        """Write the files, one in the folder and one in a subfolder, with these values."""
        for name in ("a.csv", "north/a.csv"):
            (self.folder / name).write_text("\n".join(["reload", *reloads, ""]))

    def announce(self, reload: list[str] | None) -> dict[str, Any]:
        """Emit an event and return the run that it has started when that has ended."""
        before = self.runs()
        payload = {"arrival_id": self.id, "source_url": self.folder.as_uri(), "reload": reload}
        event = {
            "id": str(uuid.uuid4()),
            "event": "inbox.arrival.ready",
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"inbox.arrival.{self.id}", "prefect.resource.name": self.id},
            "related": [],
            "payload": {name: value for name, value in payload.items() if value is not MISSING},
        }
        self.stack.api.post("/events", json=[event]).raise_for_status()
        (run_id,) = wait_until(lambda: self.runs() - before, "the event has started a run")
        return self.stack.wait_for_end(run_id)

    def runs(self) -> set[str]:
        """Return the ids of the arrival's runs."""
        found = self.stack.api.post("/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC"}).json()
        return {run["id"] for run in found if run["parameters"].get("arrival_id") == self.id}

    def rows(self) -> list[tuple[Any, ...]]:
        """Return what the warehouse has of the arrival."""
        return self.stack.rows(
            f"SELECT _file_name, reload, count(*) FROM public.daily_metrics WHERE _arrival_id = '{self.id}'"
            " GROUP BY ALL ORDER BY ALL"
        )


@pytest.fixture
def arrival(stack: Stack, tmp_path: Path) -> Arrival:
    return Arrival(stack, tmp_path / "an arrival")


def test_rows_are_replaced_once_when_an_event_says_reload_and_never_otherwise(arrival: Arrival):
    loaded = arrival.announce(MISSING)
    assert loaded["state"]["message"] == "2 files, 4 rows loaded, 0 skipped"
    assert loaded["parameters"]["reload"] is None
    first = [("a.csv", "first", 2), ("north/a.csv", "first", 2)]
    assert arrival.rows() == first

    arrival.write("second", "second", "second")
    skipped = arrival.announce(None)
    assert skipped["state"]["message"] == "2 files, 0 rows loaded, 2 skipped"
    assert skipped["parameters"]["reload"] is None
    assert arrival.rows() == first

    one = arrival.announce(["north/a.csv"])
    assert one["state"]["message"] == "2 files, 3 rows loaded, 1 skipped"
    assert arrival.rows() == [("a.csv", "first", 2), ("north/a.csv", "second", 3)]

    every = arrival.announce(["*"])
    assert every["state"]["message"] == "2 files, 6 rows loaded, 0 skipped"
    assert every["parameters"]["reload"] == ["*"]
    assert arrival.rows() == [("a.csv", "second", 3), ("north/a.csv", "second", 3)]
    keys = arrival.stack.rows(
        f"SELECT file_name, rows FROM public._loads WHERE arrival_id = '{arrival.id}' ORDER BY ALL"
    )
    assert keys == [("a.csv", 3), ("north/a.csv", 3)]
    assert len(arrival.runs()) == 4
