"""Our own layout: nothing overlaps, no way touches a box, and what belongs in a row is in a row."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.diagram.geometry import Box, Link, Placement, Size, Skeleton
from ironflow_nb.diagram.layered_layout import layered
from ironflow_nb.diagram.layout_rows import arcs_of, ranks_of
from tests.diagram.drawn import along, overlap


@st.composite
def skeletons(draw: st.DrawFn, max_boxes: int = 12) -> Skeleton:
    size = st.builds(Size, st.floats(10, 240), st.floats(10, 70))
    sizes = draw(st.lists(size, min_size=1, max_size=max_boxes))
    end = st.integers(0, len(sizes) - 1)
    label = st.none() | st.builds(Size, st.floats(5, 120), st.just(14.0))
    links = draw(st.lists(st.builds(Link, end, end, label, st.booleans(), st.just(False)), max_size=2 * max_boxes))
    return Skeleton(tuple(sizes), tuple(links))


def boxes(n_boxes: int) -> tuple[Size, ...]:
    return tuple(Size(120, 40) for _ in range(n_boxes))


def label_boxes(skeleton: Skeleton, placement: Placement) -> list[Box]:
    pairs = zip(skeleton.links, placement.routes, strict=True)
    return [Box(*route.label, *link.label) for link, route in pairs if link.label and route.label]


@settings(max_examples=40)
@given(skeletons())
def test_no_boxes_overlap(skeleton: Skeleton) -> None:
    assert not [pair for pair in combinations(layered(skeleton).boxes, 2) if overlap(*pair)]


@settings(max_examples=40)
@given(skeletons())
def test_no_label_lies_on_a_box_or_on_another_label(skeleton: Skeleton) -> None:
    placement = layered(skeleton)
    assert len(label_boxes(skeleton, placement)) == sum(link.label is not None for link in skeleton.links)
    ordinary = [
        Box(*route.label, *link.label)
        for link, route in zip(skeleton.links, placement.routes, strict=True)
        if link.label and route.label and link.tail != link.head
    ]
    assert not [pair for pair in combinations(ordinary, 2) if overlap(*pair)]
    assert not [(label, box) for label in ordinary for box in placement.boxes if overlap(label, box)]


@settings(max_examples=40)
@given(skeletons())
def test_no_way_touches_a_box_that_it_does_not_join(skeleton: Skeleton) -> None:
    placement = layered(skeleton)
    for link, route in zip(skeleton.links, placement.routes, strict=True):
        others = [box for place, box in enumerate(placement.boxes) if place not in {link.tail, link.head}]
        for x, y in along(route.points):
            for box in others:
                inside = box.left + 0.1 < x < box.right - 0.1 and box.top + 0.1 < y < box.bottom - 0.1
                assert not inside, f"{link} runs through {box}"


@settings(max_examples=40)
@given(skeletons())
def test_every_way_joins_the_borders_of_its_boxes(skeleton: Skeleton) -> None:
    placement = layered(skeleton)
    for link, route in zip(skeleton.links, placement.routes, strict=True):
        assert len(route.points) % 3 == 1
        for (x, y), end in ((route.points[0], link.tail), (route.points[-1], link.head)):
            box = placement.boxes[end]
            assert box.left - 0.1 <= x <= box.right + 0.1
            assert box.top - 0.1 <= y <= box.bottom + 0.1
            is_on_border = min(abs(x - box.left), abs(x - box.right), abs(y - box.top), abs(y - box.bottom)) < 0.1
            assert is_on_border


@settings(max_examples=40)
@given(skeletons())
def test_everything_lies_within_the_size(skeleton: Skeleton) -> None:
    placement = layered(skeleton)
    for box in (*placement.boxes, *label_boxes(skeleton, placement)):
        assert box.left >= -0.01
        assert box.top >= -0.01
        assert box.right <= placement.size.width + 0.01
        assert box.bottom <= placement.size.height + 0.01
    for route in placement.routes:
        assert all(-0.01 <= x <= placement.size.width + 0.01 for x, _ in route.points)


@settings(max_examples=40)
@given(skeletons())
def test_equal_skeletons_are_placed_equally(skeleton: Skeleton) -> None:
    assert layered(skeleton) == layered(Skeleton(tuple(skeleton.sizes), tuple(skeleton.links)))


@settings(max_examples=40)
@given(skeletons())
def test_arcs_lead_down(skeleton: Skeleton) -> None:
    arcs = arcs_of(skeleton)
    ranks = ranks_of(len(skeleton.sizes), arcs)
    assert all(ranks[arc.lower] - ranks[arc.upper] >= arc.n_rows for arc in arcs)
    assert len(arcs) == sum(link.tail != link.head for link in skeleton.links)


def test_nothing_is_placed_nowhere() -> None:
    assert layered(Skeleton((), ())) == Placement(Size(0, 0), (), ())


def test_a_chain_is_one_straight_column() -> None:
    placement = layered(Skeleton(boxes(6), tuple(Link(i, i + 1) for i in range(5))))
    assert len({box.x for box in placement.boxes}) == 1
    assert [box.y for box in placement.boxes] == sorted({box.y for box in placement.boxes})
    assert all(len({x for x, _ in route.points}) == 1 for route in placement.routes)


def test_a_parent_stands_above_the_middle_of_its_children() -> None:
    placement = layered(Skeleton(boxes(4), tuple(Link(0, i) for i in (1, 2, 3))))
    parent, *children = placement.boxes
    assert parent.x == pytest.approx(sum(box.x for box in children) / 3)


def test_branches_keep_their_order_from_left_to_right() -> None:
    label = Size(20, 14)
    placement = layered(Skeleton(boxes(4), (Link(0, 1, label), Link(0, 2, label), Link(1, 3), Link(2, 3))))
    assert placement.boxes[1].x < placement.boxes[2].x


def test_a_way_back_leaves_and_enters_at_the_left_side() -> None:
    placement = layered(Skeleton(boxes(3), (Link(0, 1), Link(1, 2), Link(2, 0, is_back=True))))
    head, _, last = placement.boxes
    back = placement.routes[2]
    assert back.points[0] == pytest.approx((last.left, last.y))
    assert back.points[-1] == pytest.approx((head.left, head.y))


def test_the_way_around_something_is_one_straight_column() -> None:
    placement = layered(Skeleton(boxes(5), (*(Link(i, i + 1) for i in range(4)), Link(0, 4))))
    middle = [x for x, y in placement.routes[-1].points if placement.boxes[1].top < y < placement.boxes[3].bottom]
    assert max(middle) - min(middle) < 0.01


def test_a_circle_that_nobody_called_a_way_back_is_drawn_all_the_same() -> None:
    placement = layered(Skeleton(boxes(3), (Link(0, 1), Link(1, 2), Link(2, 0))))
    assert [box.y for box in placement.boxes] == sorted(box.y for box in placement.boxes)
    assert placement.routes[2].points[0][1] > placement.routes[2].points[-1][1]


def test_links_between_the_same_boxes_do_not_lie_on_each_other() -> None:
    placement = layered(Skeleton(boxes(2), (Link(0, 1), Link(0, 1))))
    assert set(along(placement.routes[0].points)) != set(along(placement.routes[1].points))


def test_a_hidden_link_holds_its_head_below_its_tail_and_has_no_way() -> None:
    placement = layered(Skeleton(boxes(2), (Link(0, 1, is_hidden=True),)))
    assert placement.boxes[0].bottom < placement.boxes[1].top
    assert placement.routes[0].points == ()


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["chain", "fan", "ladder", "everything to everything"])
def test_a_thousand_boxes_are_placed_without_overlap(shape: str) -> None:
    links = {
        "chain": [(i, i + 1) for i in range(999)],
        "fan": [(0, i) for i in range(1, 1000)],
        "ladder": [(i, j) for i in range(998) for j in (i + 1, i + 2)],
        "everything to everything": [(i, j) for i in range(70) for j in range(i + 1, 70)],
    }[shape]
    placement = layered(Skeleton(boxes(1000), tuple(Link(*pair) for pair in links)))
    rows: dict[float, list[Box]] = {}
    for box in placement.boxes:
        rows.setdefault(box.y, []).append(box)
    for row in rows.values():
        ordered = sorted(row)
        assert not [pair for pair in pairwise(ordered) if overlap(*pair)]


def test_ways_too_long_to_pass_through_every_row_are_drawn_straight_with_their_labels_beside_them() -> None:
    label = Size(20, 14)
    down = [Link(i, i + 1) for i in range(299)]
    far = [Link(i, 299 - i, label) for i in range(60)]
    placement = layered(Skeleton(boxes(300), (*down, *far)))
    assert all(route.points for route in placement.routes)
    assert all(route.label for route in placement.routes[299:])
    assert len(placement.routes[299].points) < 20 < len(placement.routes[299 + 59].points)


@settings(max_examples=20)
@given(skeletons(max_boxes=60))
def test_larger_skeletons_do_not_overlap_either(skeleton: Skeleton) -> None:
    assert not [pair for pair in combinations(layered(skeleton).boxes, 2) if overlap(*pair)]
