"""Colours and glyphs: told apart, and legible on white and on nearly black."""

from __future__ import annotations

from itertools import combinations

import pytest

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.model import Handled
from ironflow_nb.diagram.palette import LINE, NEUTRAL, StatusStyle, run_look, step_look

LIGHT, DARK = "#ffffff", "#111111"
STEP_LOOKS = {str(status): step_look(status) for status in (*StepStatus, *Handled)}
LOOKS = {**STEP_LOOKS, **{str(status): run_look(status) for status in RunStatus}, "none": NEUTRAL}


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_text_is_legible_on_its_fill(look: StatusStyle) -> None:
    assert contrast(look.text, look.fill) >= 5.5


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_outlines_and_marks_are_seen_on_both_themes(look: StatusStyle) -> None:
    assert contrast(look.stroke, LIGHT) >= 3
    assert contrast(look.stroke, DARK) >= 3


def test_what_stands_on_the_bare_background_is_legible_on_both_themes() -> None:
    assert contrast(LINE, LIGHT) >= 4.5
    assert contrast(LINE, DARK) >= 4


def test_statuses_differ_in_glyph_and_mark() -> None:
    for one, other in combinations(STEP_LOOKS.values(), 2):
        assert one.glyph != other.glyph
        assert one.mark != other.mark


def test_a_step_and_a_run_with_the_same_status_look_the_same() -> None:
    for status in set(map(str, StepStatus)) & set(map(str, RunStatus)):
        assert step_look(StepStatus(status)) == run_look(RunStatus(status))


def test_no_glyph_turns_into_an_emoji() -> None:
    assert not {look.glyph for look in LOOKS.values()} & set("▶⏸⏹✔✖⚠⏳⌛⏱⚡❓❗")


def test_without_a_status_everything_is_neutral() -> None:
    assert step_look(None) == run_look(None) == NEUTRAL
