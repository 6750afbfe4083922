"""Ways that were certainly gone are marked, and no others."""

from __future__ import annotations

from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind
from ironflow_nb.diagram.run_path import with_taken

KINDS = {"s": NodeKind.START, "c": NodeKind.CONDITION, "l": NodeKind.LOOP, "e": NodeKind.END}


def drawn(*ways: str) -> Diagram:
    """Return a diagram of ways like ``c0>a``; ``<`` leads back. What a node is tells its first letter."""
    nodes: dict[str, Node] = {}
    edges = []
    for way in ways:
        source, is_back, target = way.partition("<") if "<" in way else way.partition(">")
        for name in (source, target):
            nodes.setdefault(name, Node(id=name, kind=KINDS.get(name[0], NodeKind.STEP), label=name, step=name))
        edges.append(Edge(source=source, target=target, is_back=is_back == "<"))
    return Diagram("main", tuple(nodes.values()), tuple(edges))


def taken(diagram: Diagram, called: str, *, uncertain: str = "", is_completed: bool = True) -> set[str]:
    found = with_taken(diagram, set(called), set(called), uncertain=set(uncertain), is_completed=is_completed)
    return {f"{edge.source}{edge.target}" for edge in found.edges if edge.is_taken}


IF = drawn("s>c", "c>a", "c>b", "a>d", "b>d", "d>e")
PASSED = drawn("s>c", "c>a", "a>d", "c>d", "d>e")
LOOP = drawn("s>l", "l>c", "c>a", "c>b", "a>b", "b<l", "l>e")


def test_the_branch_whose_step_was_called_was_taken() -> None:
    assert taken(IF, "ad") == {"sc", "ca", "ad", "de"}
    assert taken(IF, "bd") == {"sc", "cb", "bd", "de"}


def test_what_was_passed_by_was_not_taken() -> None:
    assert taken(PASSED, "d") == {"sc", "cd", "de"}
    assert taken(PASSED, "ad") == {"sc", "ca", "ad", "de"}


def test_a_run_that_goes_on_has_gone_no_further_than_its_last_call() -> None:
    assert taken(IF, "a", is_completed=False) == {"sc", "ca"}
    assert taken(IF, "", is_completed=False) == set()


def test_in_a_loop_a_condition_may_have_led_both_ways() -> None:
    assert taken(LOOP, "ab") == {"sl", "lc", "ca", "ab", "bl", "le"}
    assert taken(LOOP, "b") == {"sl", "lc", "cb", "bl", "le"}


def test_what_is_uncertain_marks_nothing() -> None:
    assert taken(IF, "d", uncertain="ab") == {"de"}


def test_the_only_way_to_what_was_called_was_taken() -> None:
    """As where two branches of one gather run the same helper, which is drawn once."""
    assert taken(IF, "abd") == {"sc", "ca", "cb", "ad", "bd", "de"}
