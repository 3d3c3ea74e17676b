"""Dropping a file into an inbox."""

import subprocess
import sys

import pytest

from sensors.stack.drop import drop, place
from sensors.stack.errors import StackError
from tests.free_ports import free_ports


@pytest.fixture
def state(monkeypatch, tmp_path):
    monkeypatch.setenv("ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SENSOR_PORT", str(free_ports(1)[0]))
    monkeypatch.delenv("INBOXES_FILE", raising=False)
    return tmp_path / "state"


def names_in(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("a,b\n1,2\n")
    return file


def test_a_copy_is_in_the_inbox_and_the_file_stays(state, file):
    said = drop(file, "metrics")
    copy = state / "inbox" / "metrics" / "orders.csv"
    assert copy.read_text() == file.read_text() == "a,b\n1,2\n"
    assert names_in(copy.parent) == ["orders.csv"]
    assert "just up" in said[1]


def test_an_unknown_inbox_is_refused_and_the_known_ones_are_reported(state, file):
    with pytest.raises(StackError, match="no inbox 'metrisc'; there are: metrics"):
        drop(file, "metrisc")


@pytest.mark.parametrize(("name", "reason"), [("a.pdf", "inbox 'metrics' takes"), (".a.csv", "hidden")])
def test_what_the_sensor_would_not_take_is_refused_at_the_door(state, tmp_path, name, reason):
    (tmp_path / name).write_text("")
    with pytest.raises(StackError, match=reason):
        drop(tmp_path / name, "metrics")
    assert not state.exists()


def test_a_folder_and_a_missing_file_are_refused(state, tmp_path):
    with pytest.raises(StackError, match="not a regular file"):
        drop(tmp_path, "metrics")
    with pytest.raises(StackError, match="No such file"):
        drop(tmp_path / "none.csv", "metrics")


def test_a_file_of_the_same_name_is_never_replaced(tmp_path, file):
    inbox = tmp_path / "inbox"
    place(file, inbox)
    file.write_text("other")
    with pytest.raises(StackError, match=r"orders\.csv is in .* already"):
        place(file, inbox)
    assert (inbox / "orders.csv").read_text() == "a,b\n1,2\n"
    assert names_in(inbox) == ["orders.csv"]


def test_a_copy_that_fails_leaves_nothing_in_the_inbox(tmp_path, file):
    inbox = tmp_path / "inbox"
    # No file may grow beyond four bytes: the copy fails half-way, as on a full disk.
    code = (
        "import resource, signal, sys; from pathlib import Path; from sensors.stack.drop import place\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))\n"
        "place(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, file, inbox], capture_output=True, text=True, check=False)
    assert "cannot be copied" in done.stderr
    assert names_in(inbox) == []
