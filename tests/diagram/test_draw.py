"""The one door: it draws, and when it can't it says what it can."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram import draw as door
from ironflow_nb.diagram.draw import PictureParts, draw, draw_parts, shown_diagram
from ironflow_nb.diagram.model import Diagram, Edge
from ironflow_nb.diagram.states import Caption, NodeState, node_states
from ironflow_nb.diagram.svg import EDGES
from tests.diagram.drawn import Drawn, chain, diagrams, looped, node, states

RUNNING = {"run_status": RunStatus.RUNNING, "run_id": "k7x2mq9d4tzc"}


def parts(diagram: Diagram, of_steps: dict[str, NodeState], **above: Any) -> PictureParts:
    return draw_parts(shown_diagram(diagram, of_steps, Caption(name=diagram.name, **above)), prefix="iron")


@settings(max_examples=40)
@given(diagrams(max_nodes=8), states())
def test_drawing_never_raises_and_always_has_both_forms(diagram: Diagram, of_steps: dict[str, NodeState]) -> None:
    picture = draw(diagram, of_steps)
    assert picture.svg is not None
    assert picture.text


def test_steps_that_the_diagram_lacks_are_in_the_picture() -> None:
    picture = draw(chain(1), node_states([("helper", StepStatus.COMPLETED, 1, None)]))
    assert "recorded_3a_helper" in "".join(Drawn.of(picture.svg).by_id())
    assert "helper" in picture.text


def test_a_diagram_that_is_not_sound_is_drawn_as_far_as_it_is() -> None:
    diagram = Diagram("d", (node("a"), node("a")), (Edge(source="a", target="gone"),))
    assert set(Drawn.of(draw(diagram, {}).svg).by_id()) == {"iron-head", "iron-n-a"}


def test_without_a_picture_there_is_the_text(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no picture today")

    monkeypatch.setattr(door, "lay_out", fail)
    with caplog.at_level(logging.DEBUG, logger="ironflow_nb"):
        picture = draw(chain(1), {}, **RUNNING)  # type: ignore[arg-type]
    assert picture.svg is None
    assert picture.text.startswith("chain: running")
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert parts(chain(1), {}).elements == {}


def test_without_anything_there_is_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no diagram today")

    monkeypatch.setattr(door, "with_recorded", fail)
    assert draw(chain(1), {}).text == "chain"
    assert draw(chain(1), {}, run_status=RunStatus.FAILED).text == "chain: failed"


def test_the_parts_of_a_picture_are_those_of_the_picture() -> None:
    of_steps = node_states([("left", StepStatus.RUNNING, 1, None)])
    svg = draw(looped(), of_steps, **RUNNING).svg or ""  # type: ignore[arg-type]
    found = parts(looped(), of_steps, **RUNNING)  # type: ignore[arg-type]
    assert set(found.elements) == set(Drawn.of(svg).by_id()) | {EDGES}
    assert all(element in svg for element in found.elements.values())


def test_only_the_parts_that_change_differ_while_the_frame_stays() -> None:
    before = parts(looped(), node_states([("left", StepStatus.RUNNING, 1, None)]), **RUNNING)  # type: ignore[arg-type]
    after = parts(looped(), node_states([("left", StepStatus.COMPLETED, 1, 1.0)]), **RUNNING)  # type: ignore[arg-type]
    assert before.frame == after.frame
    changed = {name for name in before.elements if before.elements[name] != after.elements[name]}
    assert changed == {"iron-head", "iron-n-left"}


def test_replacing_the_parts_makes_the_next_picture() -> None:
    earlier = node_states([("left", StepStatus.RUNNING, 1, None)])
    later = node_states([("left", StepStatus.FAILED, 1, 1.0), ("join", StepStatus.CANCELLED, 1, None)])
    svg = draw(looped(), earlier, **RUNNING).svg or ""  # type: ignore[arg-type]
    old = parts(looped(), earlier, **RUNNING)  # type: ignore[arg-type]
    new = parts(looped(), later, run_status=RunStatus.FAILED, run_id="k7x2mq9d4tzc")
    for name in old.elements:
        svg = svg.replace(old.elements[name], new.elements[name])
    final = draw(looped(), later, run_status=RunStatus.FAILED, run_id="k7x2mq9d4tzc").svg or ""
    # What is read aloud stands on the root and is not a part.
    assert svg.partition("</title>")[2] == final.partition("</title>")[2]


def test_another_diagram_has_another_frame() -> None:
    assert parts(looped(), {}).frame != parts(chain(3), {}).frame


def test_a_large_diagram_is_drawn_whole_only_on_demand() -> None:
    assert len(Drawn.of(draw(chain(200), {}).svg).by_id()) < 20
    assert len(Drawn.of(draw(chain(200), {}, max_nodes=1000).svg).by_id()) == 203
