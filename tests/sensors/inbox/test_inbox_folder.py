"""The folders of the inboxes, and what a person reads of one that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sensors.config.inboxes import Inbox, InboxesError
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.inbox.intake import make_folders
from sensors.stack.errors import StackError
from sensors.stack.preflight import preflight
from tests.free_ports import free_ports

FILE = Path("inboxes.yaml")
EXPECTED = "expected a folder that can be read and written, "


def refused(*inboxes: Inbox) -> list[str]:
    with pytest.raises(InboxesError) as raised:
        make_folders(FILE, inboxes)
    return str(raised.value).splitlines()


def test_a_folder_that_is_not_there_is_made(tmp_path):
    make_folders(FILE, [Inbox(name="a", path=tmp_path / "new" / "a")])
    assert (tmp_path / "new" / "a").is_dir()


def test_each_that_cannot_be_used_is_reported_in_one_line_with_what_is_wrong(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    closed = tmp_path / "closed"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and real(path, mode))
    lines = refused(
        Inbox(name="a", path=file),
        Inbox(name="b", path=file / "below"),
        Inbox(name="good", path=tmp_path / "good"),
        Inbox(name="c", path=closed),
    )
    assert [line.removesuffix("; set another path or mend this one") for line in lines] == [
        f"inboxes.yaml: inboxes.a.path: {EXPECTED}{file} is a file",
        f"inboxes.yaml: inboxes.b.path: {EXPECTED}{file / 'below'} cannot be made: Not a directory",
        f"inboxes.yaml: inboxes.c.path: {EXPECTED}{closed} does not let us in",
    ]


def test_for_a_sensor_that_starts_only_what_can_be_no_folder_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    closed = Inbox(name="c", path=tmp_path)
    refused(closed)
    make_folders(FILE, [closed], for_now=True)
    (tmp_path / "file").touch()
    with pytest.raises(InboxesError, match="is a file"):
        make_folders(FILE, [Inbox(name="a", path=tmp_path / "file")], for_now=True)


@pytest.fixture
def inboxes_file(tmp_path):
    (tmp_path / "file").touch()
    written = tmp_path / "inboxes.yaml"
    written.write_text(f"inboxes:\n  orders: {{path: {tmp_path}/file}}\n")
    return written


def test_it_is_reported_before_anything_is_started(tmp_path, inboxes_file):
    api_port, sensor_port = free_ports(2)
    settings = Settings(
        state_dir=tmp_path / "state", api_port=api_port, sensor_port=sensor_port, inboxes_file=inboxes_file
    )
    with pytest.raises(StackError) as raised:
        preflight(settings)
    (line,) = raised.value.lines
    assert "inboxes.orders.path" in line


def test_the_sensor_alone_reports_it_as_well(tmp_path, inboxes_file):
    done = subprocess.run(
        [sys.executable, "-m", "sensors", "run"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "STATE_DIR": str(tmp_path / "state"), "INBOXES_FILE": str(inboxes_file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "inboxes.orders.path" in line
