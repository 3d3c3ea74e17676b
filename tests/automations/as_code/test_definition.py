"""Reading a folder of automations."""

from pathlib import Path

import pytest

from automations.as_code.files import read_definitions
from automations.as_code.plan import FOLDER

GOOD = "name: {name}\ntrigger:\n  expect: [a.b]\nactions:\n  - type: do-nothing\n"


def reported(folder: Path) -> list[str]:
    return [str(problem) for problem in read_definitions(folder)[1]]


def test_the_automations_of_this_project_are_well_formed() -> None:
    definitions, problems = read_definitions(FOLDER)
    assert problems == []
    names = [definition.name for definition in definitions]
    assert names == [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    assert {"alert-on-failure", "alert-on-undelivered-alert", "run-on-arrival"} < {*names}


def test_each_yaml_file_is_one_automation(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(GOOD.format(name="two"))
    (tmp_path / "a.yml").write_text(GOOD.format(name="one"))
    (tmp_path / "notes.txt").write_text("not: this")
    definitions, problems = read_definitions(tmp_path)
    assert [(one.file, one.name) for one in definitions] == [("a.yml", "one"), ("b.yaml", "two")]
    assert problems == []


def test_the_problems_of_all_files_are_reported_and_the_good_ones_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [")
    (tmp_path / "b.yaml").write_text(GOOD.format(name="two"))
    (tmp_path / "c.yaml").write_text("- name: three\n- name: four")
    (tmp_path / "d.yaml").write_bytes(b"name: \xff")
    (tmp_path / "e.yaml").write_text(GOOD.format(name="five") + "treshold: 1\n")
    definitions, problems = read_definitions(tmp_path)
    assert [one.file for one in definitions] == ["b.yaml"]
    wheres = [problem.where for problem in problems]
    assert wheres == ["a.yaml:1", "c.yaml", "d.yaml", "e.yaml:6: treshold"]


@pytest.mark.parametrize("text", ["", "just text", "automations: []", "7"])
def test_a_file_that_is_not_one_automation_is_reported_with_what_is_expected(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert reported(tmp_path) == ["a.yaml: expected the fields of one automation (name, trigger, actions)"]


def test_two_files_of_one_name_are_both_reported(tmp_path: Path) -> None:
    for file in ("a.yaml", "b.yaml"):
        (tmp_path / file).write_text(GOOD.format(name="one"))
    assert [problem.split(":")[0] for problem in reported(tmp_path)] == ["a.yaml", "b.yaml"]


def test_a_folder_without_automations_is_a_mistake(tmp_path: Path) -> None:
    assert "expected at least one automation" in reported(tmp_path)[0]


def test_what_prefect_inspect_prints_is_such_a_file_and_the_id_of_its_server_is_left_out(tmp_path: Path) -> None:
    printed = "- " + GOOD.format(name="one").replace("\n", "\n  ") + "owner_resource: null\n  id: 5b1d0e1c\n"
    (tmp_path / "a.yaml").write_text(printed)
    [definition], problems = read_definitions(tmp_path)
    assert problems == []
    assert definition.name == "one"
    assert "id" not in definition.document
