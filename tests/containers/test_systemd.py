"""What docs/scale.md says under "With systemd": its commands as they stand, and what follows from them."""

import re
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.containers.machine import NAME, REPOSITORY, Machine, machine_booted
from tests.containers.stand_ins import DEBIAN, build, provide
from tests.documented_commands import ACCESS_LIST, SYSTEMD, shown_by
from tests.journeys.stack import wait_until

UNIT = "prefect-blueprint"
STATE = "/var/lib/prefect-blueprint"
STOP_SECONDS = 30.0
HEALTHY_SECONDS = 180.0
ORDERS = "date,orders\\n2026-01-05,128\\n2026-01-06,97\\n"
ROWS = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as warehouse:
    print(len(warehouse.sql("FROM public.daily_metrics WHERE _file_name = ?", params=[sys.argv[2]]).fetchall()))
"""


@pytest.fixture(scope="module")
def machine(engine: Engine, project: Path) -> Generator[Machine, None, None]:
    provide(engine, DEBIAN)
    build(engine, NAME, "machine")
    with machine_booted(engine, project) as machine:
        yield machine


def wait_until_healthy(machine: Machine) -> None:
    """Wait until the page's own command says so."""
    status = shown_by(SYSTEMD)[-1].line
    wait_until(lambda: machine.tried(status).returncode == 0, "the status is healthy", HEALTHY_SECONDS, pause=1)


def drop(machine: Machine, name: str) -> None:
    """Drop a file as another user, whose new files are for that user alone."""
    machine.typed(f"su alice -c 'umask 077; printf \"{ORDERS}\" > {STATE}/inbox/metrics/{name}'")


def wait_for_rows(machine: Machine, name: str) -> None:
    """Wait until a file's two rows are in the warehouse; as long as a run loads into it nobody else gets in."""
    asked = f"sudo -u blueprint /opt/prefect-blueprint/.venv/bin/python -c '{ROWS}' {STATE}/warehouse.duckdb {name}"

    def look() -> bool:
        found = machine.tried(asked).stdout.strip()
        assert found in {"", "0", "2"}, f"{name} has {found} rows"
        return found == "2"

    wait_until(look, f"{name} has its rows", HEALTHY_SECONDS, pause=1)


def main_process(machine: Machine) -> str:
    return machine.shown(UNIT, "MainPID")


def test_the_pages_commands_start_everything(machine: Machine) -> None:
    *commands, _status = (command.line for command in shown_by(SYSTEMD))
    lines = "\n".join(commands)
    assert lines.count(" ... ") == 1
    machine.typed(lines.replace(" ... ", f" {REPOSITORY} "))
    wait_until_healthy(machine)


def test_a_user_with_an_access_list_drops_files(machine: Machine) -> None:
    machine.typed("useradd alice")
    (access_list,) = (command.line for command in shown_by(ACCESS_LIST))
    machine.typed(access_list)
    drop(machine, "orders.csv")
    wait_for_rows(machine, "orders.csv")
    assert machine.typed(f"stat --format %U {STATE}/arrivals/*/*/orders.csv").strip() == "alice"


@pytest.mark.parametrize("group", ["alice", "blueprint"])
def test_neither_that_user_nor_a_member_of_the_group_changes_what_the_service_runs(
    machine: Machine, group: str
) -> None:
    """Version 1.0.0 let members of the group write into Prefect's home, and ran what they wrote."""
    machine.typed(f"usermod --groups {group} alice")
    everything = f"{STATE} /var/cache/{UNIT} /opt/{UNIT} /etc/systemd/system /etc/default"
    machine.typed(f"find {everything} -path {STATE}/inbox/metrics -prune -o ! -type l -print > /tmp/everything")
    tried = 'while read -r path; do test -w "$path" && echo "$path"; done < /tmp/everything; true'
    assert machine.typed(f"su alice -c '{tried}'") == ""
    kept = f"grep '^{STATE}/' /tmp/everything | grep -v '^{STATE}/inbox'"
    assert int(machine.typed(f"{kept} | wc -l")) > 20
    read = 'while read -r path; do test -r "$path" && echo "$path"; done; true'
    assert machine.typed(f"{kept} | su alice -c '{read}'") == ""


def test_what_is_killed_is_started_again_and_nothing_is_lost(machine: Machine) -> None:
    before = main_process(machine)
    drop(machine, "killed.csv")
    machine.typed(f"systemctl kill --signal KILL {UNIT}")
    wait_until(lambda: machine.shown(UNIT, "NRestarts") == "1", "systemd has started it again")
    wait_until_healthy(machine)
    assert main_process(machine) not in {before, "0"}
    wait_for_rows(machine, "killed.csv")


def test_a_restart_goes_on_where_it_was(machine: Machine) -> None:
    before = main_process(machine)
    drop(machine, "restarted.csv")
    machine.typed(f"systemctl restart {UNIT}")
    wait_until_healthy(machine)
    assert main_process(machine) not in {before, "0"}
    wait_for_rows(machine, "restarted.csv")


def test_the_journal_shows_that_it_is_up_and_no_credentials(machine: Machine) -> None:
    journal = machine.typed(f"journalctl --unit {UNIT} --no-pager --output cat")
    assert "everything is healthy" in journal
    settings = machine.typed(f"cat {STATE}/.env")
    secrets = {name: value.strip("\"'") for name, value in re.findall(r"^(\w+)=(.+)$", settings, re.MULTILINE)}
    password = secrets["PREFECT_API_AUTH_STRING"].partition(":")[2]
    assert password
    assert [line for line in journal.splitlines() if password in line] == []


def test_a_stop_takes_less_than_thirty_seconds_and_leaves_no_process(machine: Machine) -> None:
    drop(machine, "stopped.csv")
    started = time.monotonic()
    machine.typed(f"systemctl stop {UNIT}")
    assert time.monotonic() - started < STOP_SECONDS
    assert (machine.shown(UNIT, "ActiveState"), machine.shown(UNIT, "Result")) == ("inactive", "success")
    assert machine.tried("pgrep --list-full --euid blueprint").stdout == ""
    machine.typed(f"systemctl start {UNIT}")
    wait_for_rows(machine, "stopped.csv")
