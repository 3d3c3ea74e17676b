"""The ledger is rebuilt from the arrivals on the disk and what Prefect knows of them."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from sensors.arrivals.staging import Stager
from sensors.config.settings import Settings
from sensors.daemon.process import run as run_sensor
from sensors.ledger import Ledger, LedgerError, arrivals, files
from sensors.ledger.states import ArrivalState, FileState
from sensors.recovery import rebuild as rebuilding
from sensors.recovery.rebuild import RebuildError, put_aside, rebuild
from sensors.recovery.replay import retry
from sensors.reports.arrivals import read_counts
from sensors.reports.files import journey_of
from tests.prefect_server import PrefectServer, prefect_answering
from tests.sensors.arrivals.test_stage import settled

FIRST = "metrics-20261124-090000-0000a1"
SECOND = "north-sea-20261124-091500-0000b2"


@pytest.fixture
def prefect():
    with prefect_answering() as answering:
        yield answering


@pytest.fixture
def settings(tmp_path: Path, prefect: PrefectServer) -> Settings:
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text("inboxes:\n  metrics: {duplicates: skip}\n  north-sea: {subfolders: true}\n")
    return Settings(state_dir=tmp_path / "state", inboxes_file=inboxes, api_port=prefect.port)


def stored(settings: Settings, arrival_id: str, *names: str) -> Path:
    """Put an arrival's files where staging puts them."""
    folder = settings.arrivals_dir / "2026-11-24" / arrival_id
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"rows of {name}")
    return folder


def states(settings: Settings) -> dict[str, str]:
    """Return the state of every arrival and file by id or name."""
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        rows = ledger.rows("SELECT id AS name, state FROM arrivals UNION ALL SELECT name, state FROM files")
    return {row["name"]: row["state"] for row in rows}


def journey(settings: Settings, name: str):
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        return journey_of(ledger, name)


def test_an_arrival_that_was_loaded_is_loaded_again_without_a_new_run(settings, prefect):
    stored(settings, FIRST, "a.csv", "b.csv")
    prefect.run("r1", "COMPLETED", FIRST)
    prefect.report(FIRST, "r1", a="loaded", b="skipped")
    rebuild(settings)
    assert states(settings) == {FIRST: "loaded", "a.csv": "loaded", "b.csv": "loaded"}
    a = journey(settings, "a.csv")
    assert (a.run_id, a.run_name, a.rows) == ("r1", "run-r1", 3)
    assert a.seen_at == datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert a.ended_at == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def test_a_file_is_written_down_as_it_was_when_it_was_dropped(settings):
    folder = stored(settings, SECOND, "east/a.csv")
    rebuild(settings)
    with Ledger(settings.ledger_path) as ledger:
        (row,) = ledger.rows("SELECT * FROM files")
        (arrival,) = arrivals.to_announce(ledger, datetime.now(UTC))
    status = (folder / "east" / "a.csv").stat()
    assert (row["inbox"], row["name"], row["path"]) == (
        "north-sea",
        "east/a.csv",
        str(settings.inbox_dir / "north-sea" / "east" / "a.csv"),
    )
    assert (row["inode"], row["size"], row["mtime_ns"]) == (str(status.st_ino), status.st_size, status.st_mtime_ns)
    assert (arrival.id, arrival.folder, arrival.attempt) == (SECOND, folder, 0)


def test_a_failed_arrival_has_its_bad_files_in_failed_with_their_reasons(settings, prefect):
    stored(settings, FIRST, "a.csv", "b.csv")
    prefect.run("r1", "FAILED", FIRST, "1 of 2 files rejected: b.csv: line 3: surplus")
    prefect.report(FIRST, "r1", a="loaded", b="rejected")
    stale = settings.failed_dir / "arrivals" / FIRST
    stale.mkdir(parents=True)
    (stale / "a.csv").symlink_to("nowhere")
    rebuild(settings)
    assert states(settings) == {FIRST: "failed", "a.csv": "loaded", "b.csv": "rejected"}
    assert sorted(path.name for path in stale.iterdir()) == ["REASONS.txt", "links"]
    assert [path.name for path in (stale / "links").iterdir()] == ["b.csv"]
    assert (stale / "REASONS.txt").read_text() == "b.csv: line 3: surplus\n"


