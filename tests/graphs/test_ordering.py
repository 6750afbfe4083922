"""The order of nodes: circles, and what has ended before what, against a search that is plainly right."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.compiled_graph import ended_masks, find_cycle

Graphs = list[tuple[int, ...]]


@st.composite
def acyclic(draw: st.DrawFn) -> Graphs:
    size = draw(st.integers(0, 12))
    order = draw(st.permutations(range(size)))
    place = {number: at for at, number in enumerate(order)}
    after: Graphs = []
    for number in range(size):
        before = [each for each in range(size) if place[each] < place[number]]
        after.append(tuple(sorted(draw(st.sets(st.sampled_from(before))) if before else ())))
    return after


any_graph = st.integers(1, 8).flatmap(
    lambda size: st.lists(
        st.sets(st.integers(0, size - 1)).map(lambda waits: tuple(sorted(waits))), min_size=size, max_size=size
    )
)


def ancestors(after: Graphs, number: int) -> set[int]:
    found: set[int] = set()
    left = list(after[number])
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            left += after[each]
    return found


@given(acyclic())
def test_without_a_circle_every_node_knows_all_that_went_before(after: Graphs) -> None:
    assert find_cycle(after) is None
    for number, mask in enumerate(ended_masks(after)):
        assert {each for each in range(len(after)) if mask >> each & 1} == ancestors(after, number)


@given(any_graph)
def test_a_circle_is_found_where_there_is_one_and_is_one(after: Graphs) -> None:
    circle = find_cycle(after)
    has_circle = any(number in ancestors(after, number) for number in range(len(after)))
    assert (circle is not None) == has_circle
    if circle is not None:
        assert circle[0] == circle[-1]
        assert all(following in after[number] for number, following in pairwise(circle))


def test_a_chain_of_100_000_is_no_trouble() -> None:
    chain: Graphs = [(number - 1,) if number else () for number in range(100_000)]
    assert find_cycle(chain[:50_000]) is None
    assert find_cycle([(49_999,), *chain[1:50_000]]) is not None
