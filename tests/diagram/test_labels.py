"""Labels made of any text."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.diagram.sizes import clean, clipped, fitting, one_line, width, xml_attribute, xml_text
from tests.diagram.drawn import ANY_TEXT


@settings(max_examples=60)
@given(ANY_TEXT)
def test_any_text_is_the_content_of_an_element(text: str) -> None:
    found = ET.fromstring(f"<a>{xml_text(text)}</a>").text or ""
    assert found == clean(text).replace("\r\n", "\n").replace("\r", "\n")


@settings(max_examples=60)
@given(ANY_TEXT)
def test_any_text_is_an_attribute(text: str) -> None:
    assert ET.fromstring(f"<a b={xml_attribute(text)}/>").get("b") == one_line(text)


def test_what_xml_forbids_is_replaced_and_all_else_stays() -> None:
    assert clean("a\x00b\x1b\ud800\ufffe\t\n€😀") == "a\ufffdb\ufffd\ufffd\ufffd\t\n€😀"


@settings(max_examples=60)
@given(ANY_TEXT, st.floats(20, 300), st.booleans())
def test_a_clipped_label_fits(text: str, room: float, is_mono: bool) -> None:
    label = clipped(text, font_size=12, room=room, is_mono=is_mono)
    assert width(label, font_size=12, is_mono=is_mono) <= room
    assert label == one_line(text) or label.endswith("…")


def test_a_label_that_fits_is_not_clipped() -> None:
    assert clipped("fetch", font_size=12, room=100) == "fetch"
    assert clipped("fetch" * 20, font_size=12, room=100).startswith("fetch")


def test_wide_characters_take_more_room_and_accents_none() -> None:
    assert width("漢字", font_size=10) > width("ab", font_size=10)
    assert width("e\u0301", font_size=10) == width("e", font_size=10)


@pytest.mark.parametrize(
    ("room", "said"), [(400, "812 of 1000, 3 failed · 2.0 s"), (150, "812 of 1000, 3 failed"), (90, "812 of 1000")]
)
def test_what_is_said_loses_whole_parts_before_it_is_clipped(room: float, said: str) -> None:
    assert fitting("812 of 1000, 3 failed · 2.0 s", font_size=11, room=room) == said


def test_a_first_part_that_does_not_fit_is_clipped() -> None:
    assert fitting("812 of 1000, 3 failed", font_size=11, room=40).endswith("…")
