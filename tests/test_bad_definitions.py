"""What is defined with something that can't be is refused in the words of the user: what was given, what to write."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.graphs.catalog import BUILT_IN
from tests.conftest import Lab


@pytest.mark.parametrize("given", [3, None, "", ["x"], "two words", "a\nb", "graph: x\nnodes: []\n", lambda: 1])
def test_a_graph_without_a_name_is_refused(given: Any) -> None:
    with pytest.raises(iron.errors.DefinitionError, match=r'a graph has a name of letters.*iron\.Graph\("triage"\)'):
        iron.Graph(given)


@pytest.mark.parametrize("given", [3, "3", None, 0.5])
def test_a_retry_of_a_bare_number_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"does not say what .* is; write iron\.Retry\(attempts=3\)"):
        iron.Retry(given)


def test_a_decider_without_an_initial_state_is_refused() -> None:
    with pytest.raises(iron.errors.DecisionError, match=r"write iron\.Decider\('x', initial=\.\.\.\)"):
        iron.Decider("x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"initial": dict}, "must be a state, got a class"), ({"id_of": 3}, "must be the name of a field"),
        ({"id_of": None}, "must be the name of a field"), ({"terminal": 3}, "must be a list of statuses"),
    ],
)  # fmt: skip
def test_a_decider_with_an_option_that_can_not_be_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(iron.errors.DecisionError, match=match):
        iron.Decider("x", **{"initial": 0} | options)


def test_a_terminal_status_is_one_status() -> None:
    made = iron.Decider("x", initial="open", status=str, terminal="done")
    assert (made.is_terminal("done"), made.is_terminal("on")) == (True, False)


@pytest.mark.parametrize("attempts", ["3", 0, 1.5, None])
def test_an_effect_without_attempts_is_refused(attempts: Any) -> None:
    with pytest.raises(iron.errors.DecisionError, match="attempts must be an int >= 1"):
        iron.Decider("x", initial=0).perform(int, attempts=attempts)


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_a_kind_of_node_of_a_user_takes_the_place_of_none_that_graphs_have(kind: str) -> None:
    with pytest.raises(iron.errors.DefinitionError, match=rf"the package has a kind of that name.*'my_{kind}'"):
        iron.node(kind)(lambda text: text)
    assert iron.nodes().set_index("kind")["source"][kind] == "package"


@pytest.mark.parametrize("frame", [iron.runs, iron.steps, iron.attempts, iron.events])
def test_a_frame_of_a_flow_that_is_none_is_refused(lab: Lab, frame: Any) -> None:
    @step
    def work() -> int:
        return 1

    @flow
    def main() -> int:
        return work()

    main()
    assert len(frame(flow=main)) == len(frame(flow="main")) > 0
    with pytest.raises(TypeError, match=r"got step .*work.*; its attempts are the rows of iron\.attempts\(\) whose"):
        frame(flow=work)
    for other in (3, main.fn, main.last, iron.File("x"), print):
        with pytest.raises(TypeError, match="flow must be a flow, a graph, a decider or the name of one, got"):
            frame(flow=other)