def test_a_run_that_failed_before_it_came_to_a_file_is_known_by_its_parameter(settings, prefect):
    stored(settings, FIRST, "a.csv")
    prefect.run("scheduled", "SCHEDULED")
    prefect.run("r1", "FAILED", FIRST, "the warehouse cannot be opened")
    rebuild(settings)
    assert states(settings) == {FIRST: "failed", "a.csv": "failed"}
    assert journey(settings, "a.csv").reason == "Failed: the warehouse cannot be opened"


def test_a_run_that_is_at_work_is_followed(settings, prefect):
    stored(settings, FIRST, "a.csv")
    for n in range(450):
        prefect.run(f"other-{n}", "SCHEDULED")
    prefect.run("r2", "RUNNING", FIRST)
    prefect.run("r1", "FAILED", FIRST)
    prefect.report(FIRST, "r1", a="rejected")
    rebuild(settings)
    with Ledger(settings.ledger_path) as ledger:
        (arrival,) = arrivals.in_state(ledger, ArrivalState.RUNNING)
    assert (arrival.id, arrival.run_id) == (FIRST, "r2")
    assert journey(settings, "a.csv").state is FileState.STAGED


@pytest.mark.parametrize("known", ["nothing", "crashed"])
def test_an_arrival_without_a_result_is_announced_again(settings, prefect, known):
    stored(settings, FIRST, "a.csv")
    if known == "crashed":
        prefect.run("r1", "CRASHED", FIRST)
        prefect.report(FIRST, "r1", a="loaded")
    reported = rebuild(settings).lines()
    assert states(settings) == {FIRST: "staged", "a.csv": "staged"}
    assert "  1 of the arrivals will be announced again; what is loaded is skipped" in reported


@pytest.mark.parametrize(("outcome", "state"), [("loaded", "loaded"), ("rejected", "failed")])
def test_what_a_run_reported_holds_although_the_run_was_deleted(settings, prefect, outcome, state):
    stored(settings, FIRST, "a.csv")
    prefect.report(FIRST, "gone", a=outcome)
    rebuild(settings)
    assert states(settings) == {FIRST: state, "a.csv": outcome}


def test_many_arrivals_are_asked_about_in_batches(settings, prefect):
    ids = [f"metrics-20261124-090000-{n:06x}" for n in range(45)]
    for id_ in ids:
        stored(settings, id_, f"{id_}.csv")
        prefect.run(id_, "COMPLETED", id_)
        prefect.report(id_, id_, **{id_: "loaded"})
    assert rebuild(settings).arrivals == {"loaded": 45}
    assert len(prefect.asked) == 5  # runs at work, three pages of reports, their runs


def test_what_is_no_file_of_an_arrival_is_passed_over(settings):
    folder = stored(settings, FIRST, "a.csv", ".b.csv.part", ".hidden/c.csv")
    (folder / "link.csv").symlink_to(folder / "a.csv")
    stored(settings, "notes", "d.csv")
    stored(settings, "metrics-20261124-099999-0000a1", "e.csv")
    stored(settings, "metrics-20261124-090000-0000a2").mkdir(parents=True)
    rebuild(settings)
    assert states(settings) == {FIRST: "staged", "a.csv": "staged"}


def test_the_old_ledger_is_put_aside_whole_and_never_over_another(settings, tmp_path):
    names = ("ledger.db", "ledger.db-wal", "ledger.db-shm")
    now = datetime(2026, 11, 24, 10, tzinfo=UTC)
    kept = []
    for time in range(2):
        for name in names:
            (tmp_path / name).write_text(f"{name} {time}")
        kept.append(put_aside(tmp_path / "ledger.db", now))
    assert [path.name for path in kept] == ["ledger.db.broken-20261124-100000", "ledger.db.broken-20261124-100001"]
    for time, path in enumerate(kept):
        for name, suffix in zip(names, ("", "-wal", "-shm"), strict=True):
            assert path.with_name(path.name + suffix).read_text() == f"{name} {time}"
    assert put_aside(tmp_path / "ledger.db", now) is None


