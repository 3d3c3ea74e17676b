"""File descriptors kept in reserve for an alert."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, resource, sys
from sensors.runtime.descriptors import RESERVE, keep_reserve, reserve_opened

resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
keep_reserve()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600 - RESERVE, 600)
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
with reserve_opened():
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVE)]
for one in spare:
    os.close(one)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600 - RESERVE, 600)
with reserve_opened():
    resource.setrlimit(resource.RLIMIT_NOFILE, (590, 600))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (590, 600), "a limit that someone sets meanwhile stays"
"""


def test_when_all_are_taken_the_reserve_can_be_used_and_is_closed_again() -> None:
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_small_limit_is_left_as_it_is() -> None:
    program = PROGRAM.partition("resource.setrlimit")[0] + (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); keep_reserve();"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, 256)"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, env={**os.environ})
