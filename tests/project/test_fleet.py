"""The simulation of a fleet keeps to what can be worked out by hand."""

from dataclasses import replace

import pytest

from tests.benchmarks.fleet import Costs, Fleet, simulate, weights

COSTS = Costs(services=0.1, api=0.1, run=0.5, file=0.001, database_bytes=1000)
CALM = Fleet(inboxes=10, files_per_second=1, service_processes=4, worker_cores=20)


def test_with_no_one_before_it_a_file_takes_what_the_steps_take():
    report = simulate(CALM, COSTS, 600)
    assert report.latency(0.5) == pytest.approx(0.1 + 0.5 + 0.001, rel=0.05)


def test_nearly_every_file_is_loaded_where_there_is_enough_of_everything():
    report = simulate(CALM, COSTS, 600)
    assert report.files == pytest.approx(600, rel=0.15)
    assert report.arrivals <= report.files + 10


def test_service_processes_that_are_too_few_make_arrivals_larger_and_lose_no_file():
    crowded = replace(CALM, inboxes=100, files_per_second=200, service_processes=1, worker_cores=100)
    report = simulate(crowded, COSTS, 300)
    assert report.services_busy > 0.95
    assert report.arrivals_per_second == pytest.approx(1 / COSTS.services, rel=0.1)
    assert report.files / report.arrivals > 10
    assert report.files > 0.8 * 200 * 300


def test_fewer_arrivals_in_flight_gather_more_files_and_wait_less_when_services_are_the_limit():
    crowded = replace(CALM, inboxes=100, files_per_second=200, service_processes=1, worker_cores=100)
    one, four = (simulate(replace(crowded, max_in_flight=n), COSTS, 300) for n in (1, 4))
    assert one.latency(0.5) < four.latency(0.5)


def test_workers_that_are_too_few_are_always_at_work():
    report = simulate(replace(CALM, files_per_second=10, worker_cores=1), COSTS, 300)
    assert report.workers_busy > 0.95


def test_the_same_seed_gives_the_same_report():
    assert simulate(CALM, COSTS, 60) == simulate(CALM, COSTS, 60)


def test_what_comes_into_all_inboxes_is_all_of_it():
    assert sum(weights(1000)) == pytest.approx(1)
