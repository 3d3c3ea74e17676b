"""The deployment as `prefect.yaml` says it."""

from tests.journeys.stack import DEPLOYMENT, FLOW, ROOT, Stack


def test_the_server_has_the_deployment_as_it_is_written(stack: Stack):
    deployment = stack.deployment()
    assert deployment["version"] == "1.0.0"
    assert deployment["tags"] == ["env:prod", "team:data"]
    description = deployment["description"].splitlines()
    assert description[0] == "The primary daily ETL pipeline."
    assert f"[the drop page](http://127.0.0.1:{stack.sensor_port})" in deployment["description"]
    assert not set(deployment["parameters"]) - {line.split("`")[1] for line in description if line.startswith("| `")}
    assert deployment["entrypoint"].startswith("flows/")
    assert deployment["work_pool_name"] == "local-process-pool"
    assert deployment["work_queue_name"] == "default"
    assert deployment["parameters"] == {
        "source_url": "https://api.internal.prod/v1/metrics",
        "target_table": "warehouse.public.daily_metrics",
        "batch_size": 500,
    }
    (schedule,) = deployment["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 9 * * *"
    assert schedule["schedule"]["timezone"] == "America/Chicago"
    assert [list(step) for step in deployment["pull_steps"]] == [["prefect.deployments.steps.set_working_directory"]]


def test_prefect_deploy_works_as_it_stands_and_again(stack: Stack):
    before = stack.deployment()["id"]
    done = stack.prefect("--no-prompt", "deploy", "--name", DEPLOYMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    done = stack.prefect("deploy", "--name", DEPLOYMENT, "--no-prompt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.deployment()["id"] == before
    assert FLOW in done.stdout


def test_applying_the_automations_again_changes_nothing(stack: Stack):
    before = stack.api.post("/automations/filter", json={}).json()
    done = stack.command("sensors", "client", "automations", "apply")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "created" not in done.stdout
    assert stack.api.post("/automations/filter", json={}).json() == before
    assert sorted(automation["name"] for automation in before) == [
        path.stem for path in sorted((ROOT / "automations").glob("*.yaml"))
    ]


def test_no_one_gets_in_without_credentials(stack: Stack):
    import httpx

    for path in ("/flow_runs/filter", "/events/filter", "/automations/filter"):
        assert httpx.post(f"{stack.api.base_url}{path.removeprefix('/')}", json={}).status_code == 401
