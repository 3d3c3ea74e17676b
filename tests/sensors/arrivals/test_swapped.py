"""Files and folders that their owner swaps, at each step, for links, FIFOs, sockets and folders that lead elsewhere.

The attacker may write to the inbox and nowhere else. Nothing outside it is read, moved, overwritten or served, and
nothing of ours hangs.
"""

import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sensors.arrivals import manifest, move
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.move import Move, claim_name, claim_token, take
from sensors.arrivals.staging import Stager
from sensors.cli.preview import Known, look
from sensors.config.inboxes import Duplicates, Inbox
from sensors.files import beneath
from sensors.files.beneath import OpenFolders, open_beneath, open_folder, open_root
from sensors.inbox.intake import Intake
from sensors.inbox.pending_files import scan
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger.files import WaitingFile
from sensors.recovery.claims import give_back_claims
from sensors.stack.drop import place
from tests.dropped_arrivals import identity_at
from tests.journeys.stack import wait_until
from tests.served_page import page_settings, served_page

pytestmark = pytest.mark.timeout(60)


def swap_for_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(".swapped"))
    path.symlink_to(target)


def swap_for_fifo(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def swap_for_socket(path: Path, _: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path has at most 107 bytes
        try:
            bound.bind(path.name)
        finally:
            os.chdir(here)


def swap_for_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


SWAPS = [swap_for_link, swap_for_fifo, swap_for_socket, swap_for_folder]


@pytest.fixture
def secret(tmp_path):
    """A private folder with a file of the name and the age that the attacker needs."""
    folder = tmp_path / "root's"
    folder.mkdir(mode=0o700)
    (folder / "a.csv").write_text("root's own\n")
    yield folder
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a.csv", "root's own\n")]


@pytest.fixture
def make(tmp_path, ledger, hand_clock) -> Callable[..., Intake]:
    def made(**rules: object) -> Intake:
        path = tmp_path / "inbox" / "metrics"
        path.mkdir(parents=True, exist_ok=True)
        inbox = Inbox.model_validate({"name": "metrics", "path": path, "subfolders": True, **rules})
        stager = Stager(ledger, tmp_path / "arrivals", hand_clock.clock)
        rejections = Rejections(inbox, ledger, FailedFolder(ledger, tmp_path / "failed"), hand_clock.clock)
        return Intake(inbox, Watch(path, polling=True), ledger, stager, rejections, hand_clock.clock)

    return made


def texts_in(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(path.read_text() for path in files if path.name != manifest.NAME)


# -- scanning, settling, staging


def test_a_folder_that_is_swapped_before_its_file_settles_leads_to_no_file_outside(make, secret, hand_clock, tmp_path):
    intake = make(quiet_seconds=0.3)
    folder = intake.inbox.path / "sub"
    folder.mkdir()
    (folder / "a.csv").write_text("mine\n")
    intake.step()
    swap_for_link(folder, secret)
    for _ in range(3):  # all before the next scan
        hand_clock.turn(0.31)
        intake.step()
    assert "root's own\n" not in texts_in(tmp_path / "arrivals")


@pytest.mark.parametrize("first", [True, False], ids=["at once", "after a crash"])
def test_a_folder_that_is_swapped_before_its_file_is_taken_leads_to_no_file_outside(tmp_path, secret, first):
    folder = tmp_path / "arrivals" / "metrics-1"
    folder.mkdir(parents=True)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "sub").symlink_to(secret)
    file = WaitingFile(1, tmp_path / "inbox" / "sub" / "a.csv", "sub/a.csv", identity_at(secret / "a.csv"))
    assert take(file, folder, ".done", first=first) is Move.GONE
    assert texts_in(folder) == []


def test_a_file_whose_folder_is_swapped_after_a_crash_is_found_at_its_address(tmp_path, secret):
    folder = tmp_path / "arrivals" / "metrics-1"
    path = tmp_path / "inbox" / "sub" / "a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    file = WaitingFile(1, path, "sub/a.csv", identity_at(path))
    assert take(file, folder, first=True) is Move.STAGED
    path.parent.rmdir()
    path.parent.symlink_to(secret)
    assert take(file, folder) is Move.STAGED
    assert texts_in(folder) == ["mine\n"]


@pytest.mark.parametrize("swap", SWAPS)
def test_a_file_that_is_swapped_before_it_is_taken_is_not_in_the_arrival(tmp_path, secret, swap):
    path = tmp_path / "inbox" / "a.csv"
    path.parent.mkdir()
    path.write_text("mine\n")
    file = WaitingFile(1, path, "a.csv", identity_at(path))
    folder = tmp_path / "arrivals" / "metrics-1"
    folder.mkdir(parents=True)
    swap(path, secret / "a.csv")
    assert take(file, folder, first=True) is Move.CHANGED
    assert list(folder.iterdir()) == []
    assert os.path.lexists(path)


@pytest.mark.parametrize("killed", [False, True], ids=["at once", "after a crash"])
@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_in_during_the_rename_goes_back_and_is_not_in_the_arrival(
    tmp_path, secret, swap, killed, monkeypatch
):
    path = tmp_path / "inbox" / "a.csv"
    path.parent.mkdir()
    path.write_text("mine\n")
    file = WaitingFile(1, path, "a.csv", identity_at(path))
    rename, seen = move.rename_without_replacing, list[int]()

    class Killed(BaseException):
        pass

    def swap_first(*args: object, **more: object) -> None:
        if not seen:
            swap(path, secret / "a.csv")
        seen.append(1)
        rename(*args, **more)

    def kill(at: str) -> None:
        if killed and at == "taken":
            raise Killed

    monkeypatch.setattr(move, "rename_without_replacing", swap_first)
    monkeypatch.setattr(move, "kill_point", kill)
    folder = tmp_path / "arrivals" / "metrics-1"
    folder.mkdir(parents=True)
    if killed:
        with pytest.raises(Killed):
            take(file, folder, first=True)
        monkeypatch.undo()
    assert take(file, folder, first=not killed) is Move.CHANGED
    assert list(folder.iterdir()) == []
    assert os.path.lexists(path)


def test_a_file_of_another_size_that_a_crash_left_at_the_address_is_not_taken_for_a_copy(tmp_path):
    path, folder = tmp_path / "inbox" / "a.csv", tmp_path / "arrivals" / "metrics-1"
    path.parent.mkdir()
    path.write_text("mine\n")
    file = WaitingFile(1, path, "a.csv", identity_at(path))
    path.unlink()
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("swapped in just before the rename")
    assert take(file, folder) is Move.CHANGED
    assert texts_in(path.parent) == ["swapped in just before the rename"]


def test_a_file_goes_back_into_the_inbox_and_not_through_a_link_in_place_of_its_folder(tmp_path, secret, monkeypatch):
    path, folder = tmp_path / "inbox" / "sub" / "b.csv", tmp_path / "arrivals" / "metrics-1"
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    file = WaitingFile(1, path, "sub/b.csv", identity_at(path))
    rename, seen = move.rename_without_replacing, list[int]()

    def swap_folder(*args: object, **more: object) -> None:
        rename(*args, **more)
        if not seen:
            seen.append(1)
            os.utime(folder / "sub" / "b.csv", ns=(1, 1))  # it changed meanwhile, and has to go back
            path.parent.rmdir()
            path.parent.symlink_to(secret)

    monkeypatch.setattr(move, "rename_without_replacing", swap_folder)
    assert take(file, folder, first=True) is Move.CHANGED
    assert texts_in(tmp_path / "inbox") == ["mine\n"]
    assert texts_in(folder) == []


@pytest.mark.parametrize("duplicates", [Duplicates.SKIP, Duplicates.REJECT])
@pytest.mark.parametrize("swap", SWAPS)
def test_a_file_that_is_swapped_before_its_digest_holds_up_nothing(
    make, ledger, hand_clock, secret, tmp_path, swap, duplicates
):
    intake = make(duplicates=duplicates, max_in_flight=1)
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at)"
        " VALUES ('metrics-1', 'metrics', '/nowhere', 'running', 1, '2026')"
    )
    for name in ("a.csv", "good.csv"):
        (intake.inbox.path / name).write_text(name)
    for _ in range(4):
        hand_clock.turn(1.1)
        intake.step()
    assert ledger.rows("SELECT count(*) FROM files WHERE state = 'settled'")[0][0] == 2
    swap(intake.inbox.path / "a.csv", secret / "a.csv")
    ledger.change("UPDATE arrivals SET state = 'loaded'")
    intake.step()  # without a scan: it was swapped just now
    hand_clock.turn(1.1)
    intake.step()
    assert texts_in(tmp_path / "arrivals") == ["good.csv"]


