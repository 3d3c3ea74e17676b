"""The page of rules: each of its examples is an inboxes file that is right, and it names every rule."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows.rules import (
    BadRows,
    ColumnRule,
    Contract,
    CsvFormat,
    ExcelFormat,
    FixedWidthFormat,
    JsonFormat,
    LoadRules,
    ParquetFormat,
    WriteMode,
    WriteRule,
    XmlFormat,
)
from sensors.config.inboxes import read_inboxes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
MODELS = (LoadRules, CsvFormat, FixedWidthFormat, ExcelFormat, JsonFormat, XmlFormat, ParquetFormat, ColumnRule)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[1].strip())
def test_every_example_is_an_inboxes_file(tmp_path: Path, example: str) -> None:
    file = tmp_path / "inboxes.yaml"
    file.write_text(example, "utf-8")
    inboxes = read_inboxes(file, tmp_path)
    assert all(inbox.load_rules for inbox in inboxes)
    # As they reach a run: written as JSON, and read again.
    assert all(LoadRules.model_validate_json(inbox.load_rules or "") for inbox in inboxes)


@pytest.mark.parametrize("model", [*MODELS, WriteRule, BadRows])
def test_the_page_names_every_rule(model: type[BaseModel]) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", PAGE)) + " ".join(EXAMPLES)
    assert [name for name in model.model_fields if not re.search(rf"\b{name}\b", code)] == []


def test_the_page_names_every_contract_and_mode_and_they_have_an_example() -> None:
    examples = " ".join(EXAMPLES)
    assert [one for one in (*Contract, *WriteMode) if f"`{one}`" not in PAGE] == []
    assert [mode for mode in WriteMode if mode is not WriteMode.APPEND and f"mode: {mode}" not in examples] == []
