"""What a real Prometheus makes of a running stack: each figure of the dashboard, and each rule."""

import math
import re
from collections.abc import Iterator

import pytest

from tests.dashboard import DASHBOARD, RANGE_SECONDS, STEP_SECONDS, Question, filled, questions, variables
from tests.journeys.stack import Stack, wait_until
from tests.prometheus_server import SCRAPE_SECONDS, Prometheus, prometheus_server

GOOD = 3
EMPTY = {"Rules that fire A": "on a healthy stack none does"}
"""What rightly has no answer, and why."""


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Give a Prometheus that has watched good files and a bad one come and end."""
    with prometheus_server(tmp_path_factory.mktemp("prometheus"), stack.sensor_port) as prometheus:
        before = books(prometheus)
        for n in range(GOOD):
            stack.drop(f"scraped-{n}.csv", "scraped\n1\n")
        stack.drop("scraped-bad.csv", "scraped\n1\n2,too many\n")

        def has_come() -> bool:
            now = books(prometheus)
            more = {entry: now[entry] - before[entry] for entry in now}
            return more["loaded"] >= GOOD and more["rejected"] + more["failed"] >= 1

        wait_until(has_come, "Prometheus knows what became of the files")
        yield prometheus


def books(prometheus: Prometheus) -> dict[str, float]:
    """Return the books of the inbox `metrics` as Prometheus has them."""
    found = prometheus.ask('blueprint_files{inbox="metrics"}')
    return {labels["entry"]: value for labels, (value,) in found}


@pytest.mark.parametrize("inboxes", [".*", "(metrics|other)"])
def test_each_figure_of_the_dashboard_has_an_answer(prometheus: Prometheus, inboxes: str):
    def answers(question: Question) -> bool:
        expression = filled(question.expression, inboxes, SCRAPE_SECONDS)
        found = (
            prometheus.ask(expression)
            if question.is_instant
            else prometheus.ask_range(expression, RANGE_SECONDS, STEP_SECONDS)
        )
        return any(not math.isnan(value) for _, values in found for value in values)

    assert {str(one) for one in questions() if not answers(one)} == EMPTY.keys()


def test_what_a_panel_writes_next_to_its_lines_are_labels_that_they_have(prometheus: Prometheus):
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            found = prometheus.ask(filled(target["expr"], ".*", SCRAPE_SECONDS)) if named else []
            assert [labels for labels, _ in found if not named <= labels.keys()] == [], panel["title"]


def inboxes_to_choose(prometheus: Prometheus) -> list[str]:
    """Return what the variable `inbox` is filled with."""
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables()["inbox"])
    assert found
    return prometheus.get(f"label/{found[2]}/values", **{"match[]": found[1]})


def test_its_figures_are_those_of_the_status(prometheus: Prometheus, stack: Stack):
    def agree() -> dict[str, dict[str, int]] | None:
        said = stack.status()["inboxes"]
        shown = {entry: int(value) for entry, value in books(prometheus).items()}
        return said if said["metrics"] == {"seen": sum(shown.values()), **shown} else None

    said = wait_until(agree, "Prometheus and the status agree", 20)
    assert inboxes_to_choose(prometheus) == sorted(said)
    shown = {
        one.panel: prometheus.number(filled(one.expression, "metrics", SCRAPE_SECONDS))
        for one in questions()
        if one.panel in {"Sensor", "Ledger", "In no entry of the books", "Loops in trouble", "Newly not loaded"}
    }
    assert (shown.pop("Newly not loaded") or 0) >= 1
    assert shown == {"Sensor": 1, "Ledger": 1, "In no entry of the books": 0, "Loops in trouble": 0}


def test_its_rules_are_understood_and_none_fires_on_a_healthy_stack(prometheus: Prometheus):
    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in prometheus.rules().values())

    wait_until(evaluated, "each rule has been evaluated", 20)
    rules = prometheus.rules()
    assert rules
    assert {name: rule["lastError"] for name, rule in rules.items() if rule["health"] != "ok"} == {}
    assert [name for name, rule in rules.items() if rule["state"] == "firing"] == []
