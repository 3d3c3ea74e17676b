"""The files that we write for ourselves: a symbolic link that has the name of one is never written through."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from automations.delivery import log as alert_log
from automations.delivery.outbox import Outbox
from flows.document_store import DocumentFolder
from sensors.arrivals.duplicates import is_marked_as_duplicates, mark_duplicates
from sensors.config.settings import Settings
from sensors.files.beneath import appending_to, created_anew, replace_text
from sensors.stack import balancer
from sensors.stack.errors import StackError
from sensors.stack.prefect_setup import Commands
from sensors.stack.state_dir import hold_state_folder
from sensors.stack.stop import StopRequest


@pytest.fixture
def victim(tmp_path):
    """A file that nothing here may write."""
    path = tmp_path / "victim"
    path.write_text("as it was\n")
    yield path
    assert path.read_text() == "as it was\n"


@pytest.fixture
def settings(tmp_path):
    made = Settings(state_dir=tmp_path / "data")
    for folder in (made.logs_dir, made.prefect_home, made.inbox_dir, made.arrivals_dir):
        folder.mkdir(parents=True)
    return made


@pytest.mark.parametrize("name", ["up.pid", "up.ports"])
def test_a_start_replaces_a_link_that_has_the_name_of_its_pid_or_ports(settings, victim, name):
    (settings.logs_dir / name).symlink_to(victim)
    try:
        hold_state_folder(settings).release()
    except StackError:
        return  # refused to start on it, which is as good
    assert not (settings.logs_dir / name).is_symlink()


def test_the_log_of_a_preparation_is_not_a_link(tmp_path, victim):
    log = tmp_path / "prepare.log"
    log.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Commands({}, log, StopRequest()).run("nothing", ("this",))


def test_the_configuration_of_the_balancer_replaces_a_link(settings, victim, monkeypatch):
    (settings.prefect_home / "haproxy.cfg").symlink_to(victim)
    monkeypatch.setattr(balancer, "read_settings", lambda: settings)
    monkeypatch.setattr(balancer, "program", lambda: None)
    with pytest.raises(SystemExit):
        balancer.main()
    assert "maxconn" in (settings.prefect_home / "haproxy.cfg").read_text()


@pytest.mark.parametrize("write", [lambda path: replace_text(path, "new"), lambda path: created_anew(path).close()])
def test_a_file_of_ours_is_made_anew_in_place_of_a_link(tmp_path, victim, write):
    path = tmp_path / "ours"
    path.symlink_to(victim)
    write(path)
    assert not path.is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ours", "victim"]


def test_nothing_is_appended_through_a_link_or_to_a_fifo(tmp_path, victim):
    import os

    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(OSError), appending_to(tmp_path / name):  # noqa: PT011 - ELOOP, ENXIO
            pass


def test_the_log_of_alerts_is_not_a_link(tmp_path, victim):
    (tmp_path / "alerts.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        alert_log.append(tmp_path / "alerts.log", "an alert\n")


def test_the_sign_of_life_of_the_dispatcher_makes_no_file_where_a_link_leads(tmp_path):
    outbox = Outbox(tmp_path / "alerts.db")
    (tmp_path / "alerts.db.alive").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic links"):
        outbox.record_heartbeat()
    assert not (tmp_path / "made").exists()
    (tmp_path / "alerts.db.alive").unlink()
    outbox.record_heartbeat()
    assert outbox.has_dispatcher(datetime.now(UTC))


def test_the_mark_of_duplicates_is_not_made_where_a_link_leads(tmp_path, victim):
    (tmp_path / ".duplicates").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic links"):
        mark_duplicates(tmp_path)
    assert not (tmp_path / "made").exists()
    (tmp_path / ".duplicates").unlink()
    mark_duplicates(tmp_path)
    assert is_marked_as_duplicates(tmp_path)


def test_a_document_is_not_written_through_a_link_of_a_name_that_can_be_guessed(tmp_path, victim):
    import hashlib
    import os

    content = b'{"a": 1}'
    digest = hashlib.sha256(content).hexdigest()
    folder = tmp_path / "documents" / digest[:2]
    folder.mkdir(parents=True)
    (folder / f".{digest}.{os.getpid()}.part").symlink_to(victim)
    with DocumentFolder(tmp_path / "documents") as documents:
        documents._keep(content, digest)
    assert (folder / f"{digest}.json").read_bytes() == content
    assert not (folder / f"{digest}.json").is_symlink()


def test_an_export_overwrites_no_file_that_a_link_leads_to(tmp_path, victim):
    from automations.as_code.export import _follow_no_link

    (tmp_path / "alert.yaml").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        open(Path(tmp_path / "alert.yaml"), "w", encoding="utf-8", opener=_follow_no_link)  # noqa: SIM115
