"""The engine and the images that the tests of containers share: to make them takes minutes."""

import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.containers.engine import Engine, engine_running
from tests.journeys.reader import copy_of_the_project

GIT = ("git", "-c", "user.name=tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine, None, None]:
    with engine_running(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the project as it is here, what is not committed yet too."""
    copy = copy_of_the_project(tmp_path_factory.mktemp("project"))
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message=as it is")):
        subprocess.run([*GIT, *words], cwd=copy, check=True, timeout=60)
    return copy
