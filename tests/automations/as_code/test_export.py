"""Writing the automations of a real server as files, and reading them back."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import BlockDocumentCreate, WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.flows import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from automations.as_code import files as definition_files
from automations.as_code.drift import canonical
from automations.as_code.export import document_of, export, file_names
from automations.as_code.files import read_text, render
from automations.as_code.plan import apply, plan
from automations.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

EVENT = {"type": "event", "expect": ["b", "a"], "within": 5}
NOTHING = [{"type": "do-nothing"}]


@pytest.fixture(scope="module")
def client(api_url: str) -> Generator[SyncPrefectClient, None, None]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def ids(client: SyncPrefectClient) -> dict[str, str]:
    """Give the ids of one of each kind that an automation can refer to."""

    @flow(name="Work")
    def work() -> None:
        pass

    flow_id = client.create_flow(work)
    if not (pools := client.read_work_pools()):
        pools = [client.create_work_pool(WorkPoolCreate(name="pool", type="process"))]
    [queue] = client.read_work_queues(work_pool_name=pools[0].name)
    block_type = client.read_block_type_by_slug("webhook")
    block_schema = client.get_most_recent_block_schema_for_block_type(block_type.id)
    assert block_schema
    hook = BlockDocumentCreate(
        name="hook", data={"url": "http://x"}, block_type_id=block_type.id, block_schema_id=block_schema.id
    )
    return {
        "flow": str(flow_id),
        "deployment": str(client.create_deployment(flow_id=flow_id, name="daily")),
        "work_pool": str(pools[0].id),
        "work_queue": str(queue.id),
        "block": str(client.create_block_document(hook).id),
    }


@pytest.fixture(autouse=True)
def _no_automations(client: SyncPrefectClient) -> None:  # pyright: ignore[reportUnusedFunction]
    for automation in client.read_automations():
        client.delete_automation(automation.id)


def varied(ids: dict[str, str]) -> list[dict[str, Any]]:
    """Return automations with every trigger that this server takes and every action that refers to something."""
    deployment = {"prefect.resource.id": f"prefect.deployment.{ids['deployment']}"}
    several = {"prefect.resource.id": [f"prefect.flow.{ids['flow']}"], "prefect.resource.role": "flow"}
    inner = [
        {**EVENT, "match": deployment},
        {"type": "sequence", "within": 9, "triggers": [{**EVENT, "match_related": several}, {**EVENT, "after": ["c"]}]},
    ]
    return [
        {"name": "plain", "trigger": EVENT, "actions": NOTHING},
        {"name": "off", "trigger": EVENT, "actions": NOTHING, "enabled": False, "tags": ["env:prod"]},
        {
            "name": "Several of: ünï/code",
            "description": "first line\n  second: line\n\nlast ",
            "trigger": {"type": "compound", "require": "all", "within": 60, "triggers": inner},
            "actions_on_trigger": NOTHING,
            "actions": [
                {"type": "call-webhook", "block_document_id": ids["block"], "payload": '{"a": "{{ event.id }}"}\n'},
                {"type": "pause-work-pool", "work_pool_id": ids["work_pool"]},
                {"type": "resume-work-queue", "work_queue_id": ids["work_queue"]},
                {"type": "pause-deployment", "deployment_id": ids["deployment"]},
                {"type": "resume-deployment", "source": "inferred"},
                {"type": "change-flow-run-state", "state": "FAILED", "message": "no"},
                {
                    "type": "run-deployment",
                    "deployment_id": ids["deployment"],
                    "parameters": {"none": None, "deep": {"deployment": 1.0, "when": "2026-01-01"}, "yes": "no"},
                    "schedule_after": 90,
                },
            ],
        },
        {
            "name": "silence",
            "trigger": {**EVENT, "posture": "Proactive", "within": 30, "match_related": [several, deployment]},
            "actions": NOTHING,
        },
        {"name": "unknown id", "trigger": EVENT, "actions": [
            {"type": "pause-deployment", "deployment_id": "00000000-0000-0000-0000-000000000007"}
        ]},
    ]  # fmt: skip


def make(client: SyncPrefectClient, *automations: dict[str, Any]) -> list[str]:
    return [str(client.create_automation(AutomationCore.model_validate(one))) for one in automations]


def test_a_plan_of_what_was_exported_wants_nothing_but_the_marks(
    client: SyncPrefectClient, ids: dict[str, str], tmp_path: Path
) -> None:
    made = make(client, *varied(ids))
    make(
        client,
        {"name": "pauses", "trigger": EVENT, "actions": [{"type": "pause-automation", "automation_id": made[0]}]},
    )
    result = export(tmp_path)
    assert result.left_out == ()
    planned = plan(tmp_path).changes
    assert {(change.note, change.differences) for change in planned} == {
        ("adopted: the server has it without our mark", ())
    }
    apply(tmp_path)
    assert not plan(tmp_path).changed
    export(tmp_path / "again")
    for path in result.written:
        assert (tmp_path / "again" / path.name).read_text() == path.read_text()


def test_what_is_exported_reads_well_and_names_what_it_refers_to(
    client: SyncPrefectClient, ids: dict[str, str], tmp_path: Path
) -> None:
    make(client, varied(ids)[2])
    [path] = export(tmp_path).written
    assert path.name == "several-of-n-code.yaml"
    text = path.read_text()
    assert "payload: |\n" in text
    assert not [id_ for id_ in ids.values() if id_ in text]
    document = yaml.safe_load(text)
    assert document["trigger"]["triggers"][0] == {
        "type": "event",
        "match": {"deployment": "Work/daily"},
        "expect": ["a", "b"],
        "posture": "Reactive",
        "threshold": 1,
        "within": 5,
    }
    assert document["actions"][2] == {"type": "resume-work-queue", "source": "selected", "work_queue": "pool/default"}
    assert document["actions"][6]["parameters"]["none"] is None
    assert "enabled" not in document


def test_no_file_is_overwritten_unless_that_is_asked_for(client: SyncPrefectClient, tmp_path: Path) -> None:
    make(client, {"name": "one", "trigger": EVENT, "actions": NOTHING})
    make(client, {"name": "two", "trigger": EVENT, "actions": NOTHING})
    (tmp_path / "two.yaml").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"two\.yaml: is there already; --force overwrites it"):
        export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["two.yaml"]
    export(tmp_path, force=True)
    assert "name: two" in (tmp_path / "two.yaml").read_text()


def test_what_a_file_cannot_say_is_left_out_and_reported(client: SyncPrefectClient, tmp_path: Path) -> None:
    make(
        client,
        {"name": "label", "trigger": {**EVENT, "match": {"deployment": "x"}}, "actions": NOTHING},
        {"name": "text", "description": "$HOME", "trigger": EVENT, "actions": NOTHING},
        {"name": "twice", "trigger": EVENT, "actions": NOTHING},
        {"name": "twice", "trigger": EVENT, "actions": NOTHING},
    )
    result = export(tmp_path)
    assert [path.name for path in result.written] == ["twice.yaml"]
    assert [problem.where for problem in result.left_out] == ["label", "text", "twice"]


def test_a_metric_trigger_which_only_prefect_cloud_takes_survives_as_well() -> None:
    metric = {"name": "lateness", "threshold": 5.5, "operator": ">", "range": 600}
    automation = AutomationCore.model_validate(
        {"name": "late", "trigger": {"type": "metric", "metric": metric, "posture": "Metric"}, "actions": NOTHING}
    )
    assert again(automation) == canonical(definition_files.content(automation))


def test_names_that_differ_in_signs_only_get_files_of_their_own() -> None:
    names = ["Alert on failure", "a/b", "a b", "..", "日本"]
    files = file_names(names)
    assert files["Alert on failure"] == "alert-on-failure.yaml"
    assert len({*files.values()}) == len(names)
    assert not [file for file in files.values() if file.startswith((".", "-")) or "/" in file]


def again(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation says after it was written as a file and read."""
    definition, problems = read_text("a.yaml", render(document_of(definition_files.content(automation), {})))
    assert problems == []
    assert definition
    return canonical(definition_files.content(definition_files.automation(definition.document, {})))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: not any(sign in text for sign in ("{", "}", "$"))
)
labels = st.dictionaries(texts.map("label.".__add__), texts | st.lists(texts, max_size=3), max_size=3)
events = st.builds(
    lambda **fields: {"type": "event", **fields},
    expect=st.lists(texts, max_size=3),
    after=st.lists(texts, max_size=2),
    for_each=st.lists(texts, max_size=2),
    match=labels,
    match_related=labels | st.lists(labels, max_size=2),
    threshold=st.integers(0, 100),
    within=st.integers(0, 10_000) | st.floats(0, 1000),
)
triggers = st.recursive(
    events,
    lambda inner: st.builds(
        lambda triggers, within: {"type": "sequence", "triggers": triggers, "within": within},
        st.lists(inner, min_size=1, max_size=3),
        st.none() | st.integers(0, 100),
    ),
    max_leaves=4,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
actions = st.lists(
    st.builds(
        lambda parameters: {"type": "run-deployment", "deployment_id": str(DAILY), "parameters": parameters},
        st.none() | st.dictionaries(texts, values, max_size=3),
    )
    | st.just({"type": "do-nothing"}),
    max_size=3,
)
DAILY = "00000000-0000-0000-0000-000000000001"


@given(
    st.builds(
        lambda **fields: AutomationCore.model_validate(fields),
        name=texts.filter(bool),
        description=texts,
        enabled=st.booleans(),
        tags=st.lists(texts, max_size=2),
        trigger=triggers,
        actions=actions,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_an_automation_says_its_file_says_the_same(automation: AutomationCore) -> None:
    assert again(automation) == canonical(definition_files.content(automation))
