"""Where a run is on Prefect's page."""


def run_url(prefect_page: str, run_id: str) -> str:
    """Return the address of a run's page; `prefect_page` has no slash at its end."""
    return f"{prefect_page}/runs/flow-run/{run_id}"
