"""Report a missing Python package in one line instead of a traceback.

Imports nothing but the standard library.
"""

import sys
from collections.abc import Generator
from contextlib import contextmanager

_OURS = frozenset({"automations", "flows", "sensors"})


@contextmanager
def exit_if_missing() -> Generator[None]:
    """Exit with one line when an import inside the block needs a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        sys.exit(f"the Python package {package} is not installed in {sys.prefix}; run `just setup`")
