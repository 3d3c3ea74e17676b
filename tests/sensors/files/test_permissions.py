"""Who may read and write what is in the state folder, whatever the umask."""

import fcntl
import grp
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.files.permissions import share_with_group
from sensors.inbox.intake import make_folders
from sensors.ledger import Ledger
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.state_dir import hold_state_folder
from tests.other_user import NOBODY, as_user, may_open, needs_root, reachable_folder

_ACL_OF_NEW_FILES = "system.posix_acl_default"


@pytest.fixture
def place() -> Generator[Path, None, None]:
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def settings(place: Path) -> Settings:
    return Settings(state_dir=place / "state")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda umask: f"umask {umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def state_of_version_1_0_0(settings: Settings) -> Path:
    """Make a state folder as version 1.0.0 did under the usual umask, every file and folder open to be read."""
    state = settings.state_dir
    files = {
        "ledger.db",
        "ledger.db.lock",
        "ledger.db.broken-20261101-010203",
        "alerts.db-wal",
        "warehouse.duckdb",
        "logs/up.lock",
        "logs/server.log.1",
        "prefect/prefect.db",
        "prefect/prefect.db-shm",
        "prefect/storage/deep/result",
        "spool/run/page.json",
        "arrivals/2026-11-24/metrics-1/orders.csv",
        "failed/metrics/orders.csv",
        "something-new/of a later version",
    }
    for name in files:
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_bytes(b"")
    for path in (state, *state.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return state


def private(state: Path) -> Iterator[Path]:
    return (path for path in state.rglob("*") if path.relative_to(state).parts[0] != "inbox")


def readable_by_others(state: Path) -> dict[str, str]:
    """Return what others than the owner have any right to; inboxes are left out, and files in the closed arrivals."""
    return {
        str(path.relative_to(state)): f"{mode(path):04o}"
        for path in private(state)
        if not path.is_symlink() and mode(path) & 0o077
        if path.is_dir() or path.relative_to(state).parts[0] != "arrivals"
    }


def test_a_new_state_folder_lets_others_through_to_the_inboxes_and_nowhere_else(settings: Settings, umask: int):
    with hold_state_folder(settings):
        assert mode(settings.state_dir) == 0o711
        assert mode(settings.inbox_dir) == 0o711
        assert readable_by_others(settings.state_dir) == {}
        assert {path.name for path in settings.logs_dir.iterdir()} == {"up.lock", "up.pid", "up.ports"}


def test_a_state_folder_of_version_1_0_0_is_closed_at_the_next_start(settings: Settings):
    state = state_of_version_1_0_0(settings)
    with hold_state_folder(settings):
        assert mode(state) == 0o711
        assert readable_by_others(state) == {}


def test_what_was_closed_further_stays_closed(settings: Settings):
    settings.state_dir.mkdir()
    settings.state_dir.chmod(0o700)
    settings.prefect_home.mkdir()
    settings.prefect_home.chmod(0o700)
    (settings.prefect_home / "read-only").touch()
    (settings.prefect_home / "read-only").chmod(0o400)
    with hold_state_folder(settings):
        assert mode(settings.state_dir) == 0o700
        assert mode(settings.prefect_home / "read-only") == 0o400


def test_inboxes_that_others_drop_into_stay_as_they_are(settings: Settings):
    inbox = settings.inbox_dir / "metrics"
    inbox.mkdir(parents=True)
    (inbox / "orders.csv").touch()
    for path, was in ((settings.inbox_dir, 0o755), (inbox, 0o1777), (inbox / "orders.csv", 0o664)):
        path.chmod(was)
    with hold_state_folder(settings):
        assert [mode(path) for path in (settings.inbox_dir, inbox, inbox / "orders.csv")] == [0o755, 0o1777, 0o664]


def test_a_link_is_never_followed(settings: Settings, place: Path):
    (place / "elsewhere").mkdir(mode=0o755)
    (place / "file.txt").touch(mode=0o644)
    settings.logs_dir.mkdir(parents=True)
    (settings.logs_dir / "sensor.log").symlink_to(place / "file.txt")
    (settings.logs_dir / "dangling").symlink_to(place / "nothing")
    (settings.state_dir / "spool").symlink_to(place / "elsewhere")
    with hold_state_folder(settings):
        assert mode(place / "elsewhere") == 0o755
        assert mode(place / "file.txt") == 0o644


def test_a_fifo_does_not_hold_up_the_start(settings: Settings):
    settings.logs_dir.mkdir(parents=True)
    os.mkfifo(settings.logs_dir / "fifo", 0o644)
    with hold_state_folder(settings):
        assert mode(settings.logs_dir / "fifo") == 0o600


def test_an_access_list_for_new_files_is_taken_away(settings: Settings):
    settings.prefect_home.mkdir(parents=True)
    everybody = b"".join(struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (0x01, 0x04, 0x10, 0x20))
    try:
        for folder in (settings.state_dir, settings.prefect_home):
            os.setxattr(folder, _ACL_OF_NEW_FILES, struct.pack("<I", 2) + everybody)
    except OSError:
        pytest.skip("this file system has no access lists")
    with hold_state_folder(settings):
        for folder in (settings.state_dir, settings.prefect_home):
            assert _ACL_OF_NEW_FILES not in os.listxattr(folder)


def test_a_database_hands_its_permissions_on_to_its_log_and_shared_memory(settings: Settings, umask: int):
    with hold_state_folder(settings):
        settings.ledger_path.touch(mode=0o600)
        settings.ledger_path.chmod(0o600)
        with Ledger(settings.ledger_path):
            beside = {path.name: mode(path) for path in settings.state_dir.glob("ledger.db*")}
    assert beside == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


# -- another user of the machine


@needs_root
def test_another_user_can_neither_lock_nor_read_what_is_in_it(settings: Settings):
    state = state_of_version_1_0_0(settings)
    lock, shared_memory = settings.logs_dir / "up.lock", settings.prefect_home / "prefect.db-shm"

    def lock_both() -> list[str]:
        done: list[str] = []
        for path in (lock, shared_memory):
            try:
                with path.open("rb") as opened, suppress(BlockingIOError):
                    fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    fcntl.lockf(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except PermissionError:
                continue
            done.append(path.name)
        return done

    assert as_user(lock_both) == ["up.lock", "prefect.db-shm"]
    with hold_state_folder(settings):
        assert as_user(lock_both) == []
        assert [path for path in private(state) if path.is_file() and may_open(path)] == []
        assert not may_open(state)
        assert not may_open(settings.arrivals_dir)


@needs_root
def test_another_user_still_drops_into_an_inbox_that_is_open_to_them(settings: Settings):
    settings.inbox_dir.mkdir(parents=True)
    inbox = settings.inbox_dir / "metrics"
    inbox.mkdir()
    inbox.chmod(0o1777)
    with hold_state_folder(settings):
        as_user(lambda: (inbox / "orders.csv").write_text("a\n1\n"))
        assert (inbox / "orders.csv").read_text() == "a\n1\n"


@needs_root
@pytest.mark.parametrize("name", ["prefect/logging.yml", "prefect", "logs/up.lock", "ledger.db", "tmp"])
def test_what_another_user_owns_among_what_we_run_keeps_us_from_starting(settings: Settings, name: str):
    planted = settings.state_dir / name
    planted.parent.mkdir(parents=True)
    planted.mkdir() if "." not in name else planted.touch()
    os.chown(planted, NOBODY, NOBODY)
    with pytest.raises(StackError, match=rf"{planted} belongs to nobody.*chown -hR? root {planted}"):
        hold_state_folder(settings)


@needs_root
def test_a_link_that_another_user_has_planted_keeps_us_from_starting(settings: Settings, place: Path):
    settings.prefect_home.mkdir(parents=True)
    link = settings.prefect_home / "logging.yml"
    link.symlink_to(place / "theirs.yml")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(StackError, match=f"{link} belongs to nobody"):
        hold_state_folder(settings)


@needs_root
def test_files_that_others_have_dropped_may_be_theirs_in_the_arrivals(settings: Settings):
    arrived = settings.arrivals_dir / "2026-11-24" / "metrics-1" / "orders.csv"
    arrived.parent.mkdir(parents=True)
    arrived.touch()
    os.chown(arrived, NOBODY, NOBODY)
    with hold_state_folder(settings):
        assert arrived.exists()


@needs_root
def test_a_state_folder_that_others_can_write_and_we_cannot_close_is_not_used(settings: Settings):
    settings.state_dir.mkdir()
    settings.state_dir.chmod(0o777)

    def start() -> tuple[str, ...]:
        try:
            hold_state_folder(settings)
        except StackError as error:
            return error.lines
        return ()

    (line,) = as_user(start)
    assert line.startswith(f"STATE_DIR: every user of this machine can write into {settings.state_dir}")
    assert "chmod 0711" in line


# -- the groups that may read


def settings_with(settings: Settings, **readers: str) -> Settings:
    return Settings(state_dir=settings.state_dir, **readers)  # pyright: ignore[reportArgumentType]


@needs_root
def test_the_group_that_reads_the_warehouse_reads_nothing_else(settings: Settings):
    state = state_of_version_1_0_0(settings)
    group = grp.getgrnam("games").gr_gid
    with hold_state_folder(settings_with(settings, warehouse_readers="games")):
        readable = [
            path.name for path in private(state) if path.is_file() and may_open(path, os.O_RDONLY, NOBODY, group)
        ]
        assert readable == ["warehouse.duckdb"]
        assert not may_open(state / "warehouse.duckdb", os.O_RDWR, NOBODY, group)
        assert not may_open(state / "warehouse.duckdb")


@needs_root
def test_the_group_that_reads_the_arrivals_reads_the_old_and_the_new_ones_and_nothing_else(settings: Settings):
    state = state_of_version_1_0_0(settings)
    group = grp.getgrnam("games").gr_gid
    old = state / "arrivals/2026-11-24/metrics-1/orders.csv"
    old.chmod(0o600)
    with hold_state_folder(settings_with(settings, arrivals_readers="games")):
        folder = settings.arrivals_dir / "2026-11-25" / "metrics-2"
        (folder / "eu").mkdir(parents=True, mode=0o700)
        for path in (folder, folder.parent):
            path.chmod(0o700)
        for name in ("new.csv", "eu/new.csv"):
            (folder / name).touch(mode=0o600)
        share_with_group(folder, ["new.csv", "eu/new.csv", "gone.csv"], group)
        readable = {path for path in private(state) if path.is_file() and may_open(path, os.O_RDONLY, NOBODY, group)}
        assert readable == {old, folder / "new.csv", folder / "eu" / "new.csv"}
        assert [path for path in settings.arrivals_dir.rglob("*") if path.is_file() and may_open(path)] == []
        assert not may_open(old, os.O_RDWR, NOBODY, group)
    with hold_state_folder(settings):
        assert [path for path in private(state) if path.is_file() and may_open(path, os.O_RDONLY, NOBODY, group)] == []


@pytest.mark.parametrize("name", ["WAREHOUSE_READERS", "ARRIVALS_READERS"])
def test_a_group_that_there_is_not_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    monkeypatch.setenv(name, "no-such-group")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "none"))
    with pytest.raises(StackError, match=rf"{name}: expected the name of a group of this machine.*got 'no-such-group'"):
        checked_settings()


