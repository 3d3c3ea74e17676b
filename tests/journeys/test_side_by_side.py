"""Two stacks on one machine, and the nine-o'clock schedule that one of them plans far ahead."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.journeys.stack import Stack, wait_until

CHICAGO = ZoneInfo("America/Chicago")
PLANNED_DAYS = 380

# The server plans 3 runs ahead as it comes; a year and a bit shows both changes of daylight saving time.
PLAN_FAR_AHEAD = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": str(PLANNED_DAYS),
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": str(PLANNED_DAYS),
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": f"P{PLANNED_DAYS}D",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME": f"P{PLANNED_DAYS + 1}D",
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    running = new_stack(tmp_path_factory.mktemp("other") / "state with spaces", **PLAN_FAR_AHEAD).start()
    yield running
    running.stop()


def test_each_stack_loads_its_own_files_into_its_own_warehouse(stack: Stack, other: Stack):
    stack.drop("mine.csv", "side\nmine\n")
    other.drop("theirs.csv", "side\ntheirs\n")
    for one, name in ((stack, "mine"), (other, "theirs")):
        query = "SELECT side FROM public.daily_metrics WHERE side IS NOT NULL"
        wait_until(lambda one=one, query=query, name=name: one.rows(query) == [(name,)], f"{name} is loaded")
    assert other.books()["seen"] == 1


def planned(stack: Stack) -> list[datetime]:
    """Return when the server has scheduled runs of the deployment."""
    times: list[datetime] = []
    while True:
        page = stack.api.post(
            "/flow_runs/filter",
            json={
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
                "deployments": {"id": {"any_": [stack.deployment()["id"]]}},
                "sort": "EXPECTED_START_TIME_ASC",
                "offset": len(times),
            },
        ).json()
        times += [datetime.fromisoformat(run["expected_start_time"]) for run in page if run["auto_scheduled"]]
        if not page:
            return times


def test_the_runs_of_a_year_begin_at_nine_in_chicago_on_both_sides_of_both_time_changes(other: Stack):
    def far_enough() -> list[datetime] | None:
        times = planned(other)
        return times if times and times[-1] > datetime.now(UTC) + timedelta(days=366) else None

    times = wait_until(far_enough, "the server has planned a year", 90, pause=1)
    local = [time.astimezone(CHICAGO) for time in times]
    assert {(time.hour, time.minute, time.second) for time in local} == {(9, 0, 0)}
    assert all(later.date() - earlier.date() == timedelta(days=1) for earlier, later in itertools.pairwise(local))
    # In UTC the hour changes with daylight saving time: twice within the year, to 14:00 and to 15:00.
    offsets = [time.utcoffset() for time in local]
    assert sum(earlier != later for earlier, later in itertools.pairwise(offsets)) >= 2
    assert Counter(time.astimezone(UTC).hour for time in times).keys() == {14, 15}
