"""Our stack as `just up` runs it, with the settings that it comes with."""

from dataclasses import fields
from datetime import datetime
from pathlib import Path

import psutil

from sensors.ledger import Ledger
from sensors.reports.files import journey_of
from sensors.stack import processes as marking
from tests.benchmarks.system import Kind, Progress, Rows, Trace
from tests.journeys.stack import Stack

TEST_SETTINGS = ("NOTIFY_STORM",)
"""What the journeys set and a person does not."""


class OurStack:
    """A `System`: server, worker, sensor and warm server under their supervisor."""

    kind = Kind.OURS
    commit_line = "Transaction committed successfully"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(folder / "state")
        for name in TEST_SETTINGS:
            del self.stack.environment[name]
        self.inbox = self.stack.inbox
        self.api = self.stack.api
        self._ledger_path = self.stack.state_dir / "ledger.db"

    def start(self) -> None:
        """Run `up` until it says that everything is healthy."""
        self.stack.state_dir.mkdir(parents=True)
        self.stack.start()

    def stop(self) -> None:
        """Stop `up` as a person does, then whatever that left."""
        try:
            self.stack.stop()
        finally:
            marking.sweep(self.stack.state_dir, grace_seconds=3)

    def processes(self) -> list[psutil.Process]:
        """Return `up` and all that bears the stack's mark."""
        return [psutil.Process(self.stack.pid), *marking.marked_processes(self.stack.state_dir)]

    def progress(self) -> Progress:
        """Count the files in the ledger, which the sensor writes and anybody may read."""
        with Ledger(self._ledger_path, read_only=True) as ledger:
            counts = dict(map(tuple, ledger.rows("SELECT state, count(*) FROM files GROUP BY state")))
        ended = {state: counts.get(state, 0) for state in ("rejected", "failed", "skipped")}
        return Progress(loaded=counts.get("loaded", 0), failed=sum(ended.values()))

    def trace(self, name: str, since: datetime) -> Trace:
        """Look the file up in the ledger."""
        with Ledger(self._ledger_path, read_only=True) as ledger:
            journey = journey_of(ledger, name)
        if journey is None or journey.run_id is None or journey.seen_at < since:
            raise LookupError(f"expected a run of {name}, the ledger has none")
        values = {field.name: getattr(journey, field.name) for field in fields(journey)}
        steps = {step: at for step, at in values.items() if step.endswith("_at") and at is not None}
        return Trace(journey.run_id, f"inbox.arrival.{journey.arrival_id}", steps)

    def rows(self, condition: str) -> Rows:
        """Count rows in the warehouse."""
        query = f"SELECT count(*), count(DISTINCT orders) FROM public.daily_metrics WHERE {condition}"
        return Rows(*self.stack.rows(query)[0])

    def runs_of_files(self, prefix: str) -> dict[str, str | None]:
        """Return the run of each file whose name begins so."""
        query = (
            "SELECT f.name, a.run_id FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
            " WHERE f.name GLOB ? || '*' AND f.state <> 'withdrawn'"
        )
        with Ledger(self._ledger_path, read_only=True) as ledger:
            return {row["name"]: row["run_id"] for row in ledger.rows(query, (prefix,))}
