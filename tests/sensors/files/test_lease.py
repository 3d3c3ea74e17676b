"""The kernel's word on writers."""

import mmap
import os
import signal
import subprocess
import sys

import pytest

from sensors.files.stability import Writer, read_lease, writer_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="read leases exist on Linux only")


def test_no_one_writes_a_closed_file(tmp_path):
    path = tmp_path / "closed.csv"
    path.write_text("a\n1\n")
    assert writer_of(path) is Writer.NONE


def test_a_file_open_for_writing_has_a_writer_until_it_is_closed(tmp_path):
    path = tmp_path / "open.csv"
    with path.open("w"):
        assert writer_of(path) is Writer.PRESENT
    assert writer_of(path) is Writer.NONE


def test_a_reader_is_no_writer(tmp_path):
    path = tmp_path / "read.csv"
    path.write_text("a\n1\n")
    with path.open():
        assert writer_of(path) is Writer.NONE


def test_a_file_mapped_for_writing_has_a_writer_after_its_descriptor_is_closed(tmp_path):
    path = tmp_path / "mapped.csv"
    path.write_bytes(b"x" * 4096)
    with path.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 4096)
    assert writer_of(path) is Writer.PRESENT
    mapped.close()
    assert writer_of(path) is Writer.NONE


def test_a_symlink_is_not_followed(tmp_path):
    target = tmp_path / "target.csv"
    target.write_text("a\n")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        writer_of(link)


def test_a_lease_that_a_writer_breaks_does_not_end_the_process(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text("a\n")
    with read_lease(path) as lease:
        assert lease.writer is Writer.NONE
        late = subprocess.Popen([sys.executable, "-c", f"open({os.fspath(path)!r}, 'a').write('late')"])
        # The writer waits in open() for the lease; the kernel tells us by SIGURG, which is ignored.
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(timeout=1)
        assert path.read_text() == "a\n"
    assert late.wait(timeout=10) == 0
    assert path.read_text() == "a\nlate"
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL
