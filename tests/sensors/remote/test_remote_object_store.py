"""The object store as gs:// has it, without what is S3's own, on fsspec's file system in memory."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sensors.config.inboxes import Inbox
from sensors.remote.object_store import ObjectStore
from sensors.remote.store import ChangedError, ErrorTranslator, StoreError
from tests.remote_stack import RemoteStack

TOKEN = "20261124-140509-3f9a1c-7"


@pytest.fixture
def filesystem():
    filesystem = MemoryFileSystem()
    filesystem.mkdir("/bucket")
    yield filesystem
    filesystem.rm("/bucket", recursive=True)


@pytest.fixture
def store(filesystem):
    return ObjectStore(filesystem, "bucket/in", ErrorTranslator("gs://bucket/in"))


@pytest.mark.parametrize("by_the_ledger", [False, True])
def test_a_file_goes_from_the_store_to_its_arrival(store, filesystem, tmp_path, hand_clock, by_the_ledger):
    if by_the_ledger:
        store.honours_claims = False
    rules = {"name": "partner", "path": tmp_path / "unused", "url": "gs://bucket/in", "subfolders": True}
    sensor = RemoteStack(tmp_path / "state", Inbox.model_validate(rules), hand_clock, store)
    for name in ("a.csv", "north/b.csv", ".hidden/c.csv"):
        filesystem.pipe_file(f"/bucket/in/{name}", name.encode())
    sensor.pass_time(6)
    assert sensor.staged() == {"a.csv": [b"a.csv"], "north/b.csv": [b"north/b.csv"]}
    assert filesystem.find("/bucket/in") == ["/bucket/in/.hidden/c.csv"]
    sensor.close()


def test_a_marker_claims_a_version_until_it_is_given_back(store, filesystem):
    filesystem.pipe_file("/bucket/in/a.csv", b"1")
    identity = store.find("a.csv").identity
    assert store.hold("a.csv", identity, TOKEN) == "held"
    assert store.hold("a.csv", identity, TOKEN) == "held", "our own claim, after a crash"
    assert store.hold("a.csv", identity, "20261124-140509-aaaaaa-1") == "gone"
    (file,) = [file for file in store.listing(subfolders=False) if file.name == "a.csv"]
    assert file.is_claimed
    assert [(claim.name, claim.token) for claim in store.claims(subfolders=False)] == [("a.csv", TOKEN)]
    store.release("a.csv", identity, TOKEN)
    assert list(store.claims(subfolders=False)) == []


def test_another_version_is_not_held_and_not_deleted(store, filesystem):
    filesystem.pipe_file("/bucket/in/a.csv", b"1")
    identity = store.find("a.csv").identity
    filesystem.pipe_file("/bucket/in/a.csv", b"another")
    assert store.hold("a.csv", identity, TOKEN) == "changed"
    assert not store.is_whole("a.csv", identity, TOKEN)
    store.remove("a.csv", identity, TOKEN)
    assert filesystem.cat_file("/bucket/in/a.csv") == b"another"
    filesystem.rm_file("/bucket/in/a.csv")
    assert store.hold("a.csv", identity, TOKEN) == "gone"
    with pytest.raises(ChangedError):
        list(store.read("a.csv", identity, TOKEN))


def test_a_folder_without_files_is_empty_and_a_bucket_that_is_not_there_a_trouble(store, filesystem):
    assert list(store.listing(subfolders=True)) == []
    nowhere = ObjectStore(filesystem, "nowhere/in", ErrorTranslator("gs://nowhere/in"))
    with pytest.raises(StoreError, match="there is no such bucket"):
        list(nowhere.listing(subfolders=True))
