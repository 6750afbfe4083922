"""XML in the kinds parse and format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.nodes.texts import FORMAT, PARSE
from tests.graphs.asking import perform


def parsed(text: str) -> Any:
    return perform(PARSE, {"xml": text}, allow={})


def formatted(data: Any, **options: Any) -> str:
    made: str = perform(FORMAT, {"xml": data, **options}, allow={})
    return made


def test_attributes_texts_and_repeated_elements() -> None:
    text = '<?xml version="1.0" encoding="latin-1"?>\n<s n="1"><i>a</i><i x="2">ü</i><e/><t> b </t></s>'
    assert parsed(text) == {"s": {"@n": "1", "i": ["a", {"@x": "2", "#text": "ü"}], "e": None, "t": "b"}}


def test_namespaces_stay_as_they_are_written() -> None:
    assert parsed('<a:b xmlns:a="urn:x"><a:c/></a:b>') == {"a:b": {"@xmlns:a": "urn:x", "a:c": None}}


LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><l>&j;</l>"
)
HOSTILE = [
    LAUGHS,
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x">%x;]><a/>',
    "<a>", "a", "", "<a></b>", "<a/><b/>", "<a>&nope;</a>", "<a b='1' b='2'/>", "<a>\x00</a>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_or_broken_xml_is_an_error_of_the_node(text: str) -> None:
    with pytest.raises(NodeFailed, match="is no XML: ") as caught:
        parsed(text)
    assert caught.value.is_retryable is False
    assert "root:" not in str(caught.value)


@pytest.mark.slow
def test_elements_nested_without_end_are_an_error_or_data() -> None:
    with pytest.raises(NodeFailed, match="no XML"):
        parsed("<a>" * 200_000 + "</a>" * 200_000)


def test_data_becomes_xml() -> None:
    assert formatted({"s": {"@n": 1, "i": ["a", {"@x": 2, "#text": "<&"}], "e": None, "t": True}}) == (
        '<?xml version="1.0" encoding="utf-8"?>\n<s n="1"><i>a</i><i x="2">&lt;&amp;</i><e></e><t>true</t></s>'
    )
    assert "<root><a>1</a><b>2</b></root>" in formatted({"a": 1, "b": 2}, root="root")
    assert "<all><item>1</item><item>2</item></all>" in formatted([1, 2], root="all")
    assert "<a>\n  <b>1</b>\n</a>" in formatted({"a": {"b": 1}}, indent=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": 1, "b": 2}, "one element around all"), ([1], "give its name: root"), ("x", "one element around all"),
        ({"a": {"b><c": 1}}, "can't be the name"), ({"a b": 1}, "can't be the name"),
        ({"a": {"@x='1' y": 1}}, "can't be the name"),
        ({"a": float("nan")}, "JSON"), ({"1a": 1}, "can't be the name"),
    ],
)  # fmt: skip
def test_data_that_is_no_document_is_an_error_of_the_node(data: Any, expected: str) -> None:
    with pytest.raises(NodeFailed, match="can't be written as XML") as caught:
        formatted(data)
    assert expected in str(caught.value)


NAMES = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))
LEAVES = TEXTS.map(str.strip).filter(lambda text: text and text == " ".join(text.split()))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(NAMES, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3),
)


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=1))
def test_what_was_written_is_read_again(data: Any) -> None:
    assert parsed(formatted(data)) == data
