"""What README.md and docs/ say is so: commands exist, take what they are given, and links lead somewhere."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import apprise
import pytest
import yaml

from automations.delivery.channels import QuietHours, read_routes
from automations.delivery.rate_limit import StormLimit
from automations.settings import AlertSettings
from sensors.config.inboxes import read_inboxes
from tests import settings_reference
from tests.documentation import (
    PAGES,
    ROOT,
    Command,
    all_commands,
    blocks,
    just_calls,
    links,
    missing,
    module_of,
    recipes,
    settings_set,
    shell_commands,
)
from tests.documented_commands import NAMED, SUITES, WAYS, commands, shown_by, way_of

CALLS = sorted({str(call): call for page in PAGES for call in just_calls(page)}.items())


@pytest.mark.parametrize("call", [call for _, call in CALLS], ids=[name for name, _ in CALLS])
def test_a_command_is_a_recipe_that_takes_so_many_words(call: Command) -> None:
    name, *given = call.words[1:]
    assert name in recipes(), f"{call}: the justfile has no recipe {name}"
    assert not recipes()[name]["private"]
    parameters = recipes()[name]["parameters"]
    if all(one["kind"] == "singular" for one in parameters):
        needed = sum(one["default"] is None for one in parameters)
        # A recipe may be named in running text without what it takes.
        assert not given or needed <= len(given) <= len(parameters), f"{call}: takes {[p['name'] for p in parameters]}"


@pytest.mark.parametrize("call", [call for _, call in CALLS if " -" in call.line], ids=str)
def test_its_options_are_known_to_the_command(call: Command) -> None:
    recipe, *given = call.words[1:]
    words = [*module_of(recipe), *given]
    until = next(at for at, word in enumerate(words) if word.startswith("-"))
    said = _help_of(*words[: _command_depth(words, until)])
    for option in [word.partition("=")[0] for word in given if re.match(r"--?[a-zA-Z]", word)]:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", said), f"{call}: {option} is not in\n{said}"


def _command_depth(words: list[str], until: int) -> int:
    """Return how many of the words name the command itself, and are not what it is given."""
    return {"sensors": 2, "automations": 2, "prefect": min(3, until)}.get(words[0], 1)


@cache
def _help_of(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"}
    asked = subprocess.run(
        [sys.executable, "-m", *words, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return asked.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert [wrong for link in links(page) if (wrong := missing(page, link))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_projects_files_that_commands_name_are_there(page: Path) -> None:
    folders = ("deploy/", "docs/", "flows/", "sensors/", "tests/", "automations/")
    named = {word for call in shell_commands(page) for word in call.words if word.startswith(folders)}
    assert {word for word in named if not (ROOT / word).exists()} <= {"deploy/.env"}


def test_the_index_of_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and page.name not in index] == []


def test_the_page_of_settings_is_what_the_models_say() -> None:
    assert settings_reference.PAGE.read_text("utf-8") == settings_reference.page(), "run `just docs`"


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".env.example"], ids=lambda page: page.name)
def test_the_settings_that_are_set_in_examples_exist(page: Path) -> None:
    names = {name for name, _ in settings_set(page)}
    if page.name == ".env.example":
        names = set(re.findall(r"^#?([A-Z][A-Z_]+)=", page.read_text("utf-8"), re.MULTILINE))
    assert names <= settings_reference.settings_names()


def test_the_example_of_settings_has_all_of_them() -> None:
    written = (ROOT / ".env.example").read_text("utf-8")
    assert {name for name in settings_reference.settings_names() if f"#{name}=" not in written} == {"ENV_FILE"}


def _addresses() -> list[str]:
    found = [
        url for page in PAGES for name, value in settings_set(page) if name.endswith("_URLS") for url in value.split()
    ]
    table = "".join(
        line for line in (ROOT / "docs" / "send-alerts.md").read_text("utf-8").splitlines(True) if line[0] == "|"
    )
    return sorted({*found, *re.findall(r"`([a-z]+://[^`]+)`", table)} - {"ntfys://user:password@..."})


@pytest.mark.parametrize("address", _addresses())
def test_every_address_of_an_alert_is_one_that_apprise_understands(address: str) -> None:
    assert apprise.Apprise.instantiate(address) is not None


def test_what_is_said_of_storms_silence_and_routes_can_be_read() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    readers = {"NOTIFY_STORM": StormLimit.parse, "NOTIFY_SILENCE": QuietHours.parse, "NOTIFY_ROUTES": read_routes}
    for name, read in readers.items():
        values = re.findall(rf"{name}=\"?([^\"`\n]+)", text)
        assert values, name
        for value in values:
            read(value)
    assert AlertSettings.model_fields["notify_storm"].default in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_of_yaml_can_be_read(page: Path) -> None:
    for block in blocks(page, "yaml"):
        yaml.safe_load(block.replace("*here", "{}"))


def test_the_examples_of_inboxes_are_inboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_PASSPHRASE", "secret")
    examples = [block for block in blocks(ROOT / "docs" / "inboxes.md", "yaml") if block.startswith("inboxes:")]
    assert examples
    for example in examples:
        (tmp_path / "inboxes.yaml").write_text(example)
        assert read_inboxes(tmp_path / "inboxes.yaml", tmp_path)


@pytest.mark.parametrize("command", commands().values(), ids=str)
def test_a_command_is_run_by_a_test_that_there_is_or_it_is_said_why_by_none(command: Command) -> None:
    way = way_of(command)
    assert way, f"nothing is known of {command}; say in tests/documented_commands.py which test runs it"
    assert bool(way.test) != bool(way.reason)
    file, _, name = way.test.partition("::")
    assert not way.test or f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_nothing_is_known_of_commands_that_are_not_in_the_documentation() -> None:
    used = [way_of(command) for command in commands().values()]
    assert [way for way in WAYS if way not in used] == []
    written = {" ".join(one.words) for page in PAGES for one in all_commands(page)}
    assert NAMED - written == set()


def test_the_suites_that_are_named_have_tests() -> None:
    """What they do takes up to an hour; what they would run is listed."""
    # The quick tests are in none of them, and take a quarter of a minute to collect.
    options = "--collect-only -q --numprocesses 0 -p no:cacheprovider -p no:schemathesis"
    options += "".join(f" --ignore tests/{folder}" for folder in ("automations", "flows", "project", "sensors"))
    for command in shown_by(SUITES):
        listed = subprocess.run(
            ["bash", "-c", f"{command.line} {options}"],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert listed.returncode == 0, f"{command}\n{listed.stdout[-2000:]}\n{listed.stderr}"
        assert re.search(r"^\d+(/\d+)? tests collected", listed.stdout, re.MULTILINE), command


def added_lines() -> dict[str, list[str]]:
    """Return what docs/add-an-inbox.md has added to which file."""
    found: dict[str, list[str]] = {}
    for block in blocks(ROOT / "docs" / "add-an-inbox.md", "yaml"):
        first, *lines = block.splitlines()
        if first.startswith("# "):
            found[first.removeprefix("# ")] = lines
    return found


def test_an_inbox_and_a_flow_take_ten_lines() -> None:
    added: dict[str, Any] = added_lines()
    assert list(added) == ["sensors/inboxes.yaml", "prefect.yaml", "automations/run-on-document.yaml"]
    assert sum(map(len, added.values())) == 10


@pytest.mark.parametrize("recipe", ["test", "test-long", "crashes"])
def test_a_recipe_that_runs_the_suite_names_no_folder_so_that_a_file_given_to_it_is_all_that_runs(recipe: str) -> None:
    module, *given = module_of(recipe)
    assert module == "pytest"
    assert [word for word in given if (ROOT / word).exists()] == []
