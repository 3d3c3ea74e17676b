"""What the documentation has installed with apt, in a Debian that has only what it comes with."""

from collections.abc import Callable, Generator

import pytest

from tests.containers.engine import BUILD_SECONDS, Engine
from tests.containers.stand_ins import DEBIAN, provide
from tests.documented_commands import APT, shown_by

NAME = "bare"
FIRST = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3"
NEEDED = {"python3-venv": "python3 -m venv /tmp/made && /tmp/made/bin/pip --version", "haproxy": "haproxy -v"}
"""What goes by the name of the package, and not without it."""


@pytest.fixture(scope="module")
def typed(engine: Engine) -> Generator[Callable[[str], int]]:
    """Type a line as root of a bare Debian, answering yes to what it asks, and give its exit status."""
    provide(engine, DEBIAN)
    engine.docker("run", "--detach", "--name", NAME, DEBIAN, "sleep", "infinity")

    def type_line(line: str) -> int:
        words = ("docker", "exec", NAME, "bash", "-c", f"yes | ({line})")
        return engine.run(*words, seconds=BUILD_SECONDS).returncode

    try:
        assert type_line(FIRST) == 0
        yield type_line
    finally:
        engine.docker("rm", "--force", NAME)


@pytest.mark.parametrize("package", NEEDED)
def test_what_fails_without_a_package_goes_when_the_page_s_line_was_typed(typed: Callable[[str], int], package: str):
    (line,) = {command.line for command in shown_by(APT) if command.words[-1] == package}
    assert typed(NEEDED[package]) != 0
    assert typed(line) == 0
    assert typed(NEEDED[package]) == 0
