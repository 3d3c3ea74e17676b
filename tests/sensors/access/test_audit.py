"""The audit log as a file: whole lines of many writers, a bounded size, private; and commands that write into it."""

import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sensors.__main__ import app
from sensors.access import log_ins
from sensors.access.log_ins import Action, Audit, system_user
from sensors.ledger import Ledger
from tests.dropped_arrivals import record_arrival
from tests.other_user import needs_root


def write_many(path: Path, number: int) -> None:
    for line in range(200):
        Audit(path).record(Action.UPLOAD, f"user {number}", "10.0.0.1", file="x" * 300, line=line)


def test_every_line_of_several_processes_is_whole_and_kept_while_the_file_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(log_ins, "MOST_BYTES", 100_000)
    path = tmp_path / "logs" / "audit.log"
    forking = multiprocessing.get_context("fork")
    writers = [forking.Process(target=write_many, args=(path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]
    lines = [json.loads(line) for file in files for line in file.read_text("ascii").splitlines()]
    assert len({(one["user"], one["line"]) for one in lines}) == len(lines) == 800
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(file.stat().st_size <= 100_000 for file in files)


def test_nothing_is_written_through_a_link_in_the_place_of_the_file(tmp_path, caplog):
    target = tmp_path / "target"
    (tmp_path / "audit.log").symlink_to(target)
    Audit(tmp_path / "audit.log").record(Action.LOG_IN, "admin")
    assert not target.exists()
    assert "audit.log cannot be written" in caplog.text


@needs_root
def test_a_command_of_root_does_not_lock_the_service_out(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    Audit(tmp_path / "audit.log").record_command(Action.RETRY, arrival="m-1")
    status = (tmp_path / "audit.log").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (12345, 0o600)


@pytest.mark.parametrize(
    ("command", "action", "detail"),
    [
        (["retry", "m-1"], "retry", ("arrival", "m-1")),
        (["replay", "--failed"], "replay", ("failed", "True")),
        (["dismiss", "m-1"], "dismiss", ("what", "m-1")),
        (["drop", "a.csv"], "drop", ("file", "a.csv")),
    ],
)
def test_commands_on_the_terminal_are_recorded_with_the_user_of_the_system(
    tmp_path, monkeypatch, command, action, detail
):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("n\n1\n")
    with Ledger(tmp_path / "ledger.db") as ledger:
        record_arrival(ledger, "m-1", datetime(2026, 11, 24, tzinfo=UTC), {"x.csv": "failed"}, state="failed")
    assert CliRunner().invoke(app, command).exit_code == 0
    (line,) = [json.loads(line) for line in (tmp_path / "logs" / "audit.log").read_text().splitlines()]
    assert (line["action"], line["user"], line["address"]) == (action, system_user(), "terminal")
    assert line[detail[0]] == detail[1]


def test_a_command_that_does_nothing_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    assert CliRunner().invoke(app, ["retry", "none"]).exit_code != 0
    assert not (tmp_path / "logs" / "audit.log").exists()
