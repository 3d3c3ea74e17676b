"""The ledger is destroyed, and rebuilt from the arrivals and what the server knows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.stack import Stack, wait_until

RUBBISH = b"rubbish " * 5000


def everything(stack: Stack) -> list[tuple[Any, ...]]:
    """Return every row of the warehouse with the file and arrival that it came from."""
    return stack.rows("SELECT n, _file_name, _arrival_id, _loaded_at FROM public.daily_metrics ORDER BY ALL")


def outcomes(stack: Stack, files: int) -> dict[str, int]:
    """Return the books once so many files have their outcome."""

    def balanced() -> dict[str, int] | None:
        books = stack.books()
        return books if books["loaded"] + books["rejected"] + books["failed"] == files else None

    return wait_until(balanced, f"{files} files have their outcome", 90, pause=0.5)


@pytest.mark.timeout(420)
@pytest.mark.slow
def test_a_ledger_of_rubbish_is_rebuilt_with_the_same_books(tmp_path: Path, new_stack: Callable[..., Stack]):
    stack = new_stack(tmp_path / "state").start()
    ledger = stack.state_dir / "ledger.db"
    try:
        stack.drop("one.csv", "n\n1\n2\n")
        stack.drop("two.csv", "n\n3\n")
        stack.drop("broken.csv", "n\n4\n5,surplus\n")
        before = outcomes(stack, 3)
        assert before["rejected"] == 1
        refused = stack.command("sensors", "rebuild")
        assert refused.returncode == 1
        assert "a sensor works on" in refused.stderr
        stack.stop()
        rows = everything(stack)
        (reasons,) = stack.state_dir.glob("failed/*/*/REASONS.txt")
        reported = reasons.read_text()
        ledger.write_bytes(RUBBISH)

        # What a person sees first: `up` says which log to read, and that says what to do.
        up = stack.command("sensors", "up", seconds=150)
        assert up.returncode == 1
        assert "sensor stopped (exit status 1) and is given up" in up.stderr
        said = (stack.state_dir / "logs" / "sensor.log").read_text()
        assert "`just rebuild` puts it aside and makes a new one" in said
        assert "Traceback" not in said
        wrecked = ledger.read_bytes()
        assert wrecked[:4096] == RUBBISH[:4096]  # SQLite has written into the rest what its -wal still held

        rebuilt = stack.command("sensors", "rebuild", seconds=120)
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert "the stack is down; its server is started" in rebuilt.stdout
        (aside,) = stack.state_dir.glob("ledger.db.broken-*")
        assert str(aside) in rebuilt.stdout
        assert aside.read_bytes() == wrecked
        assert stack.books() == before
        assert everything(stack) == rows
        assert reasons.read_text() == reported

        stack.start()
        stack.drop("three.csv", "n\n6\n")
        assert outcomes(stack, 4) == {**before, "seen": 4, "loaded": before["loaded"] + 1}
        assert [row[:2] for row in everything(stack) if row not in rows] == [(6, "three.csv")]
    finally:
        stack.stop()
