"""The dashboard and the alert rules: of metrics that there are, and as Prometheus reads them."""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.web.metrics import SensorCollector, metrics_page
from tests.dashboard import DASHBOARD, questions, variables
from tests.deploy_files import ROOT, program, said
from tests.journeys.stack import wait_until
from tests.prometheus_server import GRAFANA, prometheus_server
from tests.scrape import Sensor, get
from tests.served_page import page_settings, served_page

RULES = [rule for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
OF_PROMETHEUS = {"up", "ALERTS"}
WORDS = {"and", "or", "unless", "bool"}


@pytest.fixture
def scraped(tmp_path, ledger, hand_clock):
    sensor = Sensor(tmp_path, hand_clock.clock, [Loop("prefect", lambda: 60.0, hand_clock.clock)])
    sensor.scrape()
    yield list(text_string_to_metric_families(get(sensor.app, "/metrics").text))
    sensor.collector.close()


def names_in(expression: str) -> set[str]:
    """Return the metrics of a PromQL expression: the words that are no function, label, range or number.

    >>> sorted(names_in('sum by (le) (rate(a_bucket{inbox=~"x"}[5m])) or b > 3'))
    ['a_bucket', 'b']
    """
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - WORDS


def expressions() -> dict[str, str]:
    return {str(one): one.expression for one in questions()} | {rule["alert"]: rule["expr"] for rule in RULES}


def test_every_metric_of_the_dashboard_and_of_the_rules_is_one_that_is_exported(scraped):
    exported = {sample.name for family in scraped for sample in family.samples} | OF_PROMETHEUS
    unknown = {title: names_in(one) - exported for title, one in expressions().items() if names_in(one) - exported}
    assert unknown == {}
    assert all(names_in(one) for one in expressions().values())


def test_every_metric_of_ours_is_in_the_table_of_the_documentation_and_no_other(scraped):
    ours = {sample.name for family in scraped for sample in family.samples if family.name.startswith("blueprint_")}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}
    reported = set(
        re.findall(r"^\| `(blueprint_\w+)", (ROOT / "docs" / "observing.md").read_text("utf-8"), re.MULTILINE)
    )
    assert reported == ours


def test_the_dashboards_panels_have_their_own_places_and_ask_the_source_that_is_chosen():
    assert DASHBOARD["schemaVersion"] >= 36
    assert variables().keys() == {"datasource", "inbox"}
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & own, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_a_figure_is_of_now_and_not_the_last_that_a_sensor_gave_before_it_went():
    now = {one.panel for one in questions() if one.is_instant}
    assert now == {panel["title"] for panel in DASHBOARD["panels"] if panel["type"] != "timeseries"}


def test_every_rule_says_what_is_wrong_and_how_urgent_it_is():
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


# -- as Prometheus itself reads them


@pytest.fixture
def promtool(tmp_path: Path):
    """Give Prometheus' own checker, in a folder with copies of the files."""
    checker = program("promtool", "prometheus")
    for file in ("alerts.yaml", "prometheus.yaml"):
        shutil.copy(GRAFANA / file, tmp_path / file)
    return lambda *arguments: said(checker, *arguments, cwd=tmp_path)


def test_prometheus_takes_the_scrape_configuration_and_the_rules(promtool):
    assert f"{len(RULES)} rules found" in promtool("check", "config", "prometheus.yaml")


def test_prometheus_has_no_complaint_about_the_names_and_types_of_the_metrics(tmp_path, ledger, hand_clock):
    checker = program("promtool", "prometheus")
    sensor = Sensor(tmp_path, hand_clock.clock)
    text = get(sensor.app, "/metrics").text
    sensor.collector.close()
    assert said(checker, "check", "metrics", input=text) == ""


def test_a_sensor_that_does_not_answer_is_about_to_fire(tmp_path):
    settings = page_settings(tmp_path / "data")
    with ExitStack() as until_asked:
        with served_page(settings) as page:
            collector = SensorCollector(settings, [], {}, Clock())
            page.app.router.routes.append(metrics_page(collector))
            prometheus = until_asked.enter_context(prometheus_server(tmp_path, page.port))
            assert prometheus.rules()["BlueprintSensorDown"]["state"] == "inactive"
        collector.close()
        wait_until(lambda: prometheus.rules()["BlueprintSensorDown"]["state"] == "pending", "it is about to fire", 20)


FIRING = {
    "BlueprintSensorDown": ('up{job="prefect-blueprint", instance="a"}', "0x20"),
    "BlueprintBooksImbalance": ('blueprint_books_imbalance{inbox="metrics"}', "-1x20"),
    "BlueprintLedgerUnreadable": ("blueprint_ledger_readable", "0x20"),
    "BlueprintLoopNotAlive": ('blueprint_loop_alive{loop="prefect"}', "0x20"),
    "BlueprintLoopTroubled": ('blueprint_loop_troubled{loop="prefect"}', "1x20"),
    "BlueprintOldestFileWaits": ('blueprint_oldest_waiting_seconds{inbox="metrics"}', "0+60x20"),
    "BlueprintArrivalDoesNotEnd": ('blueprint_oldest_arrival_seconds{inbox="metrics"}', "3600+60x20"),
    "BlueprintAnnouncementsRepeated": ('blueprint_announcements_repeated_total{inbox="metrics"}', "0+1x20"),
    "BlueprintAlertsPending": ("blueprint_alerts_pending", "1x20"),
}
"""A series for each rule that has it fire, at one sample a minute."""
WELL = {
    "blueprint_books_imbalance": "0x20",
    "blueprint_loop_alive": "1x20",
    "blueprint_loop_troubled": "0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1",
    "blueprint_oldest_waiting_seconds": "0 60 120 180 0 60 120 180 0 0 0 0 0 0 0 0 0 0 0 0",
    "blueprint_alerts_pending": "0 5 5 0 0 0 5 5 0 0 0 0 0 0 0 0 0 0 0 0",
}
"""Series of a sensor at which nothing is wrong, or not for long."""


def unit_test(series: list[dict[str, str]], firing: set[str]) -> dict[str, Any]:
    """Return what `promtool test rules` is to find 19 minutes after the start."""
    fired = "count by (alertname) (ALERTS{alertstate='firing'})"
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)]
    return {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{"expr": fired, "eval_time": "19m", "exp_samples": samples}],
    }


def test_each_rule_fires_for_what_it_is_there_for_and_no_rule_for_what_passes(promtool, tmp_path):
    assert FIRING.keys() == {rule["alert"] for rule in RULES}
    ill = [{"series": series, "values": values} for series, values in FIRING.values()]
    well = [{"series": series, "values": values} for series, values in WELL.items()]
    document = {"rule_files": ["alerts.yaml"], "tests": [unit_test(ill, {*FIRING}), unit_test(well, set())]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    assert "SUCCESS" in promtool("test", "rules", "test.yaml")