# -- the umask of each process


PROGRAMS = {
    "sensors": "sensors.__main__:main",
    "automations": "automations.__main__:run",
    "move-warehouse": "flows.migrate.run:main",
    "worker": "flows.forkserver.worker:main",
    "Prefect's commands": "flows.forkserver.prefect_command:main",
    "warm server": "flows.forkserver.server:main",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_each_program_gives_the_files_that_it_makes_to_its_owner_alone(program: str, place: Path):
    module, _, name = program.partition(":")
    code = f"""
import os, sys
sys.argv = ["program", "--help"]
os.environ.pop("WARM_SOCKET", None)
try:
    from {module} import {name}
    {name}()
except SystemExit:
    pass
finally:
    print("umask", oct(os.umask(0)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "STATE_DIR": str(place / "state"), "ENV_FILE": str(place / "none")},
        capture_output=True,
        text=True,
        check=False,
        umask=0,
    )
    assert "umask 0o77" in done.stdout.splitlines(), done.stdout + done.stderr


def test_what_is_dropped_has_the_permissions_that_its_dropper_gives_to_new_files(place: Path):
    (place / "orders.csv").write_text("a\n1\n")
    environment = {**os.environ, "STATE_DIR": str(place / "state"), "ENV_FILE": str(place / "none")}
    subprocess.run(
        [sys.executable, "-m", "sensors", "drop", str(place / "orders.csv")],
        cwd=Path(__file__).parents[3],
        env=environment,
        check=True,
        capture_output=True,
        umask=0o027,
    )
    inbox = place / "state" / "inbox" / "metrics"
    assert mode(inbox / "orders.csv") == 0o640
    assert mode(inbox) == 0o750
    assert mode(place / "state") == 0o711


def test_an_inbox_that_we_make_is_never_writable_for_others(settings: Settings, umask: int):
    inbox = Inbox(name="metrics", path=settings.inbox_dir / "metrics")
    make_folders(settings.inboxes_file, [inbox])
    assert mode(inbox.path) == 0o755 & ~umask
