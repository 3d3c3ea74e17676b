"""The marks of the crash tests, and an installation that most of them share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crashes.installation import Installation, copy_of
from tests.journeys.conftest import database, new_stack, receiver
from tests.journeys.stack import Stack
from tests.receiver import Receiver

__all__ = ["database", "new_stack", "receiver"]


@pytest.fixture(scope="session")
def new_installation(database: Path, receiver: Receiver) -> Callable[[Path], Installation]:
    """Make an installation whose server has a database already."""

    def make(state_dir: Path) -> Installation:
        made = Installation(Stack(state_dir, NOTIFY_URLS=receiver.url()))
        copy_of(database, made.settings.prefect_home)
        return made

    return make


@pytest.fixture(scope="package")
def installation(
    tmp_path_factory: pytest.TempPathFactory, new_installation: Callable[[Path], Installation]
) -> Iterator[Installation]:
    """A server that has everything on it, and nothing else running."""
    made = new_installation(tmp_path_factory.mktemp("crashes") / "state")
    try:
        made.prepare()
        yield made
    finally:
        made.stop()
