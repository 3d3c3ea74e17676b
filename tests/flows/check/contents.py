"""Files of many kinds, good and bad, by what is wrong with them."""

import gzip
from pathlib import Path

import duckdb

TEXTS: dict[str, tuple[str, str | bytes]] = {
    "commas": ("a.csv", "id,name\n1,x\n2,y\n"),
    "semicolons and a byte order mark": ("a.csv", "\ufeffid;name\n1;x\n"),
    "a line sep=": ("a.csv", "sep=;\r\nid;amount\r\n1;2,5\r\n"),
    "single quotes": ("a.csv", "id,'the name'\n1,'x, y'\n"),
    "quotes over two lines": ("a.csv", 'id,text\n1,"a\nb"\n2,c\n'),
    "mixed line ends": ("a.csv", "id,name\r\n1,x\n2,y\r\n"),
    "names and no rows": ("a.csv", "id,name\n"),
    "an empty file": ("a.csv", ""),
    "a row too long": ("a.csv", "id,name\n1,x\n2,y,z\n"),
    "a row too short": ("a.csv", "id,name\n1\n"),
    "a stray quote": ("a.csv", 'id,name\n1,x"y"\n2,"open\n'),
    "names that are values": ("a.csv", "2024-01-01,5\n2024-01-02,6\n"),
    "a name twice": ("a.csv", "id,ID\n1,2\n"),
    "our own name": ("a.csv", "id,_file_name\n1,x\n"),
    "leading zeros": ("a.csv", "zip\n01730\n02139\n"),
    "many digits": ("a.csv", "n\n1234567890123456789012\n5\n"),
    "40 digits": ("a.csv", f"n\n{'9' * 40}\n5\n"),
    "dates, times and offsets": (
        "a.csv",
        "day,at,then\n2024-01-01,01:02:03,2024-01-01 00:00:00+02\n2024-02-01,04:05:06,2024-01-02 00:00:00Z\n",
    ),
    "fractions": ("a.csv", "x\n1.5\n2.25\n"),
    "empty and null": ("a.csv", 'a,b\n"",\nx,y\n'),
    "texts far down": ("a.csv", "n\n" + "1\n" * 21_000 + "x\n"),
    "not UTF-8": ("a.csv", b"id,name\n1,\xe9t\xe9\n"),
    "UTF-16": ("a.csv", "id,name\n1,x\n".encode("utf-16-le")),
    "a NUL character": ("a.csv", "id,name\n1,a\0b\n"),
    "a ZIP archive": ("a.csv", b"PK\x03\x04aaaaaaaaaa"),
    "an unknown suffix": ("a.txt", "id\n1\n"),
    "tabs": ("a.tsv", "id\tname\n1\tx\n"),
    "tabs and inches": ("a.tsv", 'id\tname\n1\t5"\n2\t6"\n'),
    "gzipped": ("a.csv.gz", gzip.compress(b"id,name\n1,x\n")),
    "gzip that is cut": ("a.csv.gz", gzip.compress(b"id,name\n" + b"1,x\n" * 1000)[:-10]),
    "no gzip": ("a.csv.gz", "id,name\n1,x\n"),
    "a JSON array": ("a.json", '[{"id": 1, "name": "x"}, {"id": 2, "tags": ["a"]}]'),
    "nested JSON": ("a.ndjson", '{"id": 1, "in": {"a": [1, 2]}}\n{"id": 2, "in": null}\n'),
    "JSON of no rows": ("a.json", "[]"),
    "broken NDJSON": ("a.ndjson", '{"id": 1}\n{"id"\n'),
    "JSON that is a number": ("a.json", "5"),
    "no Parquet": ("a.parquet", "hello, this is no Parquet file"),
}
"""Names and contents; a test writes them itself."""


def written(kind: str, folder: Path) -> Path:
    """Write a file of a kind, and return where it is."""
    name, content = TEXTS[kind]
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet_file(path: Path, query: str) -> Path:
    """Write what a query of DuckDB's gives as a Parquet file."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path
