"""The files under deploy/kubernetes/: by the schemas of Kubernetes, by Prefect's models, and by a real server."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel

from sensors.stack.environment import scale_environment
from tests.deploy_files import DEPLOY, ROOT, known_variables, said, scale_settings

KUBERNETES = "1.31"
FILES = ("sensor.yaml", "network-policy.yaml", "secrets.example.yaml")
OF_PREFECT_YAML = {"GIT_COMMIT", "GIT_REPOSITORY", "IMAGE"}


def manifests() -> list[dict[str, Any]]:
    files = (DEPLOY / "kubernetes" / name for name in FILES)
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


def test_prefect_gets_the_same_settings_as_by_just_up():
    reported = {**data_of("ConfigMap", "blueprint-prefect"), **data_of("Secret", "blueprint-servers")}
    wanted = scale_environment(scale_settings())
    assert {name: reported.get(name) for name in wanted} == wanted
    assert set(reported) <= known_variables()
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
    assert asked == OF_PREFECT_YAML | {"DROP_PAGE_URL"}


@pytest.mark.timeout(300)
def test_a_server_takes_the_work_pool_and_the_deployment_as_the_job_puts_them_there(api_url: str, tmp_path: Path):
    (job,) = [one for one in manifests() if one["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shell, options, script = container["command"]
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **values, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": api_url, "PATH": path}
    # The automations are others' matter here: modules that share this server count them.
    said(shell, options, script.partition("python -m automations")[0], cwd=ROOT, env=environment)
    with httpx.Client(base_url=api_url) as api:
        deployment = api.get("/deployments/name/Enterprise Data Pipeline/production-etl").raise_for_status().json()
        api.delete(f"/deployments/{deployment['id']}").raise_for_status()
        api.delete("/work_pools/kubernetes-pool").raise_for_status()
    assert (deployment["work_pool_name"], deployment["job_variables"]["image"]) == ("kubernetes-pool", values["IMAGE"])
    clone = {"repository": values["GIT_REPOSITORY"], "commit_sha": values["GIT_COMMIT"]}
    token = {"access_token": "{{ prefect.blocks.secret.git-token }}"}
    assert deployment["pull_steps"] == [{"prefect.deployments.steps.git_clone": clone | token}]


def test_the_values_for_prefects_charts_name_what_the_manifests_have():
    text = "".join((DEPLOY / "kubernetes" / f"values-{one}.yaml").read_text() for one in ("server", "worker"))
    names = {*re.findall(r"(?:existingSecret|extraEnvVarsCM|extraEnvVarsSecret): (\S+)", text)}
    assert names <= {one["metadata"]["name"] for one in manifests()}
    assert json.dumps(yaml.safe_load(text.partition("worker:\n")[0])).count("prefect-blueprint") == 1


def pods() -> dict[str, dict[str, Any]]:
    """Return the specification of each pod that ours make, the runs' own one too."""
    found = {one["kind"]: one["spec"]["template"]["spec"] for one in manifests() if "template" in one.get("spec", {})}
    template = json.loads((DEPLOY / "kubernetes" / "job-template.json").read_text())
    return found | {"run": template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]}


@pytest.mark.parametrize("pod", pods().values(), ids=pods())
def test_a_pod_has_no_rights_and_a_limit_on_its_memory(pod: dict[str, Any]):
    account = pod["securityContext"]
    assert account["runAsNonRoot"]
    assert account["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # Else Kubernetes lets the group write into everything at each start.
    assert "fsGroup" not in account or account["fsGroupChangePolicy"] == "OnRootMismatch"
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        assert_confined(container["securityContext"])
        assert container["resources"]["limits"]["memory"]


def assert_confined(context: dict[str, Any]) -> None:
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("chart", ["server", "worker"])
def test_the_charts_pods_are_held_to_the_same(chart: str):
    values = yaml.safe_load((DEPLOY / "kubernetes" / f"values-{chart}.yaml").read_text())[chart]
    assert values["podSecurityContext"]["runAsNonRoot"]
    assert values["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [values, *([values["initContainer"]] if "initContainer" in values else [])]
    for container in containers:
        assert_confined(container["containerSecurityContext"])
        assert container["resources"]["limits"]["memory"]


def test_kubernetes_itself_rejects_a_pod_with_more_rights():
    (namespace,) = [one for one in manifests() if one["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_one_reaches_a_pod_but_the_api_servers_and_no_pod_the_clouds_metadata():
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy"}
    closed = [one for one in policies.values() if one["policyTypes"] == ["Ingress"] and not one.get("ingress")]
    assert [one["podSelector"] for one in closed] == [{}]
    (api,) = [one for one in policies.values() if one.get("ingress")]
    assert api["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prefect-server"}}
    assert [port["port"] for rule in api["ingress"] for port in rule["ports"]] == [4200]
    (egress,) = [one for one in policies.values() if one["policyTypes"] == ["Egress"]]
    blocks = [to["ipBlock"] for rule in egress["egress"] for to in rule["to"] if "ipBlock" in to]
    assert egress["podSelector"] == {}
    assert ["169.254.0.0/16"] in [block["except"] for block in blocks]
