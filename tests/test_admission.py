"""Which directory entries are files for us."""

import stat

import pytest

from sensors.admission import Admission, admit, readable
from sensors.inbox import Inbox

INBOX = Inbox(name="metrics", path="/")
REGULAR = stat.S_IFREG | 0o644


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        "A.CSV",
        "a b.tsv",
        "ü.json",
        "x.ndjson",
        "p.parquet",
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
    assert admit("a.csv", kind | 0o644, INBOX).admission is Admission.LEFT_ALONE


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


def test_a_hostile_name_is_written_so_that_it_can_be_read():
    assert readable("a\nb\x1b[31m\udcff.csv") == "a\\nb\\x1b[31m\\udcff.csv"
