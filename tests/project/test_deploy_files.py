"""The files under deploy/: each read by the tool that it is for, as far as that goes without an engine or a cluster."""

import json
import os
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from sensors.config.settings import Settings, read_settings
from sensors.stack.services import Service, services_of
from tests.deploy_files import DEPLOY, ROOT, known_variables, program, said
from tests.image_pins import FILES, images, pinned

UNIT = DEPLOY / "systemd" / "prefect-blueprint.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
MOST_EXPOSURE = 2.0
"""As `systemd-analyze security` counts, from 0 to 10; a unit without any hardening has 9.6."""
OF_IMAGES = {"POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER", "REDISCLI_AUTH"}


# -- systemd


def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path):
    """Where the project is put, there has to be something that can be started."""
    python = tmp_path / "project" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/prefect-blueprint/.venv", str(tmp_path / "project" / ".venv")))
    assert said(program("systemd-analyze", "systemd"), "verify", str(unit)) == ""


def test_the_unit_exposes_little():
    report = said(program("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    assert float(found[1]) <= MOST_EXPOSURE, report


def unit_settings() -> list[tuple[str, str]]:
    lines = [line for line in UNIT.read_text().splitlines() if line and not line.startswith(("#", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def test_the_unit_gives_no_one_else_a_right_to_what_the_service_reads_and_runs():
    """Not even members of its group: what is written into Prefect's home is run."""
    unit = dict(unit_settings())
    assert int(unit["UMask"], 8) == 0o077
    assert int(unit["StateDirectoryMode"], 8) == 0o711
    assert int(unit["CacheDirectoryMode"], 8) == 0o700
    assert unit["User"] == unit["Group"]
    assert "SupplementaryGroups" not in unit
    written = {unit["StateDirectory"], unit["CacheDirectory"]}
    assert {path.rpartition("/")[2] for path in unit["ReadWritePaths"].split()} == written


def test_the_unit_leaves_the_machine_memory_and_processes():
    unit = dict(unit_settings())
    assert 0 < int(unit["MemoryHigh"].rstrip("%")) < int(unit["MemoryMax"].rstrip("%")) < 100
    assert 0 < int(unit["TasksMax"]) < 2**15


def test_the_unit_starts_the_project_and_may_write_where_that_writes():
    settings = unit_settings()
    unit = {name: value for name, value in settings if name != "Environment"}
    environment = dict(value.split("=", 1) for name, value in settings if name == "Environment")
    assert unit["ExecStart"].endswith("/.venv/bin/python -m sensors up")
    assert unit["WorkingDirectory"] == unit["ExecStart"].partition("/.venv")[0]
    assert set(environment) <= known_variables()
    assert {environment["STATE_DIR"], environment["PYTHONPYCACHEPREFIX"]} == {*unit["ReadWritePaths"].split()}
    assert environment["ENV_FILE"].startswith(environment["STATE_DIR"])
    assert environment["STATE_DIR"] == f"/var/lib/{unit['StateDirectory']}"


# -- container


def test_hadolint_has_no_complaint_about_the_containerfile():
    assert said(program("hadolint", "nothing; `just test` brings it"), str(CONTAINERFILE)) == ""


def copied() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    return {name for line in lines for name in line.split()}


def test_the_image_has_what_it_needs_and_nothing_else_reaches_its_building():
    allowed = CONTAINERFILE.with_name("Containerfile.dockerignore").read_text().splitlines()
    assert allowed[1] == "*"
    assert {line[1:] for line in allowed if line.startswith("!")} == copied()
    assert all((ROOT / name).exists() for name in copied())
    assert {"flows", "automations", "sensors", "prefect.yaml", "requirements.txt", "pyproject.toml"} <= copied()
    assert not any(fnmatch(name, "*.env*") for name in copied())


# -- compose


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as Docker Compose itself understands it."""
    options = ["--env-file", str(DEPLOY / ".env.example"), "-f", str(DEPLOY / "compose.yaml"), "--profile", "*"]
    name = program("docker-compose", "nothing; `just test` brings it")
    return json.loads(said(name, *options, "config", "--format", "json", env={"PATH": os.environ["PATH"]}))


@pytest.mark.parametrize(
    ("container", "services"),
    [
        ("main", (Service.SERVER, Service.SERVICES, Service.SENSOR)),
        ("api", (Service.SERVER,)),
        ("worker", (Service.WORKER, Service.WARM)),
        ("sensor-2", (Service.SENSOR,)),
    ],
)
def test_each_container_runs_its_part(
    compose: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, services: tuple[str, ...]
):
    environment: dict[str, str] = compose["services"][container]["environment"]
    assert set(environment) <= known_variables()
    for name in (*Settings.model_fields, *environment):
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {**environment, "ENV_FILE": str(tmp_path / "none")}.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert services_of(settings) == services
    assert settings.is_main == (container == "main")
    assert not settings.has_server or settings.api_host == "0.0.0.0"
    assert settings.prefect_page == "http://127.0.0.1:4200"
    # A worker reads arrivals where the sensor has put them.
    mounts = {mount["target"]: mount for mount in compose["services"][container]["volumes"] if mount.get("source")}
    if Service.SENSOR in services:
        assert settings.arrivals_dir.is_relative_to("/state")
        assert not mounts["/state"].get("read_only")
    if Service.WORKER in services:
        assert mounts["/state"]["read_only"]


def test_only_those_that_need_it_have_the_password_of_the_database(compose: dict[str, Any]):
    having = {name for name, one in compose["services"].items() if "DATABASE_URL" in (one.get("environment") or {})}
    assert having == {"main", "api"}


def test_no_one_but_this_machine_reaches_what_is_published(compose: dict[str, Any]):
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert {(port["host_ip"], port["target"]) for port in ports} == {("127.0.0.1", 4200), ("127.0.0.1", 4201)}


def test_what_compose_names_is_there_and_known(compose: dict[str, Any]):
    for one in compose["services"].values():
        if build := one.get("build"):
            assert (Path(build["context"]) / build["dockerfile"]).resolve() == CONTAINERFILE
        binds = [mount for mount in one.get("volumes", []) if mount["type"] == "bind"]
        assert all(Path(bind["source"]).is_file() and bind["read_only"] for bind in binds)
        assert set(one.get("environment") or {}) <= known_variables() | OF_IMAGES
    asked = {*re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())}
    reported = {*re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE)}
    assert reported <= asked
    assert {name for name in asked - reported if not name.startswith("NOTIFY_")} == set()


def test_the_balancers_configuration_is_one(compose: dict[str, Any]):
    configuration = DEPLOY / "container" / "haproxy.cfg"
    said(program("haproxy", "haproxy"), "-c", "-f", str(configuration))
    asked = {*re.findall(r"(\w+):4200 *$", configuration.read_text(), re.MULTILINE)}
    assert asked == {name for name, one in compose["services"].items() if "API_HOST" in (one.get("environment") or {})}


@pytest.mark.parametrize("container", ["main", "api", "worker", "sensor-2", "postgres", "redis", "balancer"])
def test_a_container_can_neither_gain_rights_nor_write_nor_take_the_machine_s_memory(
    compose: dict[str, Any], container: str
):
    confined = compose["services"][container]
    assert confined["read_only"]
    assert confined["cap_drop"] == ["ALL"]
    assert confined["security_opt"] == ["no-new-privileges:true"]
    assert int(confined["mem_limit"]) <= 6 * 2**30
    assert int(confined["pids_limit"]) <= 2**12
    assert not confined.get("cap_add")
    assert not confined.get("privileged")


def test_no_other_container_is_there_that_could(compose: dict[str, Any]):
    assert {*compose["services"]} == {"main", "api", "worker", "sensor-2", "postgres", "redis", "balancer"}


# -- images


def test_every_image_is_pinned_by_its_digest(compose: dict[str, Any]):
    example, containerfile = (images(file.read_text()) for file in FILES)
    assert set(example) == {"PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE", "HAPROXY_IMAGE"}
    assert containerfile == {"PYTHON_IMAGE": example["PYTHON_IMAGE"]}
    assert all(re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in example.values()), example
    services = compose["services"].values()
    assert {one["image"] for one in services if "build" not in one} <= {*example.values()}
    assert {one["build"]["args"]["PYTHON_IMAGE"] for one in services if "build" in one} == {example["PYTHON_IMAGE"]}
    assert {*re.findall(r"^FROM (\S+)", CONTAINERFILE.read_text(), re.MULTILINE)} == {"${PYTHON_IMAGE}"}


def test_a_newer_digest_takes_the_place_of_the_older_one_and_nothing_else_changes():
    before = "# One.\nARG PYTHON_IMAGE=python:3.11-slim@sha256:" + "0" * 64 + "\nTZ=UTC\nMY_IMAGE=host:5000/a/b:1\n"
    after = pinned(before, lambda name: f"sha256:{len(name):064x}")
    first, second = (f"{len(name):064x}" for name in ("python:3.11-slim", "host:5000/a/b:1"))
    assert after == (
        f"# One.\nARG PYTHON_IMAGE=python:3.11-slim@sha256:{first}\nTZ=UTC\nMY_IMAGE=host:5000/a/b:1@sha256:{second}\n"
    )
