"""Names of unfinished files and of litter, as the programs that make them choose them."""

import os
import stat

import pytest

from sensors.config.admission import Admission, admit, is_ignored_folder
from sensors.config.inboxes import Inbox

INBOX = Inbox(name="metrics", path="/")
REGULAR = os.stat_result((stat.S_IFREG | 0o644, 1, 1, 1, 0, 0, 10, 0, 0, 0))

TEMPORARY = [
    "orders.csv.1f3a.partial",  # rclone
    "orders.csv.aria2",
    "orders.csv.d41d8cd98f00b204.part.minio",
    "orders.csv.3fA91b0C",  # aws-cli
    "orders.csv_.gstmp",
    "orders.csv.crdownload",
    "orders.csv.part",
    "orders.csv.download",
    ".orders.csv.Xy12Zq",  # rsync
    "orders.csv.filepart",
    "orders.csv.lftp-pget-status",
    ".syncthing.orders.csv.tmp",
    "~syncthing~orders.csv.tmp",
    "orders.csv.ocTransferId123.part",
    "~$orders.xlsx",
    "~WRD0001.tmp",
    "5A3B2C10",  # Excel
    ".~lock.orders.csv#",
    "#orders.csv#",
    "orders.csv~",
    "orders.csv.swp",
    "4913",
    "sedXy12Zq",
    "tmp.Xy12Zq34Ab",
    "orders.csv._COPYING_",
]
LITTER = [
    "Thumbs.db",
    "desktop.ini",
    ".DS_Store",
    "._orders.csv",
    ".nfs000000000123",
    "_SUCCESS",
    "a.csv:Zone.Identifier",
]


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_name_is_left_alone_and_counts_as_being_written(name):
    ruling = admit(name, REGULAR, INBOX)
    assert (ruling.admission, ruling.is_temporary) == (Admission.LEFT_ALONE, True)


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_ignored(name):
    ruling = admit(name, REGULAR, INBOX)
    assert (ruling.admission, ruling.is_temporary) == (Admission.LEFT_ALONE, False)


@pytest.mark.parametrize(
    "name", ["@eaDir", ".Trash-1000", "$RECYCLE.BIN", "lost+found", "System Volume Information", "#recycle", ".hidden"]
)
def test_folders_of_litter_are_ignored_with_all_that_is_in_them(name):
    assert is_ignored_folder(name)
    assert admit(f"{name}/orders.csv", REGULAR, INBOX).admission is Admission.LEFT_ALONE


@pytest.mark.parametrize("name", ["..", ".", "north", "2026", "eadir"])
def test_other_folders_are_not(name):
    assert not is_ignored_folder(name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.part", "orders.part"),
        ("*.tmp", "orders.TMP"),
        ("thumbs.db", "Thumbs.db"),
        ("*_.gstmp", "orders.csv_.gstmp"),
        ("*.[0-9a-f]*", "orders.csv.3fA91b0C"),
        ("*.2*", "orders.20261130"),
        ("*", "orders.20261130"),
        ("*", "4913"),
    ],
)
def test_a_pattern_that_names_such_a_file_wins(pattern, name):
    assert admit(name, REGULAR, INBOX.model_copy(update={"patterns": (pattern,)})).admission is Admission.ADMITTED


@pytest.mark.parametrize("name", ["orders.part", "Thumbs.db", "orders.csv~"])
def test_a_pattern_that_only_happens_to_match_does_not(name):
    for pattern in ("*", "*.*", "o*", "*.db"):
        inbox = INBOX.model_copy(update={"patterns": (pattern,)})
        assert admit(name, REGULAR, inbox).admission is Admission.LEFT_ALONE or pattern == "never"


@pytest.mark.parametrize(
    "name", ["orders.csv.20261130", "20261130", "report.pdf", "orders.csv.bak", "segment.txt", "x.config"]
)
def test_a_name_that_is_only_of_another_kind_is_no_temporary_one(name):
    assert admit(name, REGULAR, INBOX).admission is Admission.REJECTED


def test_a_hidden_file_is_never_taken_whatever_the_patterns_say():
    inbox = INBOX.model_copy(update={"patterns": (".*.csv", "*.part", ".syncthing.*")})
    for name in (".orders.csv", ".orders.part", ".syncthing.orders.csv.tmp"):
        assert admit(name, REGULAR, inbox).admission is Admission.LEFT_ALONE
