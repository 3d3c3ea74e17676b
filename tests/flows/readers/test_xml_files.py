"""XML documents, whose records are elements at a path."""

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.loading.file_result import Outcome
from flows.readers.compression import opened
from flows.readers.guard import Guard, memory
from flows.readers.text_records import BadRecord
from flows.readers.xml_files import xml_records
from flows.rules import XmlFormat
from flows.source_file import FileFormat, SourceFile
from tests.flows.rules_loading import Rig

RULES = {"format": {"type": "xml", "records": "orders/order"}}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_attributes_elements_and_nested_elements_are_columns(rig: Rig) -> None:
    content = """<?xml version="1.0"?>
<o:orders xmlns:o="urn:o" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b">
  <head><order id="9"/></head>
  <o:order id="1"><name>Zo&#235; &amp; Co</name><price currency="EUR">1.50</price>
    <address><city>Bonn</city><zip>053</zip></address></o:order>
  <o:order id="2"><price currency="USD">2.25</price><name/><note><![CDATA[<b>]]></note><!-- no --></o:order>
  <o:order id="3"><name xsi:nil="true"/><address><city/></address></o:order>
</o:orders>"""
    [result] = rig.load(RULES, {"a.xml": content})
    assert (result.outcome, result.reason) == (Outcome.LOADED, None)
    query = "SELECT id, name, CAST(price AS VARCHAR), price_currency, address_city, address_zip, note FROM public.t"
    assert rig.rows(query) == [
        (1, "Zoë & Co", "1.50", "EUR", "Bonn", "053", None),
        (2, "", "2.25", "USD", None, None, "<b>"),
        (3, None, None, None, "", None, None),
    ]


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ("<a>1</a><a>2</a>", 'row 2: "a" is there more than once; expected one value for each column'),
        ("<a>1</a><b>x<c>2</c>y</b>", 'row 2: "b" has text beside elements: "xy"'),
        ("<a_b>1</a_b><a><b>2</b></a>", 'row 2: a/b and a_b would both be the column "a_b"'),
    ],
)
def test_what_does_not_fit_into_columns_is_rejected_with_its_name_and_row(rig: Rig, inner: str, reason: str) -> None:
    [result] = rig.load(RULES, {"a.xml": f"<orders><order><z>1</z></order><order>{inner}</order></orders>"})
    assert result.reason == reason


BOMB = '<!DOCTYPE o [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><orders><order><x>&b;</x></order></orders>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "a document type declaration (<!DOCTYPE o>), which is not read; remove it"),
        (
            '<!DOCTYPE o SYSTEM "file:///etc/passwd"><orders/>',
            "a document type declaration (<!DOCTYPE o>), which is not read; remove it",
        ),
        (
            "<orders>\n<order><a>1</a></order>\n<order>",
            "line 3: the XML is damaged: no element found; expected well-formed XML",
        ),
        (
            "<orders>\n<order><a>1</b></order></orders>",
            "line 2: the XML is damaged: mismatched tag; expected well-formed XML",
        ),
        (
            "<data><order/></data>",
            "expected elements at orders/order, as `records` says, got none; there are data, data/order",
        ),
        ("id\n1\n", "line 1: the XML is damaged: syntax error; expected well-formed XML"),
        (
            '<?xml version="1.0" encoding="nonsense"?><orders/>',
            "its encoding cannot be read: unknown encoding: nonsense; save the file as UTF-8",
        ),
    ],
)
def test_a_document_that_cannot_be_read_is_rejected_with_the_reason(rig: Rig, content: str, reason: str) -> None:
    [result] = rig.load(RULES, {"a.xml": content})
    assert result.reason == reason


def test_without_rules_the_reason_says_what_to_set(rig: Rig) -> None:
    [result] = rig.load({}, {"a.xml": "<orders/>"})
    assert result.reason == (
        "an XML file needs a rule that says which elements are the rows: set `format: {type: xml, records:"
        " path/of/the/elements}` of the inbox"
    )


def test_encodings_and_values_in_the_form_of_the_rules(rig: Rig) -> None:
    rules = {"format": {"type": "xml", "records": "/orders/order", "decimal": ",", "nulls": "-"}}
    text = (
        '<?xml version="1.0" encoding="{}"?><orders><order><n>1,5</n><t>Zoë</t></order><order><n>-</n></order></orders>'
    )
    for encoding in ("iso-8859-1", "windows-1252", "utf-16", "utf-8"):
        [result] = rig.load(rules, {"a.xml": text.format(encoding).encode(encoding)})
        assert result.reason is None
    assert [(float(n or 0), t) for n, t in rig.rows()] == [(1.5, "Zoë"), (0, None)] * 4


def test_a_document_without_records_has_no_rows(rig: Rig) -> None:
    [result] = rig.load(RULES, {"a.xml": "<orders>\n</orders>"})
    assert result.reason is None


def test_a_wrong_value_is_named_with_its_row(rig: Rig) -> None:
    content = "<orders><order><a>1</a></order>\n\n\n<order><a>x</a></order></orders>"
    [result] = rig.load({**RULES, "columns": {"a": "bigint"}}, {"a.xml": content})
    assert result.reason == 'row 2, column "a": "x" is not a BIGINT'


def written(path: Path, records: int) -> SourceFile:
    with path.open("w") as text:
        text.write("<orders>")
        text.writelines(
            f'<order id="{at}"><name>name {at}</name><a><b>{"x" * 50}</b></a></order>\n' for at in range(records)
        )
        text.write("</orders>")
    return SourceFile(path, path.name, path.stat().st_size, FileFormat.XML)


def test_memory_stays_flat_over_200_000_records(tmp_path: Path) -> None:
    file = written(tmp_path / "a.xml", 200_000)

    before = top = memory()
    table = xml_records(lambda: opened(file, Guard()), XmlFormat(type="xml", records="orders/order"), Guard())
    count = 0
    for count, _ in enumerate(table.records, 1):
        if count % 20_000 == 0:
            top = max(top, memory())
    assert count == 200_000
    assert top - before < 20_000_000


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r", exclude_categories=("Cc", "Cs", "Cn")))
NAMES = st.sampled_from(["a", "b", "c", "long-name", "é"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.dictionaries(NAMES, TEXTS), st.dictionaries(NAMES, TEXTS)), max_size=6))
def test_what_is_written_comes_back_equal(tmp_path: Path, rows: list[tuple[dict[str, str], dict[str, str]]]) -> None:
    path = tmp_path / "a.xml"
    parts = [
        f"<order {' '.join(f'{name}={quoteattr(text)}' for name, text in attributes.items())}>"
        + "".join(f"<x-{name}>{escape(text)}</x-{name}>" for name, text in elements.items())
        + "</order>"
        for attributes, elements in rows
    ]
    path.write_text(f"<orders>{''.join(parts)}</orders>", encoding="utf-8")
    file = SourceFile(path, "a.xml", 1, FileFormat.XML)
    table = xml_records(lambda: opened(file, Guard()), XmlFormat(type="xml", records="orders/order"), Guard())
    found = [record for record in table.records if not isinstance(record, BadRecord)]
    assert len(found) == len(rows)
    for record, (attributes, elements) in zip(found, rows, strict=True):
        expected = {**attributes, **{f"x-{name}": text for name, text in elements.items()}}
        there = zip(table.names, [*record.values, *[None] * (len(table.names) - len(record.values))], strict=True)
        assert {name: text for name, text in there if text is not None} == expected
