"""The check of a ledger that is too large to be read before the start."""

from pathlib import Path

import pytest

from sensors.ledger import Ledger, LedgerError, maintenance
from sensors.ledger.maintenance import PAUSE_SECONDS, LedgerCheck, is_large


@pytest.fixture
def large(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of some thousand rows, in a world where that is large."""
    ledger.change(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO arrivals"
        " (id, inbox, folder, state, created_at) SELECT 'm-' || i, 'metrics', '/a/' || i, 'loaded', '2026' FROM n"
    )
    ledger.close()
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(maintenance, "LARGE_BYTES", 100_000)
    assert is_large(path)
    return path


def damage(path: Path) -> None:
    """Overwrite pages in the middle, which no query of the first rows reads."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 20_000)


def test_a_ledger_that_is_not_there_or_small_is_none_to_check_later(tmp_path: Path):
    assert not is_large(tmp_path / "ledger.db")
    with Ledger(tmp_path / "ledger.db"):
        assert not is_large(tmp_path / "ledger.db")
    damage(tmp_path / "ledger.db")
    assert LedgerCheck(tmp_path / "ledger.db").step() == PAUSE_SECONDS


def test_a_sound_ledger_is_read_once(large: Path):
    check = LedgerCheck(large)
    assert check.step() == PAUSE_SECONDS
    damage(large)
    assert check.step() == PAUSE_SECONDS


def test_a_corrupt_one_is_reported_at_every_step_with_what_to_do(large: Path):
    damage(large)
    check = LedgerCheck(large)
    for _ in range(3):
        with pytest.raises(LedgerError, match="just rebuild"):
            check.step()
