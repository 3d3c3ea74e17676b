"""The benchmark and the cases of bug reports, beside the checkout in `../shared` or where SHARED_DIR says."""

import os
from pathlib import Path

import pytest

from tests.documentation import ROOT


def shared(*parts: str) -> Path:
    """Return a file or folder of it; skips the test where it is missing."""
    folder = Path(os.environ.get("SHARED_DIR") or ROOT.parent / "shared")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in {folder}; SHARED_DIR names another folder")
    return path
