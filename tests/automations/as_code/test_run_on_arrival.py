"""What run-on-arrival.yaml makes of an event, hydrated and validated as Prefect does it."""

from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import HydrationContext, hydrate, validate

from automations.as_code.plan import FOLDER
from flows.data_pipeline import data_pipeline

DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "run-on-arrival.yaml").read_text())
ARRIVAL = {"arrival_id": "20261124-metrics-0001", "source_url": "file:///arrivals/20261124/x%20y"}


def parameters(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the run that an event with this payload starts."""
    context = HydrationContext(raise_on_error=True, render_jinja=True, jinja_context={"event": {"payload": payload}})
    return hydrate(DOCUMENT["actions"][0]["parameters"], context)


@pytest.mark.parametrize("reload", [None, [], ["*"], ["a.csv", 'north/it\'s <b> & "c".csv', "{{ 7 * 7 }}", "ü\n"]])
def test_the_files_to_reload_come_as_the_list_or_null_that_they_are(reload: list[str] | None) -> None:
    found = parameters({**ARRIVAL, "reload": reload})
    assert found == {**ARRIVAL, "reload": reload, "manifest": None, "rules": None}
    schema = parameter_schema(data_pipeline).model_dump_for_openapi()
    assert validate({**found, "target_table": "a.b.c"}, schema) == []
    assert validate({**found, "target_table": "a.b.c", "reload": "['*']"}, schema) != []


def test_an_event_that_says_nothing_of_reloading_reloads_nothing() -> None:
    assert parameters(ARRIVAL) == {**ARRIVAL, "reload": None, "manifest": None, "rules": None}


@pytest.mark.parametrize("digest", [None, "5f" * 32])
def test_the_digest_of_an_arrivals_manifest_comes_as_the_text_or_null_that_it_is(digest: str | None) -> None:
    found = parameters({**ARRIVAL, "manifest": digest})
    assert found["manifest"] == digest
    assert validate({**found, "target_table": "a.b.c"}, parameter_schema(data_pipeline).model_dump_for_openapi()) == []


def test_the_rules_of_the_inbox_reach_the_run_as_they_are() -> None:
    rules = {"format": {"type": "csv", "delimiter": ";", "thousands": "'"}, "table": "warehouse.a.b"}
    assert parameters({**ARRIVAL, "rules": rules})["rules"] == rules
