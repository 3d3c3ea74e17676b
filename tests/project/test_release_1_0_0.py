"""Files that release 1.0.0 has left behind open, and work goes on with them.

`release_1_0_0/` has a ledger, an outbox and a warehouse that commit 34e1e28 made in /srv/blueprint: one file was
loaded, one rejected, and the alert about it could not be delivered when the stack was stopped.
"""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from automations.delivery.channels import Channel
from automations.delivery.deliver import drain
from automations.delivery.outbox import Outbox
from flows.loading.file_result import Outcome
from flows.sql_names import TargetTable
from sensors.ledger import Ledger, arrivals
from sensors.ledger.states import ArrivalState, FileState
from sensors.reports.arrivals import arrival_journey, latest
from sensors.reports.files import bad_files
from tests import pipeline
from tests.pipeline import Pipeline
from tests.receiver import receiving

RELEASE = Path(__file__).parent / "release_1_0_0"
LOADED, FAILED = "metrics-20261130-205142-f1a526", "metrics-20261130-205152-e35aa2"
GOOD = "id,name,amount\n1,a,1.50\n2,b,2.25\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for packed in RELEASE.iterdir():
        (tmp_path / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path


def test_the_ledger_has_every_file_and_arrival_and_a_failed_one_can_be_retried(folder: Path) -> None:
    with Ledger(folder / "ledger.db") as ledger:
        found = [(one.id, one.state) for one in latest(ledger, 10)]
        assert found == [(FAILED, ArrivalState.FAILED), (LOADED, ArrivalState.LOADED)]
        [bad] = bad_files(ledger, 10)
        assert (bad.name, bad.state) == ("bad.csv", FileState.REJECTED)
        assert bad.reason is not None
        journey = arrival_journey(ledger, LOADED)
        assert journey is not None
        assert [(one.name, one.rows) for one in journey.files] == [("good.csv", 2)]
        assert arrivals.record_replayed(ledger, FAILED, ())
        due = arrivals.to_announce(ledger, datetime.now(UTC) + timedelta(seconds=1))
        assert [(one.id, one.manifest) for one in due] == [(FAILED, None)]


def test_the_outbox_delivers_the_alert_that_1_0_0_could_not(folder: Path) -> None:
    with Outbox(folder / "alerts.db") as outbox:
        [(channel, subject)] = outbox.rows(
            "SELECT d.channel, a.subject FROM deliveries d JOIN alerts a USING (cause)"
            " WHERE d.state = 'pending' AND a.kind != 'alert/undelivered'"
        )
    with receiving() as receiver:
        url = f"json://127.0.0.1:{receiver.port}/"
        deadline = datetime.now(UTC) + timedelta(seconds=60)
        while not receiver.posts and datetime.now(UTC) < deadline:
            drain(folder / "alerts.db", Channel(channel, "1 (JSON)", url), None, lambda: False)
        assert [body["title"] for _, body in receiver.posts] == [subject]
    with Outbox(folder / "alerts.db") as outbox:
        assert not list(outbox.rows("SELECT 1 FROM deliveries WHERE state = 'pending' AND channel = ?", (channel,)))


def test_the_warehouse_skips_what_1_0_0_has_loaded_and_takes_the_next_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "TABLE", TargetTable("warehouse", "public", "daily_metrics"))
    rig = Pipeline(folder)
    rig.write("good.csv", GOOD, LOADED)
    [again] = rig.load_arrival(LOADED)
    assert (again.outcome, again.rows) == (Outcome.SKIPPED, 2)
    assert rig.load("next.csv", "id,name,amount\n3,c,3.755\n").outcome is Outcome.LOADED
    with duckdb.connect(folder / "warehouse.duckdb", read_only=True) as connection:
        rows = connection.execute("SELECT id, name, CAST(amount AS VARCHAR) FROM public.daily_metrics ORDER BY id")
        assert [(id_, name, float(amount)) for id_, name, amount in rows.fetchall()] == [
            (1, "a", 1.5), (2, "b", 2.25), (3, "c", 3.755),
        ]  # fmt: skip
