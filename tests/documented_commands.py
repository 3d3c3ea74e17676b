"""Which test runs which command of README.md and docs/."""

import re
from dataclasses import dataclass
from functools import cache

from tests.documentation import PAGES, Command, all_commands, settings_set

READER = "tests/journeys/test_documentation.py::test_it_does_what_it_is_for_when_a_reader_types_it"
NEWCOMER = "tests/journeys/test_newcomer.py::test_the_first_command_of_the_readme_is_all_that_a_newcomer_needs"
SUITES = "tests/project/test_docs.py::test_the_suites_that_are_named_have_tests"
REBUILDING = "tests/journeys/test_documentation.py::test_the_ledger_is_made_anew_as_the_page_says"
MOVING = "tests/flows/migrate/test_moving.py::test_rows_types_and_load_keys_are_carried_over_and_every_file_is_known"
APT = "tests/containers/test_debian.py::test_what_fails_without_a_package_goes_when_the_page_s_line_was_typed"
BENCH = "tests/project/test_benchmarks.py::test_a_part_measures_writes_its_figures_and_draws_them"
SCREENSHOTS = "tests/browser/test_screenshots.py::test_the_pictures_are_taken_anew_of_a_real_stack"
EXPORTED = "tests/automations/test_automations_command.py::test_an_export_is_planned_and_applied_as_the_page_says"
COMPOSE = "tests/containers/test_compose.py::test_the_pages_commands_start_everything_and_load_a_file"
SYSTEMD = "tests/containers/test_systemd.py::test_the_pages_commands_start_everything"
ACCESS_LIST = "tests/containers/test_systemd.py::test_a_user_with_an_access_list_drops_files"
ROTATION = (
    "tests/journeys/test_rotation.py::"
    "test_one_command_replaces_the_credentials_of_a_running_stack_and_files_go_on_being_loaded"
)
KEY = "tests/sensors/remote/test_remote_trouble.py::test_what_ssh_keyscan_prints_is_the_key_that_is_needed"
TUNNEL = "tests/project/test_tunnel.py::test_through_the_tunnel_the_page_answers_under_the_names_of_the_loopback"


@dataclass(frozen=True)
class Way:
    """How commands are shown to work: by a test, or why by none."""

    commands: str
    """A regular expression for the beginning of their lines."""
    test: str = ""
    """The file and the name of the test that runs them."""
    reason: str = ""
    """Why no test runs them."""


WAYS = (
    # The first one that fits counts.
    Way(r"python3 -m venv .*/just up$", NEWCOMER),
    Way(r"python3 -m venv .*/just test$", reason="`.ci/run` takes it out of README.md and runs it"),
    Way(r"(source|just up$|just setup$)", NEWCOMER),
    Way(r"just rebuild$", REBUILDING),
    Way(r"just move-warehouse$", MOVING),
    Way(r"(just test-(long|containers)|(\w+=\d+ )*just crashes)", SUITES),
    Way(r"just bench", BENCH),
    Way(r"just rotate-credentials", ROTATION),
    Way(r"just drop$", reason="the page on security names it; the README's line with a file is typed"),
    Way(r"just replay FILE --reload", reason="README's line with a file is typed"),
    Way(r"just check$", reason="named without a file; README's line with one is typed"),
    Way(r"just prefect flow-run retry", reason="needs a failed run's id; test_run_issues.py names it"),
    Way(r"just dismiss RUN", reason="needs a failed run's id; tests/sensors/recovery/test_dismissal.py dismisses one"),
    Way(
        r"just audit",
        reason="asks a database of vulnerabilities; test_supply_chain.py runs it without one",
    ),
    Way(r"just pin-images", reason="asks the images' registry; test_deploy_files.py checks what it writes"),
    Way(r"just screenshots", SCREENSHOTS),
    Way(r"python -m automations ", EXPORTED),
    Way(r"(just|\.venv/bin/python|curl|lsof|sqlite3) ", READER),
    Way(r"ssh-keyscan ", KEY),
    Way(r"ssh -L ", TUNNEL),
    Way(r"apt install ", APT),
    Way(r"docker compose |cp deploy/\.env", COMPOSE),
    Way(r"setfacl ", ACCESS_LIST),
    Way(r"(useradd|git clone|cp deploy/systemd|systemctl|sudo|python3 -m venv)", SYSTEMD),
    Way(r"(kubectl|helm) ", reason="needs a cluster; tests/project/test_kubernetes_files.py reads what it is given"),
)

NAMED = {
    "chown -R blueprint:blueprint",
    "just replay --since",
    "just dismiss",
    "just retry",
    "just prefect",
    "prefect automation create --from-file",
    "prefect automation inspect NAME --output yaml",
    "prefect deploy",
    "prefect server start",
    "python -m automations",
    "python -m flows.check.run",
    "python -m prefect.engine",
    "systemctl edit",
}
"""What is spoken of without being given what it takes."""


@cache
def commands() -> dict[str, Command]:
    """Return each command of the documentation once, by its words."""
    found: dict[str, Command] = {}
    for page in PAGES:
        settings = {name for name, _ in settings_set(page)}
        for one in all_commands(page):
            words = " ".join(one.words)
            if words not in NAMED and one.line.partition("=")[0] not in settings:
                found.setdefault(words, one)
    return found


def way_of(command: Command) -> Way | None:
    """Return how a command is shown to work; None if nothing is known of that."""
    return next((way for way in WAYS if re.match(way.commands, command.line)), None)


def shown_by(test: str) -> list[Command]:
    """Return the commands that a test has to run."""
    return [one for one in commands().values() if (way := way_of(one)) and way.test == test]
