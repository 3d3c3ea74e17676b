"""The settings that are not ours, checked by those whose they are, in processes of their own.

We import neither the flows nor the automations: their settings are read there, by commands that say in lines what is
wrong.
"""

import subprocess
import sys
from collections.abc import Sequence

from sensors.config.settings import PROJECT_ROOT
from sensors.stack.environment import surrounding

FLOWS = ("flows.settings",)
AUTOMATIONS = ("automations", "check")


def wrong_settings(commands: Sequence[Sequence[str]]) -> list[str]:
    """Run the modules at the same time and return what they say; nothing of one that finds nothing wrong."""
    checks = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env=surrounding(),
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    said = [(check.communicate()[1], check.returncode) for check in checks]
    return [line for text, status in said if status != 0 for line in text.splitlines()]
