"""Wide fans in a frame."""

from __future__ import annotations

from itertools import combinations

import pytest

from ironflow_nb.diagram.collapse import MAX_WIDTH
from ironflow_nb.diagram.model import Diagram, Edge, NodeKind
from tests.diagram.drawn import chain, fan, laid_out, looped, overlap


@pytest.mark.parametrize("n_nodes", [30, 31, 100])
def test_a_wide_fan_stands_in_rows_within_one_frame(n_nodes: int) -> None:
    layout = laid_out(fan(n_nodes, NodeKind.MAP))
    [frame] = layout.frames
    inner = [layout.boxes[f"s{i}"] for i in range(n_nodes)]
    assert all(frame.left < box.left and box.right < frame.right for box in inner)
    assert all(frame.top < box.top and box.bottom < frame.bottom for box in inner)
    assert not [pair for pair in combinations(inner, 2) if overlap(*pair)]
    assert layout.size.width < MAX_WIDTH + 100


def test_the_nodes_of_a_frame_stand_in_the_order_of_the_source() -> None:
    boxes = laid_out(fan(30, NodeKind.MAP)).boxes
    places = [(boxes[f"s{i}"].y, boxes[f"s{i}"].x) for i in range(30)]
    assert places == sorted(places)


def test_one_edge_enters_a_frame_and_one_leaves_it() -> None:
    diagram = fan(30)
    layout = laid_out(diagram)
    drawn = [edge for edge, route in zip(diagram.edges, layout.routes, strict=True) if route.points]
    assert [(edge.source, edge.target) for edge in drawn] == [("start", "s0"), ("s0", "end")]


def test_a_narrow_fan_a_chain_and_a_loop_have_no_frame() -> None:
    assert not laid_out(fan(3)).frames
    assert not laid_out(chain(50)).frames
    assert not laid_out(looped()).frames


def test_a_fan_whose_edges_say_something_is_not_folded() -> None:
    diagram = fan(30)
    told = tuple(Edge(source=edge.source, target=edge.target, label="case") for edge in diagram.edges)
    assert not laid_out(Diagram("told", diagram.nodes, told)).frames


def test_many_nodes_that_nothing_follows_are_a_fan() -> None:
    diagram = fan(30)
    leaves = Diagram("leaves", diagram.nodes[:-1], tuple(edge for edge in diagram.edges if edge.target != "end"))
    assert len(laid_out(leaves).frames) == 1
