"""The SVG of a diagram, read as XML."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.diagram.draw import draw
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.palette import run_look, step_look
from ironflow_nb.diagram.states import NodeState, node_states
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.diagram.svg_shapes import number
from tests.diagram.drawn import SVG, Drawn, chain, diagrams, fan, looped, node, numbers, states, title, words

ALLOWED = {"svg", "g", "path", "rect", "circle", "text", "title"}


def of(status: StepStatus, n_steps: int = 1) -> dict[str, NodeState]:
    return node_states([("s0", status, 1, 1.0)] * n_steps)


def drawn(diagram: Diagram, of_steps: dict[str, NodeState] | None = None, **options: object) -> Drawn:
    return Drawn.of(draw(diagram, of_steps or {}, **options).svg)  # type: ignore[arg-type]


@settings(max_examples=40)
@given(diagrams(max_nodes=8), states())
def test_any_diagram_with_any_labels_is_well_formed(diagram: Diagram, of_steps: dict[str, NodeState]) -> None:
    picture = drawn(diagram, of_steps, run_status=RunStatus.RUNNING, run_id="k7x2")
    ids = picture.by_id()
    assert all(element_id(node.id) in ids for node in diagram.nodes)


def test_a_picture_stands_alone() -> None:
    picture = drawn(looped(), of(StepStatus.RUNNING), run_status=RunStatus.RUNNING)
    for element in picture.root.iter():
        assert element.tag.removeprefix(SVG) in ALLOWED
        assert not [name for name in element.attrib if name.startswith("on") or "href" in name or name == "style"]
        assert not [value for value in element.attrib.values() if "url(" in value or "http" in value]


def test_a_picture_has_a_size_and_is_read_aloud() -> None:
    picture = drawn(chain(1), of(StepStatus.FAILED), run_status=RunStatus.FAILED, run_id="k7x2mq9d4tzc")
    width, height = picture.size()
    assert numbers(picture.root.attrib["viewBox"]) == [0, 0, width, height]
    assert picture.root.get("role") == "img"
    assert picture.root.get("aria-label") == "chain: failed, 0 steps done, 1 failed"
    assert drawn(chain(1)).root.get("aria-label") == "chain: not run"


@pytest.mark.parametrize("status", StepStatus)
def test_a_node_shows_its_status_by_word_colour_and_title(status: StepStatus) -> None:
    group = drawn(chain(1), of(status)).group("s0")
    assert group.get("data-status") == status
    assert {step_look(status).fill, step_look(status).stroke} <= {path.get("fill") for path in group.iter()} | {
        path.get("stroke") for path in group.iter()
    }
    assert step_look(status).mark in {path.get("d") for path in group.iter(f"{SVG}path")}
    assert title(group).startswith("s0: ")


def test_a_node_that_was_not_reached_has_no_status() -> None:
    group = drawn(chain(1)).group("s0")
    assert group.get("data-status") == "none"
    assert title(group) == "s0"
    assert words(group) == ["s0"]


@pytest.mark.parametrize("status", RunStatus)
def test_the_run_shows_its_status_above(status: RunStatus) -> None:
    head = drawn(chain(1), run_status=status, run_id="k7x2mq9d4tzc").by_id()["iron-head"]
    assert head.get("data-status") == status
    assert words(head)[:3] == [status, "chain", "k7x2mq"]
    assert run_look(status).fill in {path.get("fill") for path in head.iter(f"{SVG}path")}


@pytest.mark.parametrize(
    ("status", "shown"), [(RunStatus.COMPLETED, "completed"), (RunStatus.FAILED, "failed"), (RunStatus.RUNNING, "none")]
)
def test_the_end_shows_how_the_run_ended(status: RunStatus, shown: str) -> None:
    assert drawn(chain(1), run_status=status).group("end").get("data-status") == shown


def test_a_flow_that_has_not_run_shows_its_name_only() -> None:
    assert words(drawn(chain(1)).by_id()["iron-head"]) == ["chain"]


def test_every_kind_has_an_outline_of_its_own() -> None:
    nodes = tuple(Node(id=kind, kind=kind, label="label") for kind in NodeKind)
    picture = drawn(Diagram("kinds", nodes))
    shapes = {
        kind: tuple(
            "".join(letter for letter in path.get("d", "") if letter.isalpha()) + str(path.get("stroke-dasharray"))
            for path in picture.group(kind).iter(f"{SVG}path")
        )
        for kind in NodeKind
    }
    alike = [{one, other} for one, other in combinations(NodeKind, 2) if shapes[one] == shapes[other]]
    # All these are rectangles, told apart by their size and corners.
    rounded = {NodeKind.START, NodeKind.END, NodeKind.STEP, NodeKind.WAIT, NodeKind.INITIAL, NodeKind.STATE}
    assert all(pair <= rounded for pair in alike)
    rectangles = (NodeKind.START, NodeKind.STEP, NodeKind.WAIT)
    assert len({next(picture.group(kind).iter(f"{SVG}path")).get("d") for kind in rectangles}) == 3


def test_a_node_that_is_being_worked_on_glows() -> None:
    def n_outlines(status: StepStatus) -> int:
        return len([path for path in drawn(chain(1), of(status)).group("s0").iter() if path.get("stroke-opacity")])

    assert n_outlines(StepStatus.RUNNING) == n_outlines(StepStatus.RETRYING) == 1
    assert n_outlines(StepStatus.COMPLETED) == n_outlines(StepStatus.FAILED) == 0


def test_a_map_has_a_bar_as_long_as_what_is_done() -> None:
    records = [("s0", StepStatus.COMPLETED, 1, None)] * 60 + [("s0", StepStatus.FAILED, 1, None)] * 10
    group = drawn(chain(1, NodeKind.MAP), node_states(records, n_expected={"s0": 100})).group("s0")
    track, *parts = group.iter(f"{SVG}rect")
    lengths = {part.get("data-part"): float(part.attrib["width"]) / float(track.attrib["width"]) for part in parts}
    assert lengths == {"completed": pytest.approx(0.6, abs=0.01), "failed": pytest.approx(0.1, abs=0.01)}
    assert words(group) == ["s0", "60 of 100, 10 failed"]


def test_what_a_continuation_reused_has_a_part_of_the_bar_of_its_own() -> None:
    states = node_states([("s0", StepStatus.COMPLETED, 60, None)], n_expected={"s0": 100})
    states = {"s0": replace(states["s0"], n_before=20, before="reused")}
    track, *parts = drawn(chain(1, NodeKind.MAP), states).group("s0").iter(f"{SVG}rect")
    lengths = {part.get("data-part"): float(part.attrib["width"]) / float(track.attrib["width"]) for part in parts}
    assert lengths == {"reused": pytest.approx(0.2, abs=0.01), "completed": pytest.approx(0.4, abs=0.01)}


def test_a_label_that_is_too_long_is_clipped_and_its_title_has_all_of_it() -> None:
    label = "a very long name of a step that nobody would want to see in full " * 3
    group = drawn(Diagram("d", (Node(id="a", kind=NodeKind.STEP, label=label, step="s0"),))).group("a")
    [shown] = words(group)
    assert shown.endswith("…")
    assert title(group) == label.strip()


def test_a_label_of_an_edge_that_is_too_long_is_clipped_and_its_title_has_all_of_it() -> None:
    edge = Edge(source="a", target="b", label="except (" + "ValueError, " * 20 + ")")
    picture = drawn(Diagram("d", (node("a"), node("b")), (edge,)))
    [group] = [element for element in picture.root.iter(f"{SVG}g") if title(element) == edge.label]
    assert words(group)[0].endswith("…")


def test_a_dashed_edge_is_dashed() -> None:
    plain = Diagram("d", (node("a"), node("b")), (Edge(source="a", target="b"),))
    dashed = Diagram("d", plain.nodes, (Edge(source="a", target="b", is_dashed=True),))
    n_dashed = [sum("stroke-dasharray" in e.attrib for e in drawn(diagram).root.iter()) for diagram in (plain, dashed)]
    assert n_dashed == [0, 1]


def test_ids_begin_with_the_prefix_and_are_unlike_whatever_the_node_is_called() -> None:
    ids = ["a", "a.b", "a b", "a_b", "a-b", '"', "ä", "a_2e_b"]
    picture = drawn(Diagram("d", tuple(node(node_id) for node_id in ids)), prefix="cell 7")
    assert len(picture.by_id()) == len(ids) + 1
    assert all(name.startswith("cell_20_7-") for name in picture.by_id())


def test_no_state_changes_the_size_of_a_picture() -> None:
    idle = drawn(looped(), run_status=RunStatus.PENDING, run_id="k7x2")
    busy = drawn(
        looped(),
        node_states([(name, StepStatus.INTERRUPTED, 1, 1e6) for name in ("left", "right", "join")]),
        run_status=RunStatus.INTERRUPTED,
        run_id="k7x2",
    )
    assert idle.size() == busy.size()


def test_a_frame_stands_around_a_wide_fan() -> None:
    assert len([path for path in drawn(fan(30)).root.iter(f"{SVG}path") if path.get("fill-opacity")]) == 1


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (-0.04, "-0"), (12345.67, "12345.7"), (123456.7, "123457")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert float(number(value)) == float(text)
