"""Which table the files of an inbox go into."""

from pathlib import Path

import pytest

from sensors.checks import table_of
from sensors.config.inboxes import Inbox
from sensors.stack.errors import StackError

AUTOMATION = """
name: run-on-document
trigger: {posture: Reactive, expect: [inbox.document.ready], for_each: [prefect.resource.id]}
actions:
  - type: run-deployment
    deployment: Flow/some-deployment
    parameters: {source_url: "{{ event.payload.source_url }}"%s}
"""
DEPLOYMENT = """
deployments:
  - {name: some-deployment, entrypoint: %s, parameters: {target_table: %s}}
"""
PIPELINE = "flows/data_pipeline.py:data_pipeline"


def project(folder: Path, more: str = "", entrypoint: str = PIPELINE, table: str = "warehouse.public.a") -> Path:
    (folder / "automations").mkdir()
    (folder / "automations" / "run.yaml").write_text(AUTOMATION % more)
    (folder / "prefect.yaml").write_text(DEPLOYMENT % (entrypoint, table))
    return folder


def inbox(event: str = "inbox.document.ready") -> Inbox:
    return Inbox(name="docs", path=Path("/docs"), event=event)


def test_the_default_inboxes_files_go_into_the_table_of_the_deployment_that_ships() -> None:
    assert table_of(Inbox(name="metrics", path=Path("/metrics"))) == "warehouse.public.daily_metrics"


def test_the_table_is_that_of_the_deployment_which_the_inboxes_event_starts(tmp_path: Path) -> None:
    assert table_of(inbox(), project(tmp_path)) == "warehouse.public.a"


def test_a_table_that_the_automation_gives_counts_before_that_of_the_deployment(tmp_path: Path) -> None:
    assert table_of(inbox(), project(tmp_path, ", target_table: warehouse.public.b")) == "warehouse.public.b"


@pytest.mark.parametrize(
    ("event", "more", "entrypoint", "said"),
    [
        ("inbox.other.ready", "", PIPELINE, "no automation in automations/ runs a deployment on inbox.other.ready"),
        ("inbox.document.ready", "", "flows/document_store.py:document_store", "whose files are checked"),
        ("inbox.document.ready", ", target_table: '{{ event.payload.table }}'", PIPELINE, "give --table"),
    ],
)
def test_where_no_table_can_be_known_it_is_said_why(
    tmp_path: Path, event: str, more: str, entrypoint: str, said: str
) -> None:
    with pytest.raises(StackError, match=said):
        table_of(inbox(event), project(tmp_path, more, entrypoint))
