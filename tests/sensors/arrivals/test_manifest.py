"""A staged arrival has a manifest beside its files, and the ledger, the event and a rebuilt ledger know it."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from sensors.arrivals import manifest
from sensors.arrivals.staging import Stager
from sensors.config.admission import Admission, admit
from sensors.config.settings import Settings
from sensors.files.beneath import OpenFolders
from sensors.ledger import Ledger, arrivals, files
from sensors.ledger.files import Dropped
from sensors.ledger.states import ArrivalState
from sensors.recovery.rebuild import rebuild
from sensors.runs.announcer import Announcer
from sensors.runs.api import PrefectApi
from tests.dropped_arrivals import identity_at
from tests.receiver import receiving


@pytest.fixture
def stager(ledger, tmp_path, hand_clock) -> Stager:
    return Stager(ledger, tmp_path / "arrivals", hand_clock.clock)


def settle(ledger: Ledger, inbox, clock, **contents: str) -> None:
    """Drop files and have them settled; `__` in a name stands for a folder."""
    found = []
    for name, text in contents.items():
        path = inbox.path / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found.append(Dropped(path, str(path.relative_to(inbox.path)), identity_at(path)))
    files.record_seen(ledger, inbox.name, found, clock.utc())
    assert files.record_settled(ledger, found, clock.utc()) == len(found)


def the_arrival(ledger: Ledger, state: ArrivalState = ArrivalState.STAGED) -> arrivals.Arrival:
    (arrival,) = arrivals.in_state(ledger, state)
    return arrival


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_name_size_and_digest_of_each_file_are_in_the_manifest_and_in_the_ledger(stager, ledger, inbox, hand_clock):
    inbox = inbox.model_copy(update={"subfolders": True})
    settle(ledger, inbox, hand_clock.clock, one="1", north__two="two rows", empty="")
    assert stager.step(inbox)
    arrival = the_arrival(ledger)
    content = (arrival.folder / manifest.NAME).read_bytes()
    expected = {
        "empty.csv": [0, sha256("")],
        "north/two.csv": [8, sha256("two rows")],
        "one.csv": [1, sha256("1")],
    }
    times = {name: (arrival.folder / name).stat().st_mtime_ns for name in expected}
    listed = {name: [*about, times[name]] for name, about in expected.items()}
    assert json.loads(content) == {"version": 1, "arrival": arrival.id, "files": listed}
    assert arrival.manifest == hashlib.sha256(content).hexdigest()
    assert {one.name: [one.size, one.sha256] for one in arrivals.file_contents(ledger, arrival.id)} == expected
    assert manifest.content_of(arrival.id, arrivals.file_contents(ledger, arrival.id)) == content


@pytest.mark.parametrize(("folder_mode", "expected"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o640)])
def test_a_manifest_is_for_those_who_may_read_its_folder_and_no_half_of_one_is_left(tmp_path, folder_mode, expected):
    tmp_path.chmod(folder_mode)
    manifest.write(tmp_path, b"{}")
    assert stat.S_IMODE((tmp_path / manifest.NAME).stat().st_mode) == expected
    assert [path.name for path in tmp_path.iterdir()] == [manifest.NAME]


def test_no_half_of_a_manifest_is_left(stager, ledger, inbox, hand_clock):
    settle(ledger, inbox, hand_clock.clock, one="1")
    stager.step(inbox)
    folder = the_arrival(ledger).folder
    assert sorted(path.name for path in folder.iterdir()) == [manifest.NAME, "one.csv"]


def test_a_link_in_the_place_of_a_half_written_manifest_is_not_written_through(tmp_path):
    folder = tmp_path / "arrival"
    folder.mkdir()
    (tmp_path / "other").write_text("mine")
    for name in (manifest.NAME, f"{manifest.NAME}.part"):
        (folder / name).symlink_to(tmp_path / "other")
    manifest.write(folder, b"{}")
    assert (tmp_path / "other").read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == [manifest.NAME]
    assert not (folder / manifest.NAME).is_symlink()


def test_a_dropped_file_of_the_manifests_name_is_left_alone_like_every_hidden_one(inbox):
    (inbox.path / manifest.NAME).write_text("mine")
    ruling = admit(manifest.NAME, (inbox.path / manifest.NAME).stat(), inbox.model_copy(update={"patterns": ("*",)}))
    assert ruling.admission is not Admission.ADMITTED


def test_a_file_that_its_disk_does_not_give_is_listed_by_its_size_alone(tmp_path, monkeypatch):
    folder = tmp_path / "arrival"
    folder.mkdir()
    (folder / "a.csv").write_text("1")

    class Damaged:
        def place(self, *_: object) -> "Damaged":
            raise OSError(5, "Input/output error")

    with OpenFolders() as folders:
        assert manifest.content_digest(folders, folder, "a.csv") == sha256("1")
        monkeypatch.setattr(folders, "place", Damaged().place)
        assert manifest.content_digest(folders, folder, "a.csv") is None


def test_staging_that_was_cut_short_lists_what_is_there_in_the_end(stager, ledger, inbox, hand_clock, monkeypatch):
    settle(ledger, inbox, hand_clock.clock, one="1", two="2")

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(arrivals, "finish_staging", killed)
    with pytest.raises(Killed):
        stager.step(inbox)
    monkeypatch.undo()
    arrival = the_arrival(ledger, ArrivalState.STAGING)
    assert arrival.manifest is None
    (arrival.folder / "one.csv").write_text("changed meanwhile")
    assert stager.recover(inbox) == ["one.csv"]
    found = manifest.read(arrival.folder)
    assert found is not None
    assert [file.name for file in found.files] == ["two.csv"]
    assert the_arrival(ledger).manifest == found.digest


def test_an_arrival_that_no_file_has_reached_leaves_no_manifest_behind(stager, ledger, inbox, hand_clock, tmp_path):
    settle(ledger, inbox, hand_clock.clock, busy="1")
    with (inbox.path / "busy.csv").open("a"):
        stager.step(inbox)
    assert list((tmp_path / "arrivals").glob("*/*")) == []


# -- what was rejected


def test_only_a_file_that_was_still_whole_when_it_was_rejected_may_be_mended(stager, ledger, inbox, hand_clock):
    settle(ledger, inbox, hand_clock.clock, whole="1,2", cut="3,4", gone="5,6", mended="7,8")
    stager.step(inbox)
    arrival = the_arrival(ledger)
    contents = {file.name: file for file in arrivals.file_contents(ledger, arrival.id)}
    manifest.note_rejected(arrival.folder, [contents["mended.csv"]])
    (arrival.folder / "mended.csv").write_text("7,8,9")  # and rejected again
    os.truncate(arrival.folder / "cut.csv", 1)
    (arrival.folder / "gone.csv").unlink()
    manifest.note_rejected(arrival.folder, list(contents.values()))
    assert manifest.rejected_in(arrival.folder) == {"whole.csv", "mended.csv"}


# -- the event


def announced(ledger: Ledger, clock) -> dict[str, object]:
    with receiving() as server, PrefectApi(server.page("/api"), None) as api:
        assert Announcer(ledger, api, clock).step()
        ((_, (event,)),) = server.posts
    return event["payload"]


def test_the_event_says_the_manifests_digest(stager, ledger, inbox, hand_clock):
    settle(ledger, inbox, hand_clock.clock, one="1")
    stager.step(inbox)
    arrival = the_arrival(ledger)
    assert announced(ledger, hand_clock.clock)["manifest"] == arrival.manifest is not None


def test_an_arrival_from_before_there_were_manifests_has_none_in_its_event(ledger, hand_clock):
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, created_at) VALUES ('m-1', 'm', '/arrivals/1', 'staged', '1')"
    )
    assert announced(ledger, hand_clock.clock)["manifest"] is None


@pytest.mark.parametrize("damage", ["removed", "cut", "another", "a folder is in its place"])
def test_a_manifest_that_is_missing_or_damaged_is_written_anew_before_the_event(
    stager, ledger, inbox, hand_clock, damage
):
    settle(ledger, inbox, hand_clock.clock, one="1", two="2")
    stager.step(inbox)
    arrival = the_arrival(ledger)
    path = arrival.folder / manifest.NAME
    content = path.read_bytes()
    if damage == "cut":
        os.truncate(path, 30)
    elif damage == "another":
        path.write_text("{}")
    else:
        path.unlink()
        if damage == "a folder is in its place":
            path.mkdir()
    payload = announced(ledger, hand_clock.clock)
    assert payload["manifest"] == arrival.manifest
    if damage == "a folder is in its place":
        assert path.is_dir()  # the run says that it cannot be used
    else:
        assert path.read_bytes() == content


def test_an_arrival_whose_folder_is_gone_is_announced_all_the_same(stager, ledger, inbox, hand_clock, tmp_path):
    settle(ledger, inbox, hand_clock.clock, one="1")
    stager.step(inbox)
    the_arrival(ledger).folder.rename(tmp_path / "elsewhere")
    assert announced(ledger, hand_clock.clock)["manifest"]


# -- a rebuilt ledger


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text("inboxes:\n  metrics: {}\n")
    return Settings(state_dir=tmp_path, inboxes_file=inboxes)


def rebuilt(settings: Settings) -> list[str]:
    return rebuild(settings, offline=True).lines()


def test_a_rebuilt_ledger_knows_the_manifest_and_what_is_gone_since(stager, ledger, inbox, hand_clock, settings):
    settle(ledger, inbox, hand_clock.clock, cut="12345", gone="2", good="3")
    stager.step(inbox)
    before = the_arrival(ledger)
    contents = arrivals.file_contents(ledger, before.id)
    ledger.close()
    os.truncate(before.folder / "cut.csv", 2)
    (before.folder / "gone.csv").unlink()
    rebuilt(settings)
    with Ledger(settings.ledger_path) as new:
        assert the_arrival(new).manifest == before.manifest
        assert arrivals.file_contents(new, before.id) == contents


def test_an_arrival_all_of_whose_files_are_gone_is_in_a_rebuilt_ledger(stager, ledger, inbox, hand_clock, settings):
    settle(ledger, inbox, hand_clock.clock, gone="2")
    stager.step(inbox)
    (the_arrival(ledger).folder / "gone.csv").unlink()
    ledger.close()
    rebuilt(settings)
    with Ledger(settings.ledger_path) as new:
        assert [file.name for file in arrivals.file_contents(new, the_arrival(new).id)] == ["gone.csv"]


def test_a_damaged_manifest_is_put_aside_by_a_rebuild_and_said(stager, ledger, inbox, hand_clock, settings):
    settle(ledger, inbox, hand_clock.clock, one="1")
    stager.step(inbox)
    folder = the_arrival(ledger).folder
    ledger.close()
    os.truncate(folder / manifest.NAME, 30)
    assert any(f"the manifest of {folder} is damaged and was put aside" in line for line in rebuilt(settings))
    with Ledger(settings.ledger_path) as new:
        assert the_arrival(new).manifest is None
    assert sorted(path.name for path in folder.iterdir()) == [f"{manifest.NAME}.damaged", "one.csv"]
