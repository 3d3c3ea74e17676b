"""docs/prefect-internals.md: the insides of Prefect and others that the code uses are there, and so are its tests."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import prefect.cli._server_utils
import prefect.engine
import pytest
import uvicorn
from jinja2 import TemplateSyntaxError
from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockDocument, BlockSchema, BlockType
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_settings_fields
from prefect.states import Scheduled
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from automations.as_code import files, server
from automations.block import AppriseAlerts
from flows.forkserver import settings_cache
from flows.forkserver.preload import MODELS, PARTS
from flows.forkserver.worker import SCHEDULED
from sensors.config.settings import Settings
from sensors.inbox.watcher import SystemObserver, Watch
from sensors.runs.facts import HEARTBEAT
from sensors.runs.receipts import EXECUTED, FAILED
from sensors.stack.environment import stack_environment
from sensors.stack.orphaned_runs import WORKER_LABEL
from sensors.stack.processes import _RUN
from tests.documentation import ROOT
from tests.journeys.stack import wait_until

PAGE = ROOT / "docs" / "prefect-internals.md"
PREFECT = Path(prefect.engine.__file__).parent
NAMED = sorted({*re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", PAGE.read_text("utf-8"))})


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_the_page_names_is_there(file: str, test: str):
    assert f"def {test}" in (ROOT / file).read_text("utf-8")


def test_every_module_that_uses_a_private_part_of_prefect_is_on_the_page():
    private = re.compile(r"prefect\.(server|_internal|_vendor)\b.* import|import.* prefect\.(server|_internal)")
    found = [
        str(file.relative_to(ROOT))
        for package in ("flows", "automations", "sensors")
        for file in (ROOT / package).rglob("*.py")
        if private.search(text := file.read_text("utf-8")) or "SLF001" in text
    ]
    assert [one for one in found if one not in PAGE.read_text("utf-8")] == []


def in_prefect(text: str, module: str) -> bool:
    return text in (PREFECT / module).read_text("utf-8")


# -- the start of a run


@pytest.mark.parametrize("name", PARTS)
def test_a_module_that_is_loaded_before_the_fork_is_there(name: str):
    importlib.import_module(name)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_is_built_before_the_fork_is_there(model: str):
    module, _, name = model.partition(":")
    assert callable(getattr(importlib.import_module(module), name).model_rebuild)


def test_a_prefect_whose_settings_cannot_be_cached_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    owner = next(one for one in PrefectSettings.__mro__ if "to_environment_variables" in vars(one))
    monkeypatch.delattr(owner, "to_environment_variables")
    settings_cache.keep()
    assert not hasattr(PrefectSettings, "to_environment_variables")


def test_the_run_that_a_process_is_for_is_in_its_environment_under_the_name_that_we_search_for():
    assert in_prefect(f'"{_RUN}"', "runner/runner.py")
    assert in_prefect(f'"{_RUN}"', "runtime/flow_run.py")


def test_the_process_worker_takes_the_arguments_that_ours_gives_it_and_polls_when_it_is_called():
    given = {"name", "prefetch_seconds", "heartbeat_interval_seconds", "create_pool_if_not_found"}
    assert given <= inspect.signature(BaseWorker.__init__).parameters.keys()
    assert inspect.iscoroutinefunction(ProcessWorker.get_and_submit_flow_runs)
    assert inspect.iscoroutinefunction(ProcessWorker.start)


def test_the_worker_labels_a_run_with_its_own_name():
    assert in_prefect(f'"{WORKER_LABEL}": self.name', "workers/base.py")


# -- the server


def test_prefects_command_starts_its_server_by_the_function_of_uvicorn_that_is_wrapped():
    module = prefect.cli._server_utils
    assert module.uvicorn is uvicorn
    assert "uvicorn.run(" in inspect.getsource(module)


def test_every_setting_of_prefect_that_a_stack_makes_is_one_of_this_version(tmp_path: Path):
    scale: Any = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    made = {name for more in ({}, scale) for name in stack_environment(Settings(state_dir=tmp_path, **more), {})}
    known = {*_get_settings_fields(PrefectSettings)}
    theirs = {one for one in made if one.startswith("PREFECT_") and not one.startswith("PREFECT_REDIS_")}
    assert theirs - known == set()


@pytest.mark.parametrize("event", [EXECUTED, FAILED])
def test_the_events_of_actions_that_are_read_as_receipts_have_these_names(event: str):
    assert in_prefect(f'"{event}"', "server/events/actions.py")


def test_a_running_flow_sends_heartbeats_under_the_name_that_is_read():
    assert in_prefect(f'"{HEARTBEAT}"', "flow_engine.py")


def test_the_events_that_wake_the_worker_are_named_after_the_states_of_runs_that_are_ready():
    assert in_prefect('f"prefect.flow-run.{validated_state.name}"', "server/models/events.py")
    assert in_prefect('name="Resuming", scheduled_time', "server/api/flow_runs.py")
    assert [*SCHEDULED] == [f"prefect.flow-run.{name}" for name in (Scheduled().name, "Resuming")]


# -- alerts


def document(name: str, checksum: str) -> BlockDocument:
    """Return the document of a block as the server has it."""
    kind = BlockType(id=uuid4(), name="Apprise Alerts", slug="apprise-alerts")
    schema = BlockSchema(id=uuid4(), checksum=checksum, fields={}, block_type=kind, block_type_id=kind.id)
    data = {"log_file": "/alerts.log"}
    given: dict[str, Any] = {"block_type": kind, "block_type_id": kind.id, "block_schema": schema}
    return BlockDocument(id=uuid4(), name=name, data=data, block_schema_id=schema.id, **given)


def test_a_block_that_prefect_loads_has_the_name_of_its_document(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prefect.blocks.core.emit_event", lambda **_: None)  # no server is there to take it
    loaded = Block._from_block_document(document("fallback", AppriseAlerts._calculate_schema_checksum()))
    assert isinstance(loaded, AppriseAlerts)
    assert loaded._name == "fallback"


def test_a_block_of_a_prefect_that_keeps_no_name_delivers_each_alert_once(tmp_path: Path):
    block = AppriseAlerts(log_file=str(tmp_path / "alerts.log"), outbox=str(tmp_path / "outbox.db"))
    del block.__pydantic_private__["_block_document_name"]
    block.notify("Run: otter", "Failed")
    assert "Failed" in (tmp_path / "alerts.log").read_text()
    assert not (tmp_path / "outbox.db").exists()


def test_a_block_of_another_version_is_found_by_its_checksum_and_without_that_is_registered_each_time(
    monkeypatch: pytest.MonkeyPatch,
):
    same = document("alerts", AppriseAlerts._calculate_schema_checksum())
    assert server._schema_difference(same) == []
    assert len(server._schema_difference(document("alerts", "sha256:other"))) == 1
    monkeypatch.setattr(AppriseAlerts, "_calculate_schema_checksum", None)
    assert len(server._schema_difference(same)) == 1


LOOPS = "{% for a in b %}" * 11 + "{% endfor %}" * 11


def test_a_template_is_checked_as_the_server_does_and_without_its_module_by_jinja(monkeypatch: pytest.MonkeyPatch):
    for wrong in ("{{ broken", LOOPS):
        with pytest.raises(TemplateSyntaxError):
            files._validate_template(wrong)
    monkeypatch.setitem(sys.modules, "prefect.server.utilities.user_templates", None)
    with pytest.raises(TemplateSyntaxError):
        files._validate_template("{{ broken")
    files._validate_template(LOOPS)


# -- others


def test_without_watchdogs_binding_of_inotify_its_public_observer_gives_the_hints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "watchdog.observers.inotify_c", None)
    watch = Watch(tmp_path)
    try:
        assert isinstance(watch._events, SystemObserver)
        watch.cover("", tmp_path.stat())
        (tmp_path / "orders.csv").write_text("id\n1\n")
        wait_until(lambda: watch.fetch().changed, "the observer gives a hint", 10)
    finally:
        watch.close()
