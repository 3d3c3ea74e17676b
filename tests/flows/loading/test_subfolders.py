"""Files of an arrival that lie in subfolders are loaded under their paths from the arrival's folder."""

from pathlib import Path

import pytest

from flows.loading.file_result import Outcome
from tests.pipeline import Pipeline


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_files_of_one_name_in_several_folders_are_several_files(pipeline: Pipeline):
    for at, name in enumerate(("a.csv", "north/a.csv", "south/a.csv")):
        pipeline.write(name, f"a\n{at}\n", "x")
    assert [result.file for result in pipeline.load_arrival("x")] == ["a.csv", "north/a.csv", "south/a.csv"]
    assert pipeline.rows("a, _file_name") == [(0, "a.csv"), (1, "north/a.csv"), (2, "south/a.csv")]
    assert [result.outcome for result in pipeline.load_arrival("x")] == [Outcome.SKIPPED] * 3


@pytest.mark.parametrize("name", ["a.csv", "north/a.csv", "no[r]th/a.csv", "north/[a]?.csv"])
def test_a_file_that_vanishes_before_it_is_loaded_is_rejected_and_the_others_loaded(pipeline: Pipeline, name: str):
    path = pipeline.write(name, "a\n1\n", "x")
    pipeline.write("z.csv", "a\n2\n", "x")
    plans = pipeline.plans("x")
    path.unlink()
    gone, there = pipeline.load_plans("x", plans)
    assert gone.outcome is Outcome.REJECTED
    assert (gone.reason or "").startswith("it changed while it was being loaded: expected 4 bytes, got none")
    assert there.outcome is Outcome.LOADED


@pytest.mark.parametrize("folder", ["**", "[a]?", "it's", "http:", "\\", "~", "a\nb", "{x,y}", "-"])
def test_a_hostile_folder_name_names_that_very_folder(pipeline: Pipeline, folder: str):
    pipeline.write("decoy/a.csv", "a\n666\n", "decoy")
    assert pipeline.load(f"{folder}/a.csv", "a\n1\n").rows == 1
    assert pipeline.rows("a, _file_name") == [(1, f"{folder}/a.csv")]
