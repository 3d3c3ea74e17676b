"""What the server says about alerts: its blocks and its automations."""

from typing import Any

import pytest

from sensors.alerts.server_watch import ServerAlertSettings, read_server_alarm
from sensors.runs.api import ApiError, PrefectApi
from tests.postings import LOCAL, policy
from tests.prefect_server import PAGE, PrefectServer


def read(server: PrefectServer) -> ServerAlertSettings:
    with PrefectApi(server.url, None) as api:
        return read_server_alarm(api)


def block(name: str, **data: Any) -> dict[str, Any]:
    return {"id": f"id-of-{name}", "name": name, "data": data}


def automation(name: str, block: str, **more: Any) -> dict[str, Any]:
    action = {"type": "send-notification", "block_document_id": block, "subject": "s", "body": "b"}
    return {"name": name, "trigger": {}, "actions": [action], "created": "2026-11-01T00:00:00Z", **more}


def test_a_fresh_server_says_nothing(server: PrefectServer) -> None:
    assert read(server) == ServerAlertSettings(None, [], None)


def test_the_policy_is_that_of_both_blocks_and_others_do_not_count(server: PrefectServer) -> None:
    server.stored["block_documents"] = [
        block("alerts", urls=LOCAL, outbox="/state/alerts.db", storm="3/1h"),
        block("fallback", urls="json://127.0.0.1/reserve"),
        block("mine", urls="json://127.0.0.1/mine"),
    ]
    found = read(server)
    assert found.policy == policy(LOCAL, fallback_urls="json://127.0.0.1/reserve", storm="3/1h")
    assert found.outbox == "/state/alerts.db"


def test_our_blocks_are_found_among_any_number_of_others(server: PrefectServer) -> None:
    server.stored["block_documents"] = [block(f"mine-{number}", urls="json://127.0.0.1/mine") for number in range(PAGE)]
    server.stored["block_documents"].append(block("alerts", urls=LOCAL))
    assert read(server).policy == policy(LOCAL)


def test_a_block_that_cannot_be_read_leaves_the_policy_as_it_is(server: PrefectServer) -> None:
    server.stored["block_documents"] = [block("alerts", urls=LOCAL, storm="often")]
    assert read(server).policy is None


def test_every_page_of_automations_is_read_and_those_kept_that_send_through_our_blocks(server: PrefectServer) -> None:
    server.stored["block_documents"] = [block("alerts", urls=LOCAL)]
    server.stored["automations"] = [
        automation(f"a-{number}", "id-of-alerts" if number % 2 else "another") for number in range(401)
    ]
    assert len(read(server).automations) == 200


def test_a_server_that_does_not_answer_is_an_error_of_the_api(server: PrefectServer) -> None:
    server.status = 500
    with pytest.raises(ApiError):
        read(server)
