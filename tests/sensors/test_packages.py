"""A package that is not installed."""

import subprocess
import sys

import pytest

from sensors.__main__ import exit_if_missing
from sensors.config.settings import PROJECT_ROOT

WITHOUT = (
    "import runpy, sys; package, *sys.argv[1:] = sys.argv[1:]; sys.modules[package] = None;"
    "runpy.run_module('sensors', run_name='__main__')"
)


@pytest.mark.parametrize(
    ("package", "command"),
    [("typer", "up"), ("dotenv", "up"), ("supervisor", "up"), ("rich", "status"), ("pydantic_settings", "run")],
)
def test_a_package_that_is_missing_is_reported_in_one_line_with_what_to_do(package, command):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, command],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"the Python package {package} is not installed in {sys.prefix}; run `just setup`\n"


def test_a_module_of_ours_that_is_missing_is_a_bug_and_no_missing_package():
    with pytest.raises(ModuleNotFoundError), exit_if_missing():
        import sensors.no_such_module  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]
