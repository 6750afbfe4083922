"""Calls of a definition are found again in a later one."""

from __future__ import annotations

from ironflow_nb.diagram.model import Diagram, Node, NodeKind, decode_diagram, encode_diagram
from ironflow_nb.diagram.run_path import NodeSites, call_number, renumbered_calls


def calls(*texts: str) -> Diagram:
    """Return a diagram of calls like ``a(1)``; their numbers are their places."""
    nodes = (
        Node(id=f"n{n}", kind=NodeKind.STEP, label=text[0], step=text[0], site=str(n), title=f"{text}\nline {7 * n}")
        for n, text in enumerate(texts)
    )
    return Diagram("main", tuple(nodes))


def test_a_site_of_an_older_diagram_is_a_number() -> None:
    text = encode_diagram(calls("a(1)")).replace('"site":"0"', '"site":0')
    assert '"site":0' in text
    assert decode_diagram(text) == calls("a(1)")


def test_a_call_in_a_helper_that_is_not_drawn_is_shown_where_most_of_its_way_is_drawn() -> None:
    nodes = [Node(id=each, kind=NodeKind.STEP, label="a", step="a", site=each) for each in ("1.0", "1.2", "3.0.4", "7")]
    shown = {"1.2": "a@1.2", "1.9.2": "a@1.2", "3.0.5.6": "a@3.0.4", "3.1": "a@3.0.4", "8": "a"}
    sites = NodeSites(Diagram("main", tuple(nodes)), {("a", site) for site in shown})
    assert {site: sites.key("a", site) for site in shown} == shown
    assert len(sites.exact()) == 4


def test_nodes_that_a_call_can_not_be_told_apart_by_show_the_same() -> None:
    nodes = [Node(id=each, kind=NodeKind.STEP, label="a", step="a", site=each) for each in ("1.0", "1.2", "3.0", "3.1")]
    sites = NodeSites(Diagram("main", tuple(nodes)), {("a", "1.0"), ("a", "1.7"), ("a", "3.0")})
    assert [sites.key("a", site) for site in ("1.0", "1.7", "1.2", "3.0")] == ["a@1.0", "a@1.0", "a@1.0", "a@3.0"]
    assert [node.step for node in sites.diagram().nodes] == ["a@1.0", "a@1.0", "a@3.0", "a@3.1"]
    assert sites.exact().keys() == {"3.0", "3.1"}


def test_calls_move_along_with_what_is_written_before_them() -> None:
    assert renumbered_calls(calls("a(1)", "a(2)", "b(3)"), calls("b(0)", "a(1)", "a(2)", "b(3)")) == {
        "0": "1",
        "1": "2",
        "2": "3",
    }


def test_a_call_with_other_arguments_in_its_old_place_is_the_same_call() -> None:
    assert renumbered_calls(calls("a(1)", "a(2)", "a(3)"), calls("a(1)", "a(20)", "a(3)")) == {
        "0": "0",
        "1": "1",
        "2": "2",
    }


def test_a_call_that_is_gone_has_no_number() -> None:
    assert renumbered_calls(calls("a(1)", "b(2)", "a(3)"), calls("a(1)", "a(3)")) == {"0": "0", "2": "1"}


def test_a_call_site_is_a_definition_and_a_number() -> None:
    moves = {"new": None, "old": {"3": "5"}}
    assert call_number("new:4", moves) == "4"
    assert call_number("old:3", moves) == "5"
    assert [call_number(site, moves) for site in ("old:4", "lost:1", "", "new:x", ":")] == [None] * 5


def test_a_step_of_an_unknown_site_is_shown_where_its_only_call_is() -> None:
    sites = NodeSites(calls("a(1)", "b(2)", "b(3)"), {("a", None), ("b", None), ("b", "1"), ("c", "4")})
    assert [sites.key("a", None), sites.key("b", "1")] == ["a", "b@1"]
    assert [sites.key("b", None), sites.key("c", "4")] == ["b", "c"]
    assert [node.step for node in sites.diagram().nodes] == ["a", "b@1", "b@2"]
    assert sites.exact() == {}
