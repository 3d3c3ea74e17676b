"""Deploys the flow to the process pool, with an automation that runs it for each event."""

from pathlib import Path

from prefect import flow
from prefect.events import DeploymentEventTrigger

if __name__ == "__main__":
    template = {"__prefect_kind": "jinja", "template": "{{ event.payload.path }}"}
    flow.from_source(source=str(Path(__file__).parent), entrypoint="load.py:load_file").deploy(
        name="stock",
        work_pool_name="default",
        triggers=[DeploymentEventTrigger(expect={"file.dropped"}, parameters={"path": template})],
    )
