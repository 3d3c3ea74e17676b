"""Applying the automations to a real server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.applying.apply import apply
from automations.applying.change import ApplyResult
from automations.problem import ConfigurationError
from automations.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

START_SECONDS = 60

AUTOMATION = """
name: watch
description: As it was written first.
trigger:
  expect: [a.b]
actions:
  - type: run-deployment
    deployment: Work/daily
  - type: send-notification
    block: apprise-alerts/alerts
    body: "{{ event.payload.text }}"
"""


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str, None, None]:
    """Start Prefect's API without its services, on an empty database and a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-services", "--port", str(port)]
    log = tmp_path_factory.mktemp("logs") / "server.log"
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server:
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/api", server, log)
            yield f"http://127.0.0.1:{port}/api"
        finally:
            server.terminate()


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").is_success:
                return
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def client(api_url: str) -> Generator[SyncPrefectClient, None, None]:
    """Give a client of a server that has the deployment Work/daily and no automation."""

    @flow(name="Work")
    def work() -> None:
        pass

    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        client.create_deployment(flow_id=client.create_flow(work), name="daily")
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watch.yaml").write_text(AUTOMATION)
    return tmp_path


def settings(folder: Path, urls: str = "json://127.0.0.1/one") -> Settings:
    return Settings.model_validate({"state_dir": folder / "state", "notify_urls": urls})


def outcomes(result: ApplyResult) -> list[tuple[str, str]]:
    return [(change.name, change.outcome) for change in result.changes]


def ids(client: SyncPrefectClient) -> list[UUID]:
    return [automation.id for automation in client.read_automations()]


def test_applying_twice_changes_nothing_the_second_time(client: SyncPrefectClient, folder: Path) -> None:
    first = apply(folder, settings(folder))
    there = client.read_automations()
    second = apply(folder, settings(folder))
    assert outcomes(first)[1:] == [("watch", "created")]
    assert outcomes(second) == [("apprise-alerts/alerts", "unchanged"), ("watch", "unchanged")]
    assert not second.changed
    assert client.read_automations() == there


def test_names_are_the_ids_of_the_deployment_and_of_our_own_block(client: SyncPrefectClient, folder: Path) -> None:
    result = apply(folder, settings(folder))
    [automation] = client.read_automations()
    run, send = (action.model_dump() for action in automation.actions)
    assert run["deployment_id"] == client.read_deployment_by_name("Work/daily").id
    assert send["block_document_id"] == result.changes[0].id


def test_a_changed_file_updates_the_automation_in_its_place(client: SyncPrefectClient, folder: Path) -> None:
    apply(folder, settings(folder))
    before = ids(client)
    (folder / "watch.yaml").write_text(AUTOMATION.replace("description: As it was written first.", "enabled: false"))
    assert outcomes(apply(folder, settings(folder)))[1:] == [("watch", "updated")]
    [automation] = client.read_automations()
    assert [automation.id] == before
    assert (automation.description, automation.enabled) == ("", False)
    assert not apply(folder, settings(folder)).changed


def test_changed_urls_update_the_block_in_its_place_and_are_not_shown(client: SyncPrefectClient, folder: Path) -> None:
    before = apply(folder, settings(folder)).changes[0]
    result = apply(folder, settings(folder, "json://me:hunter22@127.0.0.1 json://127.0.0.1/two"))
    assert outcomes(result) == [("apprise-alerts/alerts", "updated"), ("watch", "unchanged")]
    assert result.changes[0].id == before.id
    assert result.changes[0].note.startswith("alerts go to 2 URLs and ")
    assert "hunter22" not in repr(result)
    stored = client.read_block_document(before.id, include_secrets=False)
    assert "hunter22" not in repr(stored)


def test_of_two_by_one_name_the_older_is_ours_and_the_other_is_reported(
    client: SyncPrefectClient, folder: Path
) -> None:
    apply(folder, settings(folder))
    [ours] = client.read_automations()
    stranger = client.create_automation(AutomationCore.model_validate(ours.model_dump(exclude={"id"})))
    (folder / "watch.yaml").write_text(AUTOMATION + "enabled: false\n")
    result = apply(folder, settings(folder))
    assert [(change.id, str(change.outcome)) for change in result.changes[1:]] == [
        (ours.id, "updated"),
        (stranger, "duplicate"),
    ]


def test_nothing_is_written_if_anything_is_wrong_and_all_of_it_is_told(client: SyncPrefectClient, folder: Path) -> None:
    (folder / "a.yaml").write_text(AUTOMATION.replace("watch", "first"))
    (folder / "b.yaml").write_text(AUTOMATION.replace("expect", "expekt"))
    (folder / "watch.yaml").write_text(AUTOMATION.replace("Work/daily", "Work/dayly"))
    with pytest.raises(ConfigurationError) as failure:
        apply(folder, settings(folder, "nonsense"))
    assert [problem.where for problem in failure.value.problems] == [
        "b.yaml: trigger.expekt",
        "NOTIFY_URLS",
        "watch.yaml: actions[0].deployment",
    ]
    assert "did you mean 'Work/daily'?" in failure.value.problems[2].message
    assert client.read_automations() == []
