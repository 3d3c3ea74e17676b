"""The stamp changes with what is installed, and with nothing else."""

import os

import pytest

from flows.forkserver import server
from flows.forkserver.server import read_stamp


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "duckdb-2.0.0.dist-info").mkdir()
    (tmp_path / "duckdb.py").touch()
    return tmp_path


def test_it_is_the_same_while_nothing_changes(folder):
    before = read_stamp([str(folder)])
    (folder / "__pycache__").mkdir()
    assert read_stamp([str(folder)]) == before


def test_a_package_that_is_upgraded_changes_it(folder):
    before = read_stamp([str(folder)])
    (folder / "duckdb-2.0.0.dist-info").rename(folder / "duckdb-2.0.1.dist-info")
    assert read_stamp([str(folder)]) != before


def test_a_package_that_is_installed_again_in_the_same_version_changes_it(folder):
    before = read_stamp([str(folder)])
    os.utime(folder / "duckdb-2.0.0.dist-info", (1, 1))
    assert read_stamp([str(folder)]) != before


def test_a_package_that_is_added_as_a_path_changes_it(folder):
    before = read_stamp([str(folder)])
    (folder / "__editable__.pth").touch()
    assert read_stamp([str(folder)]) != before


def test_another_interpreter_changes_it(folder, tmp_path_factory, monkeypatch):
    before = read_stamp([str(folder)])
    python = tmp_path_factory.mktemp("bin") / "python"
    python.touch()
    monkeypatch.setattr(server.sys, "executable", str(python))
    assert read_stamp([str(folder)]) != before


def test_folders_that_are_not_there_are_passed_over():
    assert read_stamp(["/nowhere", "stdlib.zip"])
