"""The pictures of the documentation can be taken anew by the command that its page names."""

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.journeys.reader import installed_copy

SIZES = {"page-light.png": (1200, 1240), "page-dark.png": (1200, 1240), "page-phone.png": (360, 1500)}
ENOUGH_COLOURS = 20
"""An empty page has one or two."""


@pytest.mark.timeout(300)
def test_the_pictures_are_taken_anew_of_a_real_stack(tmp_path: Path):
    copy = installed_copy(tmp_path)
    for name in SIZES:
        (copy / "docs" / name).unlink()
    around = {**os.environ, "PATH": f"{copy / '.venv/bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["just", "screenshots"], cwd=copy, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, size in SIZES.items():
        with Image.open(copy / "docs" / name) as picture:
            assert picture.size == size
            assert len(picture.convert("RGB").getcolors(maxcolors=100_000)) > ENOUGH_COLOURS
