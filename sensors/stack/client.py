"""Commands that talk to this stack's server."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from sensors.stack.configuration import checked_settings
from sensors.stack.environment import client_environment, surrounding


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python -m MODULE ARGUMENT...` with this stack's address and credentials."""
    environment = client_environment(checked_settings(), surrounding())
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606
