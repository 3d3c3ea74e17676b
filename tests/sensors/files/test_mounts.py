"""Which mounts tell of all changes."""

from pathlib import Path

import pytest

from sensors.files.file_systems import innermost, kind_of, reports_events

MOUNTS = [(Path("/"), "ext4"), (Path("/srv"), "nfs4"), (Path("/srv/local"), "xfs"), (Path("/srv/local"), "tmpfs")]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/x", "ext4"), ("/srv", "nfs4"), ("/srv/inbox/a", "nfs4"), ("/srvx", "ext4"), ("/srv/local/a", "tmpfs")],
)
def test_the_innermost_and_latest_mount_counts(folder, kind):
    assert innermost(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.sshfs", "fuseblk"])
def test_what_others_change_gives_no_event_here(kind):
    assert not reports_events(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "apfs", ""])
def test_a_local_file_system_shows_everything(kind):
    assert reports_events(kind)


def test_a_folder_of_this_machine_is_on_something(tmp_path):
    assert kind_of(tmp_path)
