"""Two sensors on one remote folder, and claims that were left: each file is taken by exactly one."""

import threading
import time
from contextlib import suppress

import pytest

from sensors.recovery.claims import give_back_remote_claims
from sensors.remote.store import StoreError
from sensors.runtime.clock import Clock
from tests.hand_clock import HandClock
from tests.remote_stack import RemoteStack
from tests.remote_world import SETTLED, World

FILES = 200


@pytest.mark.timeout(240)
@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
def test_of_two_sensors_that_list_the_same_folder_one_takes_each_file(world: World):
    world.hand = HandClock()
    sensors = [
        world.sensor(name, rescan_seconds=0.2, unproven_quiet_seconds=0.5, max_files=50, max_in_flight=1000)
        for name in ("one", "two")
    ]
    for sensor in sensors:
        sensor.hand.clock = Clock()
        sensor.restart()
    contents = {f"{number}.csv": f"file {number}".encode() for number in range(FILES)}
    for name, content in contents.items():
        world.remote.write(name, content)
    deadline = time.monotonic() + 180

    def work(sensor: RemoteStack) -> None:
        while world.remote.all_names() and time.monotonic() < deadline:
            with suppress(StoreError):
                sensor.step()

    threads = [threading.Thread(target=work, args=(sensor,)) for sensor in sensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.remote.all_names() == []
    staged = [(name, content) for sensor in sensors for name, its in sensor.staged().items() for content in its]
    assert sorted(staged) == sorted(contents.items())
    for sensor in sensors:
        sensor.step()
        assert {state for _, state in sensor.states()} <= {"staged", "withdrawn"}


@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
def test_what_another_sensor_has_claimed_is_left_alone(world: World):
    other, sensor = world.sensor("other"), world.sensor()
    world.remote.write("orders.csv", b"1")
    file = other.origin.store.find("orders.csv")
    assert file is not None
    assert other.origin.store.hold("orders.csv", file.identity, "20261124-140509-3f9a1c-7") == "held"
    sensor.pass_time(SETTLED)
    assert sensor.states() == []
    other.origin.store.release("orders.csv", file.identity, "20261124-140509-3f9a1c-7")
    sensor.pass_time(SETTLED)
    assert sensor.staged() == {"orders.csv": [b"1"]}


@pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)
@pytest.mark.parametrize("copied", [True, False])
def test_without_a_ledger_our_claims_are_given_back_unless_their_copy_is_in_its_arrival(world: World, copied):
    store = world.sensor().origin.store
    for name in ("orders.csv", "other.csv"):
        world.remote.write(name, b"1")
    for name, token in (("orders.csv", "20261124-140509-3f9a1c-7"), ("other.csv", "20261124-140509-aaaaaa-8")):
        file = store.find(name)
        assert file is not None
        assert store.hold(name, file.identity, token) == "held"
    arrival = world.folder / "arrivals" / "2026-11-24" / "partner-20261124-140509-3f9a1c"
    arrival.mkdir(parents=True)
    if copied:
        (arrival / "orders.csv").write_bytes(b"1")
    reported = give_back_remote_claims([world.inbox()], world.folder / "arrivals")
    left = {file.name for file in store.listing(subfolders=False) if not file.name.startswith(".")}
    assert ("orders.csv" in left) is not copied
    assert bool(reported) is not copied
    assert [claim.token for claim in store.claims(subfolders=False)] == ["20261124-140509-aaaaaa-8"], "not ours"


@pytest.mark.parametrize("world", ["sftp"], indirect=True)
def test_a_file_that_is_given_back_replaces_none_that_has_come_meanwhile(world: World):
    store = world.sensor().origin.store
    world.remote.write("orders.csv", b"first")
    file = store.find("orders.csv")
    assert file is not None
    store.hold("orders.csv", file.identity, "20261124-140509-3f9a1c-7")
    world.remote.write("orders.csv", b"second")
    store.release("orders.csv", file.identity, "20261124-140509-3f9a1c-7")
    assert sorted(world.remote.read(name) for name in world.remote.all_names()) == [b"first", b"second"]


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_a_deletion_takes_away_only_the_version_that_was_copied(world: World):
    """Also when it is overwritten between the last look and the deletion itself."""
    store = world.sensor().origin.store
    world.remote.write("orders.csv", b"first")
    file = store.find("orders.csv")
    assert file is not None
    store.find = lambda name: (world.remote.write("orders.csv", b"second"), file)[1]
    store.remove("orders.csv", file.identity, "token")
    assert world.remote.read("orders.csv") == b"second"
