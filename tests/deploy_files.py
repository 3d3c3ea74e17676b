"""What tests of the files under deploy/ need: the tools that the files are for, and the settings that there are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from automations.settings import AlertSettings
from flows.settings import PipelineSettings
from sensors.config.settings import Settings
from sensors.stack.environment import scale_environment

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OTHERS = {"DO_NOT_TRACK", "ENV_FILE", "HOME", "PATH", "PYTHONPYCACHEPREFIX", "TZ"}


def program(name: str, package: str) -> str:
    """Return the path of a program; skips the test without it, except in CI."""
    found = shutil.which(
        name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    )
    if found is None and os.environ.get("CI"):
        raise AssertionError(f"{name} is not installed; .ci/run should have done that")
    return found or pytest.skip(f"{name} is not installed: apt install {package}")


def said(*command: str, **more: Any) -> str:
    """Run a program that has to succeed and return what it said."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def known_variables() -> set[str]:
    fields = {*Settings.model_fields, *AlertSettings.model_fields, *PipelineSettings.model_fields}
    own = {name.upper() for name in fields}
    return own | {*_get_valid_setting_names(PrefectSettings)} | {*scale_environment(scale_settings())} | OTHERS


def scale_settings() -> Settings:
    return Settings.model_validate(
        {
            "profile": "scale",
            "database_url": "postgresql://prefect:change-me@postgres.example.com:5432/prefect",
            "redis_url": "redis://:change-me@redis.example.com:6379/0",
        }
    )
