"""A damaged gzip file is rejected with what is wrong with it."""

import gzip
from pathlib import Path

import pytest

from tests.pipeline import Pipeline

CSV = b"id,name\n" + b"".join(b"%d,name %d\n" % (at, at * at) for at in range(2000))
JSON = b"".join(b'{"id": %d, "name": "name %d"}\n' % (at, at * at) for at in range(2000))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.ndjson.gz", "a.json.gz"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("checksum", "the gzip file is damaged: its content does not match its checksum (CRC); send it again"),
        ("length", "the gzip file is damaged: it does not unpack to as many bytes as it says; send it again"),
        ("cut", "the gzip file is damaged: it ends in the middle; send it again"),
        ("appended", "the gzip file is damaged: other bytes follow its end; send it again"),
        ("block", "the gzip file is damaged: it cannot be unpacked; send it again"),
        ("none", "not a gzip file, though its name ends in .gz"),
    ],
)
def test_the_reason_says_how_it_is_damaged(tmp_path: Path, name: str, damage: str, said: str) -> None:
    content = CSV if "csv" in name else JSON
    packed = bytearray(gzip.compress(content))
    match damage:
        case "checksum":
            packed[-8] ^= 0xFF
        case "length":
            packed[-4] ^= 0xFF
        case "cut":
            del packed[-6:]
        case "appended":
            packed += b"hello"
        case "block":
            packed[10] |= 0b110
        case _:
            packed = bytearray(content)
    assert Pipeline(tmp_path).load(name, bytes(packed)).reason == said
