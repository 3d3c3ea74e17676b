"""Files in an object store and on an SFTP server become rows; a bad one stays there, and its reason is told."""

from pathlib import Path

import pytest
import yaml

from tests.journeys.stack import wait_until
from tests.object_store import ENVIRONMENT, Bucket
from tests.sftp_server import SftpFolder


@pytest.fixture
def remote_stack(new_stack, remote_servers, tmp_path: Path):
    objects, sftp = remote_servers
    bucket, folder = Bucket(objects), SftpFolder(sftp, "journey")
    inboxes = {
        "bucket": {"url": bucket.url, "options": bucket.options, "rescan_seconds": 1},
        "partner": {"url": folder.url, "options": folder.options, "rescan_seconds": 1, "unproven_quiet_seconds": 2},
    }
    (tmp_path / "inboxes.yaml").write_text(yaml.safe_dump({"inboxes": inboxes}))
    running = new_stack(tmp_path / "state", INBOXES_FILE=str(tmp_path / "inboxes.yaml"), **ENVIRONMENT)
    running.inbox = tmp_path / "none"
    running.start()
    yield running, bucket, folder
    running.stop()


@pytest.mark.slow
def test_what_is_in_a_store_becomes_rows_and_what_is_bad_is_rejected(remote_stack):
    stack, bucket, folder = remote_stack
    bucket.write("north.csv", b"region,orders\nnorth,1\nnorth,2\n")
    bucket.write("report.pdf", b"%PDF")
    folder.write("south.csv", b"region,orders\nsouth,3\n")
    folder.write("broken.csv", b"region,orders\nsouth,1,surplus\n")

    def outcomes() -> bool:
        books = stack.status()["inboxes"]
        return (books["bucket"]["loaded"], books["bucket"]["rejected"]) == (1, 1) and (
            books["partner"]["loaded"],
            books["partner"]["rejected"] + books["partner"]["failed"],
        ) == (1, 1)

    wait_until(outcomes, f"every file has its outcome: {stack.status()['inboxes']}", 120, pause=1)
    assert stack.rows("SELECT region, orders FROM public.daily_metrics ORDER BY orders") == [
        ("north", 1),
        ("north", 2),
        ("south", 3),
    ]
    assert [name for name in bucket.all_names() if not name.startswith(".")] == ["report.pdf"]
    assert folder.all_names() == []
    assert "takes *.csv" in (stack.state_dir / "failed" / "inboxes" / "bucket" / "REASONS.txt").read_text()
    said = "".join(path.read_text(errors="replace") for path in (stack.state_dir / "logs").glob("*.log"))
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in said
