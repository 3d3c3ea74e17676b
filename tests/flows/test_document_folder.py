"""The example flow's folder: a document is kept once, and listed once for each arrival that brought it."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from flows.document_store import LARGEST, DocumentFolder
from flows.loading.file_result import Outcome
from flows.source_file import Rejected, SourceFile
from flows.sources.files import files_of

CONTENT = b'{"order": 7}'
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def file(folder: Path, name: str, content: bytes = CONTENT) -> SourceFile | Rejected:
    (folder / name).write_bytes(content)
    (found,) = files_of((folder / name).as_uri())
    return found


def listed(folder: Path) -> list[tuple[str, str, str, int]]:
    with sqlite3.connect(folder / "index.db") as index:
        return index.execute("SELECT * FROM documents ORDER BY arrival_id, file").fetchall()


def test_a_document_is_kept_under_its_contents_hash_and_listed_with_its_arrival(tmp_path: Path) -> None:
    with DocumentFolder(tmp_path / "documents") as folder:
        result = folder.store(file(tmp_path, "a.json"), "d-1")
    assert (result.outcome, result.rows, result.bytes) == (Outcome.LOADED, 1, len(CONTENT))
    assert (tmp_path / "documents" / DIGEST[:2] / f"{DIGEST}.json").read_bytes() == CONTENT
    assert listed(tmp_path / "documents") == [("d-1", "a.json", DIGEST, len(CONTENT))]


def test_a_second_run_of_the_arrival_skips_it_and_the_same_content_elsewhere_is_kept_once(tmp_path: Path) -> None:
    with DocumentFolder(tmp_path / "documents") as folder:
        outcomes = [
            folder.store(file(tmp_path, name), arrival).outcome
            for name, arrival in [("a.json", "d-1"), ("a.json", "d-1"), ("b.json", "d-1"), ("a.json", "d-2")]
        ]
    assert outcomes == [Outcome.LOADED, Outcome.SKIPPED, Outcome.LOADED, Outcome.LOADED]
    assert len(list((tmp_path / "documents").glob("*/*.json"))) == 1
    assert [one[:2] for one in listed(tmp_path / "documents")] == [
        ("d-1", "a.json"),
        ("d-1", "b.json"),
        ("d-2", "a.json"),
    ]


def test_a_run_that_was_killed_before_the_listing_is_mended_by_the_next(tmp_path: Path) -> None:
    with DocumentFolder(tmp_path / "documents") as folder:
        folder.store(file(tmp_path, "a.json"), "d-1")
    with sqlite3.connect(tmp_path / "documents" / "index.db") as index:
        index.execute("DELETE FROM documents")
    with DocumentFolder(tmp_path / "documents") as folder:
        assert folder.store(file(tmp_path, "a.json"), "d-1").outcome is Outcome.LOADED


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"{", 'line 1, column 2: expected a name in double quotes or "}", and the text ends'),
        ("a.json", b"\xff\xfe\x00", "expected JSON, as its name says, got text in UTF-16"),
        ("deep.json", b"[" * 200_000, 'line 1, column 200001: expected a value or "]", and the text ends'),
        ("a.csv", CONTENT, "expected a JSON document, name.json, got a.csv"),
        ("a.json", b"", "empty file"),
        ("a.txt", CONTENT, "unknown suffix"),
    ],
)
def test_what_is_no_document_is_rejected_and_not_kept(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with DocumentFolder(tmp_path / "documents") as folder:
        result = folder.store(file(tmp_path, name, content), "d-1")
    assert result.outcome is Outcome.REJECTED
    assert (result.reason or "").startswith(reason)
    assert listed(tmp_path / "documents") == []


def test_a_document_that_is_too_large_to_be_read_as_a_whole_is_rejected(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as large:
        large.truncate(LARGEST + 1)
    (found,) = files_of((tmp_path / "large.json").as_uri())
    with DocumentFolder(tmp_path / "documents") as folder:
        assert folder.store(found, "d-1").reason == "expected a document of at most 67,108,864 bytes, got 67,108,865"
