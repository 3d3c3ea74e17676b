"""Which directory entries are files for us."""

import os
import stat

import pytest

from sensors.config.admission import Admission, admit
from sensors.config.inboxes import Inbox

INBOX = Inbox(name="metrics", path="/")


def entry(kind: int = stat.S_IFREG, size: int = 10) -> os.stat_result:
    return os.stat_result((kind | 0o644, 1, 1, 1, 0, 0, size, 0, 0, 0))


REGULAR = entry()


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        "A.CSV",
        "a b.tsv",
        "ü.json",
        "x.ndjson",
        "p.parquet",
        "w.xlsx",
        "w.xlsb",
        "w.ods",
        "z.csv.zst",
        "z.json.bz2",
        "z.tsv.xz",
        "z.csv.gz",
        "z.tsv.gz",
        "z.json.gz",
        "z.ndjson.gz",
    ],
)
def test_the_default_inbox_takes_the_kinds_that_the_flow_loads(name):
    assert admit(name, REGULAR, INBOX).admission is Admission.ADMITTED


@pytest.mark.parametrize("name", [".hidden.csv", "a.csv.part", "a.csv.tmp", "a.crdownload", "a.filepart", "a.csv~"])
def test_hidden_and_temporary_names_are_left_alone(name):
    assert admit(name, REGULAR, INBOX).admission is Admission.LEFT_ALONE


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR])
def test_only_regular_files_are_taken(kind):
    assert admit("a.csv", entry(kind), INBOX).admission is Admission.LEFT_ALONE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("report.pdf", "inbox 'metrics' takes *.csv"),
        ("a\nb.csv", "control characters"),
        ("\udcff.csv", "not UTF-8"),
        ("x" * 197 + ".csv", "201 bytes"),
    ],
)
def test_what_cannot_be_loaded_is_rejected_with_a_reason(name, reason):
    ruling = admit(name, REGULAR, INBOX)
    assert ruling.admission is Admission.REJECTED
    assert reason in ruling.reason


def test_a_file_that_is_too_large_is_rejected_with_both_sizes():
    small = INBOX.model_copy(update={"max_file_bytes": 1000})
    ruling = admit("a.csv", entry(size=1001), small)
    assert ruling.admission is Admission.REJECTED
    assert ruling.reason == "the file has 1,001 bytes, inbox 'metrics' takes at most 1,000"
    assert admit("a.csv", entry(size=1000), small).admission is Admission.ADMITTED


def test_an_inbox_may_name_more_temporary_names():
    inbox = INBOX.model_copy(update={"temporary": ("*.writing", "upload-*")})
    assert admit("a.csv.Writing", REGULAR, inbox).admission is Admission.LEFT_ALONE
    assert admit("upload-7.csv", REGULAR, inbox).admission is Admission.LEFT_ALONE


def test_a_done_file_is_no_file_for_us():
    inbox = INBOX.model_copy(update={"done_file": ".done"})
    assert admit("a.csv.done", REGULAR, inbox).admission is Admission.LEFT_ALONE
    assert admit("a.csv.done", REGULAR, INBOX).admission is Admission.REJECTED


def test_of_a_file_in_a_subfolder_the_whole_path_has_to_be_writable_down():
    assert admit("north/a.csv", REGULAR, INBOX).admission is Admission.ADMITTED
    assert "not UTF-8" in admit("no\udcffrth/a.csv", REGULAR, INBOX).reason
    deep = "/".join(["x" * 100] * 10) + "/a.csv"
    assert f"the path below the inbox has {len(deep)} bytes" in admit(deep, REGULAR, INBOX).reason
