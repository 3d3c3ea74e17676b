"""A store that is down, does not let us in or is not there: told in words, without credentials, and tried again."""

import contextlib
import shutil
import subprocess

import pytest

from sensors.remote.scanner import pause_after
from sensors.remote.store import ErrorTranslator, StoreError
from tests.documented_commands import commands
from tests.object_store import ENVIRONMENT
from tests.remote_world import SETTLED, World
from tests.sftp_server import SftpFolder


def trouble(sensor) -> StoreError:
    with pytest.raises(StoreError) as raised:
        sensor.step()
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
def test_while_the_server_is_down_the_pauses_grow_and_then_it_goes_on(world: World):
    sensor = world.sensor()
    world.remote.write("orders.csv", b"1")
    sensor.step()
    world.remote.server.stop()
    sensor.hand.turn(6)
    try:
        pauses = [trouble(sensor).pause_seconds for _ in range(4)]
    finally:
        world.remote.server.start()
    assert pauses == [1, 2, 4, 8]
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}


@pytest.mark.parametrize("method", ["hold", "read", "is_whole", "remove"])
@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
def test_a_server_that_goes_away_in_the_middle_of_taking_loses_nothing(world: World, monkeypatch, method):
    sensor = world.sensor()
    store = sensor.origin.store
    original = getattr(store, method)

    def after_it_went(*arguments):
        monkeypatch.undo()
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        world.remote.server.stop()
        return original(*arguments)

    monkeypatch.setattr(store, method, after_it_went)
    world.remote.write("orders.csv", b"1")
    try:
        with pytest.raises(StoreError):
            sensor.pass_time(SETTLED)
    finally:
        with contextlib.suppress(OSError):
            world.remote.server.stop()
        world.remote.server.start()
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}
    assert sensor.states() == [("orders.csv", "staged")]
    assert world.remote.all_names() == []


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_reported(world: World):
    world.remote.client.delete_bucket(Bucket=world.remote.name)
    assert "there is no such bucket or folder" in str(trouble(world.sensor()))


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_credentials_that_the_object_store_does_not_know_are_reported(world: World):
    world.remote.server.ask_for_credentials(after=0)
    try:
        reported = str(trouble(world.sensor()))
    finally:
        world.remote.server.ask_for_credentials(after=10**9)
    assert "does not let us in or refuses what is needed; check the credentials" in reported


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_a_folder_that_is_not_there_is_reported_and_no_file_counts_as_taken_away(world: World):
    sensor = world.sensor()
    world.remote.write("empty.csv", b"")
    sensor.pass_time(SETTLED)
    shutil.rmtree(world.remote.on_disk)
    sensor.hand.turn(10)
    assert "there is no such bucket or folder" in str(trouble(sensor))
    assert sensor.states() == [("empty.csv", "seen")]


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_a_key_that_the_server_does_not_know_is_reported(world: World):
    remote = world.remote
    assert isinstance(remote, SftpFolder)
    options = {**remote.options, "client_keys": [str(remote.server.folder / "stranger")]}
    sensor = world.sensor(options=options)
    assert "does not let us in" in str(trouble(sensor))


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_a_server_whose_key_is_not_known_is_not_talked_to(world: World, tmp_path):
    remote = world.remote
    assert isinstance(remote, SftpFolder)
    known = tmp_path / "known_hosts"
    stranger = (remote.server.folder / "stranger.pub").read_text()
    for content, reported in (
        (f"[127.0.0.1]:{remote.server.port} {stranger}", "key is not known"),
        ("", "key is not known"),
    ):
        known.write_text(content)
        assert reported in str(trouble(world.sensor(options={**remote.options, "known_hosts": str(known)})))
    known.unlink()
    reported = str(trouble(world.sensor(options={**remote.options, "known_hosts": str(known)})))
    assert f"ssh-keyscan -p {remote.server.port} 127.0.0.1" in reported


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_what_ssh_keyscan_prints_is_the_key_that_is_needed(world: World, tmp_path):
    remote = world.remote
    assert isinstance(remote, SftpFolder)
    (written,) = [one for one in commands().values() if one.words[0] == "ssh-keyscan"]
    line = written.line.replace("2222", str(remote.server.port)).replace("sftp.example.com", "127.0.0.1")
    known = tmp_path / "known_hosts"
    known.write_text(subprocess.run(line.split(), capture_output=True, text=True, check=True, timeout=30).stdout)
    sensor = world.sensor(options={**remote.options, "known_hosts": str(known)})
    remote.write("orders.csv", b"1")
    sensor.step()
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_a_subfolder_that_may_not_be_listed_hides_no_other_and_is_reported(world: World):
    sensor = world.sensor(subfolders=True)
    remote = world.remote
    assert isinstance(remote, SftpFolder)
    for name in ("closed/a.csv", "open/a.csv"):
        remote.write(name, b"1")
    remote.server.closed.add("closed")
    try:
        for _ in range(15):
            error = trouble(sensor)
            assert "does not let us in or refuses" in str(error)
            assert error.pause_seconds == sensor.origin.inbox.rescan_seconds, "the other folders are listed as usual"
            sensor.hand.turn(1)
    finally:
        remote.server.closed.clear()
    assert sensor.staged() == {"open/a.csv": [b"1"]}
    sensor.pass_time(SETTLED)
    assert sorted(sensor.staged()) == ["closed/a.csv", "open/a.csv"]


def test_a_message_shows_no_secret():
    asking = ErrorTranslator("s3://bucket/in", frozenset({"hushhush"}))
    with pytest.raises(StoreError) as raised, asking():
        raise OSError("PUT of hushhush was refused")
    assert "hushhush" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_longest_pause_is_a_minute():
    assert pause_after(1000) == 60
