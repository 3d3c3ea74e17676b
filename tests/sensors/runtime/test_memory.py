"""What a burst leaves unused goes back to the system."""

import platform
import subprocess
import sys

import pytest

from tests.journeys.stack import ROOT

FREED = """\
import psutil
from sensors.runtime.descriptors import give_back_memory, share_memory
share_memory()
# Too long for Python's own arenas. Every hundredth stays: unasked, glibc gives back only what lies at the end.
many = [bytearray(600) for _ in range(200_000)]
kept = many[::100]
del many
before = psutil.Process().memory_info().rss
give_back_memory()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed, and can be asked")
def test_pages_that_no_one_uses_are_given_back():
    done = subprocess.run([sys.executable, "-c", FREED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
