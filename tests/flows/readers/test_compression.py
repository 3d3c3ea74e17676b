"""Text files that are compressed: their rows, their limits, and what is wrong with a damaged one."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import Outcome
from flows.readers.compression import unpacked
from flows.readers.guard import FileLimits, Guard
from flows.source_file import Compression, FileFormat, SourceFile
from tests.flows.rules_loading import Rig

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
ROWS = 3000
TEXTS = {
    "a.csv": b"id,name\n" + b"".join(b"%d,name %d\n" % (at, at * at) for at in range(ROWS)),
    "a.ndjson": b"".join(b'{"id": %d, "name": "name %d"}\n' % (at, at * at) for at in range(ROWS)),
    "a.json": b"[" + b",".join(b'{"id": %d, "name": "name %d"}' % (at, at * at) for at in range(ROWS)) + b"]",
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.mark.parametrize("suffix", PACKERS)
def test_each_text_format_is_loaded_from_each_compression(rig: Rig, suffix: str) -> None:
    files = {f"{name}.{suffix}": PACKERS[suffix](content) for name, content in TEXTS.items()}
    assert [(one.outcome, one.reason) for one in rig.load({}, files)] == [(Outcome.LOADED, None)] * 3
    assert rig.rows("SELECT count(*), count(DISTINCT name), max(id) FROM public.t") == [(3 * ROWS, ROWS, ROWS - 1)]


@pytest.mark.parametrize("suffix", PACKERS)
def test_formats_of_rules_are_compressed_too(rig: Rig, suffix: str) -> None:
    pack = PACKERS[suffix]
    [text] = rig.load(
        {"format": {"delimiter": ";", "encoding": "cp1252"}}, {f"a.txt.{suffix}": pack("n\nZoë\n".encode("cp1252"))}
    )
    [utf16] = rig.load({"format": {"delimiter": ";"}}, {f"a.txt.{suffix}": pack("n\nZoë\n".encode("utf-16"))})
    xml = {"format": {"type": "xml", "records": "a/b"}}
    [document] = rig.load(xml, {f"a.xml.{suffix}": pack("<a><b n='Zoë'/></a>".encode())})
    assert (text.reason, utf16.reason, document.reason) == (None, None, None)
    assert rig.rows() == [("Zoë",)] * 3


@pytest.mark.parametrize("suffix", ["zst", "bz2", "xz"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", "the {} file is damaged: it ends in the middle; send it again"),
        ("appended", "the {} file is damaged: other bytes follow its end; send it again"),
        ("none", "not a{n} {} file, though its name ends in .{suffix}"),
        ("changed", "the {} file is damaged: "),
    ],
)
def test_the_reason_says_how_it_is_damaged(rig: Rig, suffix: str, damage: str, said: str) -> None:
    packed = bytearray(PACKERS[suffix](TEXTS["a.csv"]))
    match damage:
        case "cut":
            del packed[-6:]
        case "appended":
            packed += b"hello, there"
        case "changed":
            packed[len(packed) // 2] ^= 0xFF
        case _:
            packed = bytearray(TEXTS["a.csv"])
    [result] = rig.load({}, {f"a.csv.{suffix}": bytes(packed)})
    assert result.reason is not None
    word = Compression(suffix).word
    assert result.reason.startswith(said.format(word, n="n" if suffix == "xz" else "", suffix=suffix))


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_that_unpacks_to_too_much_is_rejected_with_the_limit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.csv.{suffix}"
    path.write_bytes(PACKERS[suffix](b"\0" * 50_000_000))
    file = SourceFile(path, path.name, path.stat().st_size, FileFormat.CSV, Compression(suffix))
    limits = FileLimits(max_unpacked_bytes=10_000_000)
    with pytest.raises(Exception, match=r"it unpacks to more than 10,000,000 bytes, .*raise MAX_UNPACKED_BYTES"):
        for _ in unpacked(file, Guard(limits)):
            pass


def test_a_workbook_that_is_compressed_is_rejected(rig: Rig) -> None:
    [result] = rig.load({"format": {"type": "excel"}}, {"a.xlsx.gz": gzip.compress(b"x")})
    assert result.reason == "a workbook that is compressed as gzip; unpack it"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(PACKERS)), st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.integers(0, 3))
def test_what_is_packed_in_several_streams_comes_back_equal(
    tmp_path: Path, suffix: str, parts: list[bytes], padding: int
) -> None:
    path = tmp_path / f"a.csv.{suffix}"
    end = b"\0" * (4 * padding) if suffix in {"gz", "xz"} else b""
    path.write_bytes(b"".join(map(PACKERS[suffix], parts)) + end)
    file = SourceFile(path, path.name, 1, FileFormat.CSV, Compression(suffix))
    assert b"".join(unpacked(file, Guard())) == b"".join(parts)
