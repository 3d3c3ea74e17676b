"""A remote inbox from the front door: dropping, the preview, and what the running sensor says of its health."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from sensors.cli.preview import lines, preview
from sensors.config.settings import PROJECT_ROOT, read_settings
from sensors.stack.drop import drop
from sensors.stack.errors import StackError
from tests.free_ports import free_ports
from tests.journeys.stack import wait_until
from tests.object_store import ENVIRONMENT
from tests.remote_world import World

BOTH = pytest.mark.parametrize("world", ["s3", "sftp"], indirect=True)


@pytest.fixture
def configured(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Set the environment to an installation that has the world's folder for an inbox, and a local one."""
    rules = {"url": world.remote.url, "options": world.remote.options, "rescan_seconds": 0.2}
    rules["unproven_quiet_seconds"] = 0.5
    inboxes = {"partner": rules, "metrics": {}}
    (tmp_path / "inboxes.yaml").write_text(yaml.safe_dump({"inboxes": inboxes}))
    monkeypatch.setenv("INBOXES_FILE", str(tmp_path / "inboxes.yaml"))
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    for name, port in zip(("SENSOR_PORT", "API_PORT"), free_ports(2), strict=True):
        monkeypatch.setenv(name, str(port))
    return world


@BOTH
def test_a_dropped_file_is_uploaded_whole_and_replaces_none(configured: World, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("a\n1\n")
    said = drop(file, "partner")
    assert said[0] == f"uploaded orders.csv to partner: {configured.remote.url}/orders.csv"
    assert configured.remote.read("orders.csv") == b"a\n1\n"
    file.write_text("another")
    with pytest.raises(StackError, match=r"is in .* already and has not been taken yet"):
        drop(file, "partner")
    assert configured.remote.read("orders.csv") == b"a\n1\n"
    assert [name for name in configured.remote.all_names() if not name.startswith(".taking-probe")] == ["orders.csv"]


@BOTH
def test_what_cannot_be_uploaded_is_reported(configured: World, tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text("a\n1\n")
    configured.remote.server.stop()
    try:
        with pytest.raises(StackError, match=r"orders\.csv cannot be uploaded: .*it cannot be reached"):
            drop(file, "partner")
    finally:
        configured.remote.server.start()


@BOTH
def test_the_preview_lists_a_remote_inbox(configured: World):
    configured.remote.write("orders.csv", b"1")
    configured.remote.write("report.pdf", b"%PDF")
    reported = "\n".join(lines(preview(read_settings())))
    assert f"inbox partner ({configured.remote.url}): 1 file would fire as 1 arrival" in reported
    assert "orders.csv  1 bytes" in reported
    assert "report.pdf is refused: inbox 'partner' takes" in reported
    assert "inbox metrics" in reported


@pytest.mark.parametrize("world", ["s3"], indirect=True)
def test_the_preview_says_when_a_store_cannot_be_listed(configured: World):
    configured.remote.client.delete_bucket(Bucket=configured.remote.name)
    reported = "\n".join(lines(preview(read_settings())))
    assert "! " in reported
    assert "there is no such bucket or folder" in reported
    assert "inbox metrics" in reported


@BOTH
def test_the_sensor_says_which_inbox_is_in_trouble_and_the_others_go_on(configured: World, tmp_path):
    configured.remote.server.stop()
    is_up = False
    sensor = subprocess.Popen([sys.executable, "-m", "sensors", "run"], cwd=PROJECT_ROOT, env={**os.environ})
    try:
        wait_until(
            lambda: "it cannot be reached" in (loops().get("inbox partner") or ""), "the trouble is reported", 60
        )
        (tmp_path / "state" / "inbox" / "metrics" / "a.csv").write_text("a\n1\n")
        wait_until(lambda: arrivals(tmp_path, "metrics"), "the other inbox goes on", 30)
        configured.remote.server.start()
        is_up = True
        configured.remote.write("orders.csv", b"a\n1\n")
        wait_until(lambda: arrivals(tmp_path, "partner"), "it goes on when the store is back", 60)
        wait_until(lambda: not loops()["inbox partner"], "and says so", 30)
        shown = httpx.get(f"http://127.0.0.1:{os.environ['SENSOR_PORT']}/healthz", trust_env=False).json()
        assert shown["inboxes"]["partner"] == {"mode": "listing", "why": "every 0.2 s", "being_written": ""}
        sensor.terminate()
        assert sensor.wait(timeout=20) in {0, -signal.SIGTERM}, "it stops in time"
    finally:
        sensor.kill()
        sensor.wait()
        if not is_up:
            configured.remote.server.start()
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"].encode() not in (tmp_path / "state" / "ledger.db").read_bytes()


def loops() -> dict[str, str | None]:
    try:
        answer = httpx.get(f"http://127.0.0.1:{os.environ['SENSOR_PORT']}/healthz", trust_env=False)
    except httpx.HTTPError:
        return {}
    return {name: loop["trouble"] for name, loop in answer.json()["loops"].items()}


def arrivals(folder: Path, inbox: str) -> list[Path]:
    return list((folder / "state" / "arrivals").glob(f"*/{inbox}-*/*.csv"))
