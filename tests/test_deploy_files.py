"""The files under deploy/: each read by the tool that it is for, as far as that goes without an engine or a cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from automations.settings import Settings as AlertSettings
from flows.pipeline_settings import PipelineSettings
from sensors.settings import Settings, read_settings
from sensors.stack.scale_environment import scale_environment
from sensors.stack.services import Service, services_of

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "prefect-blueprint.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
KUBERNETES = "1.31"
MOST_EXPOSURE = 2.0
"""As `systemd-analyze security` counts, from 0 to 10; a unit without any hardening has 9.6."""

OTHERS = {"DO_NOT_TRACK", "ENV_FILE", "HOME", "PATH", "PYTHONPYCACHEPREFIX"}
OF_IMAGES = {"POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER", "REDISCLI_AUTH"}
OF_PREFECT_YAML = {"GIT_COMMIT", "GIT_REPOSITORY", "IMAGE"}


def program(name: str, package: str) -> str:
    """Return the path of a program; skips the test without it, except in CI."""
    found = shutil.which(
        name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    )
    if found is None and os.environ.get("CI"):
        raise AssertionError(f"{name} is not installed; .ci/run should have done that")
    return found or pytest.skip(f"{name} is not installed: apt install {package}")


def said(*command: str, **more: Any) -> str:
    """Run a program that has to succeed and return what it said."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def known_variables() -> set[str]:
    fields = {*Settings.model_fields, *AlertSettings.model_fields, *PipelineSettings.model_fields}
    own = {name.upper() for name in fields}
    return own | {*_get_valid_setting_names(PrefectSettings)} | {*scale_environment(scale_settings())} | OTHERS


def scale_settings() -> Settings:
    return Settings.model_validate(
        {
            "profile": "scale",
            "database_url": "postgresql://prefect:change-me@postgres.example.com:5432/prefect",
            "redis_url": "redis://:change-me@redis.example.com:6379/0",
        }
    )


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


def test_the_unit_starts_the_project_and_may_write_where_that_writes():
    lines = [line for line in UNIT.read_text().splitlines() if line and not line.startswith(("#", "["))]
    settings = [line.split("=", 1) for line in lines]
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
    assert not settings.has_server or (settings.api_host, settings.page_url) == ("0.0.0.0", "http://localhost:4200")
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


def test_nobody_but_this_machine_reaches_what_is_published(compose: dict[str, Any]):
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert [(port["host_ip"], port["target"]) for port in ports] == [("127.0.0.1", 4200)]


def test_what_compose_names_is_there_and_known(compose: dict[str, Any]):
    for one in compose["services"].values():
        if build := one.get("build"):
            assert (Path(build["context"]) / build["dockerfile"]).resolve() == CONTAINERFILE
        binds = [mount for mount in one.get("volumes", []) if mount["type"] == "bind"]
        assert all(Path(bind["source"]).is_file() and bind["read_only"] for bind in binds)
        assert set(one.get("environment") or {}) <= known_variables() | OF_IMAGES
    asked = {*re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())}
    told = {*re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE)}
    assert told <= asked
    assert {name for name in asked - told if not name.startswith("NOTIFY_")} == set()


def test_the_balancers_configuration_is_one(compose: dict[str, Any]):
    configuration = DEPLOY / "container" / "haproxy.cfg"
    said(program("haproxy", "haproxy"), "-c", "-f", str(configuration))
    asked = {*re.findall(r"(\w+):4200 *$", configuration.read_text(), re.MULTILINE)}
    assert asked == {name for name, one in compose["services"].items() if "API_HOST" in (one.get("environment") or {})}


# -- Kubernetes


def manifests() -> list[dict[str, Any]]:
    files = (DEPLOY / "kubernetes" / name for name in ("sensor.yaml", "secrets.example.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def data_of(kind: str, name: str) -> dict[str, str]:
    (found,) = [one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found.get("data") or found["stringData"]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_knows_the_manifest(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_job_of_a_run_is_one_that_kubernetes_knows():
    template = json.loads((DEPLOY / "kubernetes" / "job-template.json").read_text())
    text = json.dumps(template["job_configuration"]["job_manifest"])
    asked = {*re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"]))}
    assert asked == set(template["variables"]["properties"])
    values = {"env": [], "labels": {}, "command": ["python", "-m", "prefect.engine"], "finished_job_ttl": 3600}
    for name in asked:
        text = text.replace(f'"{{{{ {name} }}}}"', json.dumps(values.get(name, "1")))
    job = json.loads(text.replace("{{ name }}-", "run-"))
    for misplaced in (
        "parallelism",
        "completions",
    ):  # where Prefect's own template has them, and Kubernetes ignores them
        job["spec"]["template"]["spec"].pop(misplaced, None)
    kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_prefect_is_told_the_same_as_by_just_up():
    told = {**data_of("ConfigMap", "blueprint-prefect"), **data_of("Secret", "blueprint-servers")}
    wanted = scale_environment(scale_settings())
    assert {name: told.get(name) for name in wanted} == wanted
    assert set(told) <= known_variables()
    assert set(data_of("ConfigMap", "blueprint-sensor")) <= known_variables()


def test_the_pods_environment_is_known_and_what_it_refers_to_exists():
    known = known_variables() | OF_PREFECT_YAML
    named = {(one["kind"], one["metadata"]["name"]) for one in manifests()}
    pods = [one["spec"]["template"]["spec"] for one in manifests() if "template" in one.get("spec", {})]
    for container in (one for pod in pods for one in (*pod.get("initContainers", []), *pod["containers"])):
        assert {one["name"] for one in container.get("env", [])} <= known
        for source in container.get("envFrom", []):
            assert {
                ("ConfigMap" if kind == "configMapRef" else "Secret", to["name"]) for kind, to in source.items()
            } <= named


def test_the_deployment_is_the_same_but_for_where_it_runs():
    here, there = (
        PrefectYamlModel.model_validate(yaml.safe_load(file.read_text()))
        for file in (ROOT / "prefect.yaml", DEPLOY / "kubernetes" / "prefect.yaml")
    )
    (process,), (kubernetes,) = here.deployments, there.deployments
    left_out = {"work_pool"}
    assert process.model_dump(exclude=left_out) == kubernetes.model_dump(exclude=left_out)
    assert (here.prefect_version, here.name) == (there.prefect_version, there.name)
    assert [step for one in there.pull or [] for step in one] == ["prefect.deployments.steps.git_clone"]
    template = json.loads((DEPLOY / "kubernetes" / "job-template.json").read_text())
    assert kubernetes.work_pool
    assert set(kubernetes.work_pool.job_variables) <= set(template["variables"]["properties"])
    asked = {*re.findall(r"\{\{ \$(\w+) \}\}", (DEPLOY / "kubernetes" / "prefect.yaml").read_text())}
    assert asked == OF_PREFECT_YAML


def test_the_values_for_prefects_charts_name_what_the_manifests_have():
    text = "".join((DEPLOY / "kubernetes" / f"values-{one}.yaml").read_text() for one in ("server", "worker"))
    names = {*re.findall(r"(?:existingSecret|extraEnvVarsCM|extraEnvVarsSecret): (\S+)", text)}
    assert names <= {one["metadata"]["name"] for one in manifests()}
    assert json.dumps(yaml.safe_load(text.partition("worker:\n")[0])).count("prefect-blueprint") == 1