def test_rubbish_is_replaced_by_a_ledger_that_can_be_used(settings):
    stored(settings, FIRST, "a.csv")
    settings.ledger_path.write_bytes(b"rubbish" * 1000)
    reported = rebuild(settings)
    assert reported.aside is not None
    assert reported.aside.read_bytes() == b"rubbish" * 1000
    assert sorted(path.name for path in settings.state_dir.glob("ledger.db*")) == [
        "ledger.db",
        reported.aside.name,
        "ledger.db.lock",
    ]
    with Ledger(settings.ledger_path) as ledger:
        ledger.check()
        assert ledger.rows("PRAGMA journal_mode")[0][0] == "wal"
    assert read_counts(settings)["metrics"].in_flight == 1


def test_without_arrivals_and_without_a_ledger_there_is_an_empty_one(settings):
    reported = rebuild(settings)
    assert (reported.arrivals, reported.files, reported.aside) == ({}, {}, None)
    assert states(settings) == {}


def test_while_a_sensor_works_nothing_is_done(settings, monkeypatch):
    settings.state_dir.mkdir()
    settings.ledger_path.write_bytes(b"rubbish")
    monkeypatch.setattr(rebuilding, "LOCK_SECONDS", 0.1)
    with (
        FileLock(f"{settings.ledger_path}.lock"),
        pytest.raises(RebuildError, match=r"a sensor works on .* stop `just up`"),
    ):
        rebuild(settings)
    assert settings.ledger_path.read_bytes() == b"rubbish"


@pytest.mark.parametrize("status", [401, 500, 503, None])
def test_without_an_answer_nothing_is_done_unless_the_server_is_not_to_be_asked(settings, prefect, status):
    stored(settings, FIRST, "a.csv")
    prefect.report(FIRST, "gone", a="loaded")
    settings.ledger_path.write_bytes(b"rubbish")
    if status is None:
        settings = settings.model_copy(update={"api_port": 1})
    else:
        prefect.status = status
    with pytest.raises(RebuildError, match=r"left as it is, because Prefect cannot be asked(.|\n)*--offline"):
        rebuild(settings)
    assert settings.ledger_path.read_bytes() == b"rubbish"
    assert rebuild(settings, offline=True).arrivals == {"staged": 1}


def test_the_server_that_is_asked_is_this_stacks_whatever_the_environment_names(
    settings, prefect, unreachable, monkeypatch
):
    stored(settings, FIRST, "a.csv")
    prefect.report(FIRST, "gone", a="loaded")
    monkeypatch.setenv("PREFECT_API_URL", unreachable)
    elsewhere = Settings(state_dir=settings.state_dir, inboxes_file=settings.inboxes_file, api_port=prefect.port)
    assert elsewhere.prefect_api_url == unreachable
    assert rebuild(elsewhere).arrivals == {"loaded": 1}


