"""A picture that moves has the titles of the one that stays, in the same places."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.diagram.draw import Picture, draw
from ironflow_nb.diagram.model import Diagram
from ironflow_nb.handles.run_picture import bundle_of
from ironflow_nb.notebook import live_pictures
from tests.conftest import Lab
from tests.diagram.drawn import SVG, Drawn, looped, node
from tests.diagram.test_dot_and_mermaid import STATES

PLACE = re.compile(
    r'<span title="([^"]*)" style="position: absolute; left: ([\d.]+)%; top: ([\d.]+)%; width: ([\d.]+)%'
)


def titles(picture: Picture) -> list[str]:
    """Return the titles of the document."""
    return sorted(element.text or "" for element in Drawn.of(picture.svg).root.iter(f"{SVG}title"))


def moving_titles(picture: Picture) -> list[str]:
    assert picture.moving_html is not None
    return sorted(unescape(found[0]) for found in PLACE.findall(picture.moving_html))


def test_both_pictures_have_the_same_titles() -> None:
    picture = draw(looped(), STATES, run_id="abc")
    assert moving_titles(picture) == titles(picture)
    assert len(titles(picture)) == 1 + len(looped().nodes) + sum(edge.label is not None for edge in looped().edges)


@pytest.mark.parametrize("label", ['say "hi"', "<b>&amp;", "two\nlines", "größer → 漢字", "\x00"])
def test_any_text_is_a_title_in_both(label: str) -> None:
    picture = draw(Diagram("d", (node(label),)), {})
    assert moving_titles(picture) == titles(picture)


def moved_by(group: ET.Element) -> float:
    """Return how far the group is moved to the right."""
    return float(re.findall(r"[\d.-]+", group.attrib["transform"])[0])


def test_a_tooltip_lies_over_its_node() -> None:
    picture = draw(looped(), STATES)
    root = Drawn.of(picture.svg).root
    width = float(root.attrib["width"])
    [shift] = [moved_by(group) for group in root if "transform" in group.attrib]
    places = PLACE.findall(str(picture.moving_html))
    of_title = {unescape(title): float(left) + float(wide) / 2 for title, left, _, wide in places}
    for group in root.iter(f"{SVG}g"):
        if group.get("data-kind") is not None:
            x = moved_by(group) + shift
            assert of_title[group.findtext(f"{SVG}title") or ""] == pytest.approx(100 * x / width, abs=0.05)


def test_a_run_that_goes_on_has_tooltips(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(live_pictures, "update", lambda _, bundle: bundles.append(bundle))

    @step
    def look() -> None:
        following._run_id = iron.runs()["run_id"][0]
        following.paint()

    @flow
    def main() -> None:
        look()

    following = live_pictures.LiveOutput(lab.engine, "an id")
    main()
    assert "look: running" in bundles[0]["text/html"]
    assert "<object" not in bundles[0]["text/html"]
    assert main.last is not None
    assert "<object" in bundle_of(main.last.diagram())["text/html"]