def test_a_done_file_that_is_a_folder_costs_no_file(make, hand_clock, ledger, tmp_path):
    intake = make(done_file=".done", subfolders=False)
    (intake.inbox.path / "a.csv").write_text("mine\n")
    (intake.inbox.path / "a.csv.done").mkdir()
    for _ in range(4):
        hand_clock.turn(1.1)
        intake.step()
    assert texts_in(tmp_path / "arrivals") == ["mine\n"]
    assert [row["state"] for row in ledger.rows("SELECT state FROM files")] == ["staged"]


def test_a_file_that_may_not_be_read_does_not_stay_behind_under_a_hidden_name(tmp_path):
    """Another user's file that has a hard link is claimed, to be copied; that takes the right to read it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    tmp_path.chmod(0o777)
    for above in tmp_path.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    path, folder = tmp_path / "inbox" / "a.csv", tmp_path / "arrivals" / "metrics-1"
    for made in (path.parent, folder):
        made.mkdir(parents=True)
        made.chmod(0o777)
    path.write_text("mine\n")
    path.chmod(0o600)
    os.link(path, tmp_path / "link.csv")
    file = WaitingFile(1, path, "a.csv", identity_at(path))
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            take(file, folder, first=True)
    finally:
        os.seteuid(0)
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


def open_descriptors() -> list[int]:
    """Return the descriptors of this process, or none where the system does not list them."""
    listed = Path("/proc/self/fd")
    return [int(path.name) for path in listed.iterdir()] if listed.is_dir() else []


# -- looking without taking


def test_the_preview_opens_no_file_behind_a_folder_that_was_swapped(make, secret, monkeypatch):
    inbox = make().inbox
    (inbox.path / "sub").mkdir()
    (inbox.path / "sub" / "a.csv").write_text("mine\n")
    opened: list[tuple[int, int]] = []
    monkeypatch.setattr("sensors.cli.preview._pass_by", lambda *_: None)
    entries = list(scan(inbox.path, lambda *_: None, subfolders=True))
    monkeypatch.setattr("sensors.cli.preview.scan", lambda *_, **__: iter(entries))
    swap_for_link(inbox.path / "sub", secret)
    real = os.open

    def noting(path: str, flags: int, *args: int, **more: int) -> int:
        descriptor = real(path, flags, *args, **more)
        found = os.fstat(descriptor)
        opened.append((found.st_dev, found.st_ino))
        return descriptor

    monkeypatch.setattr(os, "open", noting)
    shown = look(inbox, Known(), Path("/nowhere"))
    status = (secret / "a.csv").stat()
    assert (status.st_dev, status.st_ino) not in opened
    assert [name for name, _ in shown.waiting] == ["sub/a.csv"]


def test_a_thousand_nested_folders_cost_neither_descriptors_nor_the_other_files(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    here = os.open(inbox, os.O_RDONLY)
    for _ in range(1400):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep.csv", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    (inbox / "z").mkdir()
    (inbox / "z" / "a.csv").write_text("mine\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max([100, *open_descriptors()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, limits[1]))
    try:
        found = {entry.name for entry in scan(inbox, lambda *_: None, subfolders=True)}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        subprocess.run(["rm", "-rf", inbox], check=True)  # pytest cannot
    assert {"z/a.csv", "/".join("d" * 1400) + "/deep.csv"} <= found


# -- recovery


@pytest.mark.parametrize("swap", SWAPS)
def test_a_claim_that_is_swapped_is_neither_compared_nor_deleted_elsewhere(tmp_path, secret, swap):
    inbox = Inbox(name="metrics", path=tmp_path / "inbox", subfolders=True)
    when = "20261124-140509-3f9a1c"
    path = inbox.path / "sub" / "a.csv"
    path.parent.mkdir(parents=True)
    token = claim_token(WaitingFile(1, path, "sub/a.csv", identity_at("/")), f"metrics-{when}")
    claim = path.with_name(claim_name(token, path.name))
    claim.write_text("mine\n")
    copied = tmp_path / "arrivals" / "2026-11-24" / f"metrics-{when}" / "sub" / "a.csv"
    copied.parent.mkdir(parents=True)
    copied.write_text("root's own\n")
    swap(claim, secret / "a.csv")
    give_back_claims([inbox], tmp_path / "arrivals")
    assert copied.read_text() == "root's own\n"


def test_an_old_upload_that_is_a_link_or_a_folder_is_left_alone_and_stops_no_start(tmp_path, secret):
    settings = page_settings(tmp_path / "data")
    inbox = Inbox(name="metrics", path=tmp_path / "inbox", subfolders=True)
    (inbox.path / ".b.uploading").mkdir(parents=True)
    (inbox.path / ".b.uploading" / "kept").touch()
    (inbox.path / ".a.uploading").symlink_to(secret)
    (inbox.path / "sub").symlink_to(secret)
    for path in (inbox.path / ".b.uploading", inbox.path / ".a.uploading"):
        os.utime(path, (1, 1), follow_symlinks=False)
    from sensors.web.uploads import clear_forgotten

    clear_forgotten(settings, [inbox])
    assert (inbox.path / ".b.uploading" / "kept").exists()
    assert (inbox.path / ".a.uploading").is_symlink()


# -- bringing files in, and serving them


def test_dropping_a_file_writes_through_no_link_of_a_name_that_can_be_guessed(tmp_path, secret, monkeypatch):
    inbox, file = tmp_path / "inbox", tmp_path / "orders.csv"
    inbox.mkdir()
    file.write_text("a,b\n1,2\n")
    for pid in range(os.getpid() - 5, os.getpid() + 5):
        (inbox / f".orders.csv.{pid}.part").symlink_to(secret / "a.csv")
    place(file, inbox)
    assert (inbox / "orders.csv").read_text() == "a,b\n1,2\n"
    assert not (inbox / "orders.csv").is_symlink()


@pytest.fixture
def page(tmp_path):
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text("inboxes: {metrics: {subfolders: true}}\n")
    with served_page(page_settings(tmp_path / "data", inboxes_file=inboxes)) as page:
        yield page


def test_an_upload_whose_folder_is_swapped_while_it_comes_is_written_nowhere_else(page, secret):
    folder = page.inbox / "sub"

    def body():
        yield b"id\n"
        wait_until(lambda: any(folder.glob(".*.uploading")), "it has begun", 10, pause=0.01)
        swap_for_link(folder, secret)
        yield b"1\n"

    with page.client() as client:
        answer = client.put("/inbox/metrics/sub/new.csv", content=body())
        assert answer.status_code in {400, 500}
        assert client.put("/inbox/metrics/sub/new.csv", content=b"id\n").status_code == 400


def rejected(page, name: str) -> int:
    """Record a file that was rejected in its inbox; return its id."""
    from sensors.ledger import Ledger
    from sensors.ledger import files as ledger_files
    from sensors.ledger.files import RejectedInPlace
    from sensors.ledger.notices import Notice
    from sensors.runtime.text import readable
    from tests.hand_clock import HandClock

    path = page.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine\n")
    file = RejectedInPlace(readable(str(path)), readable(name), identity_at(path), "not this kind of file")
    with Ledger(page.settings.ledger_path) as ledger:
        notice = Notice(key=name.encode("utf-8", "backslashreplace").decode(), event="x", inbox="metrics", payload={})
        ledger_files.record_rejected_in_place(ledger, "metrics", [file], notice, HandClock().now)
        return ledger.rows("SELECT max(id) AS id FROM files")[0]["id"]


def test_a_rejected_file_whose_folder_is_swapped_is_not_served(page, secret):
    file_id = rejected(page, "sub/deeper/a.csv")
    with page.client() as client:
        assert client.get(f"/files/{file_id}").text == "mine\n"
        (secret / "a.csv").rename(secret / "moved")
        (secret / "deeper").mkdir()
        (secret / "moved").rename(secret / "deeper" / "a.csv")
        swap_for_link(page.inbox / "sub", secret)
        assert client.get(f"/files/{file_id}").status_code == 404
        (secret / "deeper" / "a.csv").rename(secret / "a.csv")
        (secret / "deeper").rmdir()


@pytest.mark.parametrize("swap", SWAPS)
def test_a_rejected_file_that_is_swapped_is_not_served(page, secret, swap):
    file_id = rejected(page, "a.csv")
    swap(page.inbox / "a.csv", secret / "a.csv")
    with page.client() as client:
        assert client.get(f"/files/{file_id}").status_code == 404


def test_another_file_under_the_name_of_a_rejected_one_is_not_served(page):
    file_id = rejected(page, "a.pdf")
    (page.inbox / "other.pdf").write_text("another")
    (page.inbox / "other.pdf").rename(page.inbox / "a.pdf")
    with page.client() as client:
        assert client.get(f"/files/{file_id}").status_code == 404


@pytest.mark.parametrize("name", ["a\nb.pdf", "sub\x1b/a.pdf", os.fsdecode(b"caf\xe9.pdf")])
def test_a_rejected_file_with_an_ugly_name_is_served(page, name):
    file_id = rejected(page, name)
    with page.client() as client:
        assert client.get(f"/files/{file_id}").text == "mine\n"


# -- the descriptors themselves


@pytest.fixture(params=["openat2", "step by step"])
def root(request, tmp_path, monkeypatch):
    """A folder with a file, links to it at each step, and a way out."""
    if request.param == "step by step":
        monkeypatch.setattr(beneath, "_libc_syscall", None)
    elif sys.platform != "linux":
        pytest.skip("openat2 is a system call of Linux")
    (tmp_path / "in" / "a" / "b").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b" / "f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    (tmp_path / "in" / "link").symlink_to("a")
    (tmp_path / "in" / "a" / "link").symlink_to(tmp_path)
    (tmp_path / "in" / "a" / "b" / "link").symlink_to("f")
    descriptor = open_root(tmp_path / "in")
    yield descriptor
    os.close(descriptor)


def test_a_file_below_a_root_is_opened(root):
    with os.fdopen(open_beneath(root, "a/b/f")) as opened:
        assert opened.read() == "inside"


@pytest.mark.parametrize(
    "name", ["link/b/f", "a/link/f", "a/b/link", "a/../../f", "..", "../f", "/etc/passwd", "a//b/f"]
)
def test_no_link_and_no_way_up_is_followed(root, name):
    with pytest.raises(OSError):  # noqa: PT011 - which errno it is depends on the way
        os.close(open_beneath(root, name))
    if name != "a//b/f":
        with pytest.raises(OSError):  # noqa: PT011
            os.close(open_folder(root, name, make=True))


def test_a_folder_is_made_below_a_root(root, tmp_path):
    os.close(open_folder(root, "x/y/z", make=True))
    assert stat.S_ISDIR((tmp_path / "in" / "x" / "y" / "z").stat().st_mode)


def test_of_many_folders_only_some_are_kept_open(tmp_path):
    before = len(open_descriptors())
    with OpenFolders() as folders:
        for number in range(300):
            made = folders.place(tmp_path, f"{number}/f", make=True)
            made.create().close()
            assert len(open_descriptors()) <= before + beneath.MOST_OPEN
    assert len(open_descriptors()) == before
    assert len(list(tmp_path.glob("*/f"))) == 300