@pytest.mark.parametrize("step", ["finish", "files_of_ledger", "put_aside", "rename_without_replacing"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_any_step_it_leaves_the_old_ledger_or_none_and_can_be_repeated(settings, monkeypatch, step, before):
    class Killed(BaseException):
        pass

    stored(settings, FIRST, "a.csv")
    settings.ledger_path.write_bytes(b"rubbish")
    owner = rebuilding.maintenance if hasattr(rebuilding.maintenance, step) else rebuilding
    whole = getattr(owner, step)

    def killed(*args: object) -> object:
        if not before:
            whole(*args)
        raise Killed

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(Killed):
        rebuild(settings)
    monkeypatch.undo()
    if settings.ledger_path.exists():
        assert settings.ledger_path.read_bytes() == b"rubbish"
    with pytest.raises(LedgerError, match="just rebuild"):
        run_sensor(settings)
    rebuild(settings)
    assert states(settings) == {FIRST: "staged", "a.csv": "staged"}
    (aside,) = settings.state_dir.glob("ledger.db.broken-*")
    assert aside.read_bytes() == b"rubbish"


def test_killed_between_the_files_of_the_old_ledger_no_wal_is_left_for_the_new_one(settings):
    stored(settings, FIRST, "a.csv")
    settings.ledger_path.with_name("ledger.db-wal").write_bytes(b"of another ledger")
    rebuild(settings)
    assert states(settings) == {FIRST: "staged", "a.csv": "staged"}
    assert [path.read_bytes() for path in settings.state_dir.glob("ledger.db.broken-*-wal")] == [b"of another ledger"]


def duplicates(settings: Settings, inbox, clock) -> str:
    """Have a duplicate of a file staged, and return its arrival's id."""
    inbox = inbox.model_copy(update={"duplicates": "skip", "path": settings.inbox_dir / "metrics"})
    inbox.path.mkdir(parents=True)
    with Ledger(settings.ledger_path) as ledger:
        stager = Stager(ledger, settings.arrivals_dir, clock)
        for name in ("a", "again"):
            settled(ledger, inbox, clock, **{name: "the same"})
            assert stager.step(inbox)
        (arrival,) = arrivals.in_state(ledger, ArrivalState.SKIPPED)
    return arrival.id


def test_duplicates_are_not_announced_and_what_they_repeat_is_known_again(settings, inbox, hand_clock):
    id_ = duplicates(settings, inbox, hand_clock.clock)
    before = states(settings)
    rebuild(settings)
    assert states(settings) == before
    assert before[id_] == "skipped"
    assert journey(settings, "again.csv").reason == "a duplicate: the same content as a file that had come before"
    with Ledger(settings.ledger_path) as ledger:
        (digest,) = {row["sha256"] for row in ledger.rows("SELECT sha256 FROM files")}
        assert files.first_with_content(ledger, "metrics", digest).startswith("a.csv of arrival")


def test_duplicates_that_a_person_had_announced_are_none_any_more(settings, inbox, hand_clock):
    id_ = duplicates(settings, inbox, hand_clock.clock)
    retry(settings, id_)
    rebuild(settings)
    assert states(settings)[id_] == "staged"


def claim(settings: Settings, inbox: str, name: str, content: str = "rows") -> Path:
    path = settings.inbox_dir / inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_claimed_file_is_given_back_under_its_own_name(settings):
    stored(settings, SECOND).mkdir(parents=True)
    claimed = claim(settings, "north-sea", "east/.taking-20261124-091500-0000b2-7-a-b.csv")
    reported = rebuild(settings)
    assert not claimed.exists()
    assert reported.given_back == [claimed.with_name("a-b.csv")]
    assert claimed.with_name("a-b.csv").read_text() == "rows"
    assert any("is back and is taken again" in line for line in reported.lines())
    assert states(settings) == {}


def test_a_claimed_file_never_replaces_another(settings):
    stored(settings, FIRST).mkdir(parents=True)
    claim(settings, "metrics", ".taking-20261124-090000-0000a1-7-a.csv", "first")
    claim(settings, "metrics", "a.csv", "second")
    rebuild(settings)
    found = sorted(path.read_text() for path in (settings.inbox_dir / "metrics").iterdir())
    assert found == ["first", "second"]


def test_a_claim_whose_copy_is_in_its_arrival_is_removed(settings):
    folder = stored(settings, FIRST, "a.csv")
    claim(settings, "metrics", ".taking-20261124-090000-0000a1-7-a.csv", (folder / "a.csv").read_text())
    assert rebuild(settings).given_back == []
    assert list((settings.inbox_dir / "metrics").iterdir()) == []
    assert states(settings) == {FIRST: "staged", "a.csv": "staged"}


def test_another_sensors_claim_is_left_alone(settings):
    theirs = claim(settings, "metrics", ".taking-20261124-090000-0000ff-7-a.csv")
    rebuild(settings)
    assert theirs.exists()


def test_a_disk_that_refuses_is_reported_in_a_line(settings, monkeypatch):
    def full(*_args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(rebuilding.maintenance, "record_found", full)
    stored(settings, FIRST, "a.csv")
    with pytest.raises(RebuildError, match="not rebuilt: database or disk is full"):
        rebuild(settings)
    assert not settings.ledger_path.exists()


def test_arrivals_are_loaded_by_their_inbox_s_present_rules(settings):
    settings.inboxes_file.write_text("inboxes:\n  metrics: {contract: freeze}\n")
    stored(settings, FIRST, "a.csv")
    stored(settings, SECOND, "b.csv")
    rebuild(settings, offline=True)
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        rules = {row["id"]: row["rules"] for row in ledger.rows("SELECT id, rules FROM arrivals")}
    assert rules == {FIRST: '{"contract": "freeze"}', SECOND: None}
