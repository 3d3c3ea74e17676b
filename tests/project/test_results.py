"""The figures of the releases, and which of them are slowdowns."""

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, p95
from tests.benchmarks.results import Result, before, compare, read, write


def figure(median: float, unit: str = "s", **more: bool) -> Figure:
    return Figure(name="burst", unit=unit, median=median, **more)


def is_slower(now: Figure, then: Figure) -> bool:
    (compared,) = compare([now], [then])
    return compared.is_slower


def test_a_median_that_is_more_than_a_fifth_worse_is_a_slowdown():
    assert is_slower(figure(1.3), figure(1.0))
    assert not is_slower(figure(1.1), figure(1.0))
    assert not is_slower(figure(0.5), figure(1.0))


def test_of_what_is_better_the_higher_less_is_a_slowdown():
    assert is_slower(figure(100, "files/s", higher_is_better=True), figure(200, "files/s", higher_is_better=True))
    assert not is_slower(figure(300, "files/s", higher_is_better=True), figure(200, "files/s", higher_is_better=True))


def test_a_few_milliseconds_are_no_slowdown_whatever_their_ratio():
    assert not is_slower(figure(0.02), figure(0.01))


def test_a_single_lost_file_is_one():
    assert is_slower(figure(1, "files"), figure(0, "files"))


def test_that_stock_prefect_is_slower_now_is_none_of_ours():
    assert not is_slower(figure(20, is_ours=False), figure(10, is_ours=False))


def test_a_figure_that_only_one_release_has_is_not_compared():
    assert compare([figure(1)], [Figure(name="another", unit="s", median=1)]) == []


def test_the_release_before_is_found_by_its_version_and_not_by_its_name(tmp_path):
    for version in ("1.2.0", "1.9.0", "1.10.0", "2.0.0"):
        (tmp_path / version).mkdir()
    assert before("2.0.0", tmp_path) == tmp_path / "1.10.0"
    assert before("1.2.0", tmp_path) is None
    assert before("1.0.0", tmp_path / "nothing") is None


def test_what_was_written_is_read_again_with_its_samples(tmp_path):
    result = Result(
        part="drop",
        version="1.0.0",
        machine=describe_machine(tmp_path),
        options=Options(drops=2),
        figures=(figure(1.5),),
        samples={"drops": [1.4, 1.6]},
    )
    write(tmp_path, result)
    assert read(tmp_path) == {"drop": result}


def test_p95_is_interpolated_and_of_one_sample_that_one():
    assert p95([7.0]) == 7.0
    assert p95([float(n) for n in range(101)]) == 95.0
