"""Graphs that are tried out with mocks."""

from __future__ import annotations

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.catalog import NODE_KINDS
from ironflow_nb.graphs.kinds import Kind, options_schema
from tests.conftest import Lab

TRIAGE = """
graph: triage
nodes:
  - id: alert
    touch: "{{ input.message }}"
    retry: {attempts: 3, delay_s: 60}
  - id: created
    condition: "{{ alert.ok }}"
    then: [{id: ack, touch: "{{ alert.id }}"}]
    else: [{id: note, python: note, with: {text: "not {{ alert.id }}"}}]
  - id: each
    loop: [1, 2]
    do: [{id: twice, python: note, with: ["{{ item }}"]}]
output: "{{ {id: alert.id, each: each[].twice} }}"
"""


@pytest.fixture(autouse=True)
def touch(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(options: object, context: object) -> object:
        raise AssertionError("a trial touched the world")

    schema = options_schema({"what": {}}, required=["what"])
    kind = Kind(name="touch", description="", schema=schema, perform=perform, shorthand="what", is_outside=True)
    monkeypatch.setitem(REGISTRY.registered[NODE_KINDS], "touch", kind)


def triage() -> iron.Graph:
    return iron.Graph.from_yaml(TRIAGE, functions={"note": lambda text: text})


def test_mocks_stand_for_what_would_touch_the_world(lab: Lab) -> None:
    asked = []

    def alert(what: str) -> dict[str, object]:
        asked.append(what)
        return {"ok": False, "id": 7}

    tried = triage().test(message="hi", mocks={"alert": alert, "ack": None})
    assert asked == ["hi"]
    assert tried.unwrap() == {"id": 7, "each": [1, 2]}
    assert tried.ran == ["alert", "note", "created", "twice", "twice", "each"]
    assert tried.outputs["note"] == "not 7"
    assert tried.outputs["twice"] == [1, 2]
    assert tried.outputs["created"] == {"taken": "else", "note": "not 7"}


def test_a_trial_leaves_nothing_behind(lab: Lab) -> None:
    triage().test(message="hi", mocks={"alert": {"ok": True, "id": 1}, "ack": "done"})
    assert len(iron.runs()) == 0


def test_a_mock_that_is_an_exception_is_raised_and_tried_again_at_once(lab: Lab) -> None:
    attempts = []

    def alert(what: str) -> None:
        attempts.append(what)
        raise iron.NodeFailed("no answer")

    tried = triage().test(message="hi", mocks={"alert": alert, "ack": None})
    assert len(attempts) == 3
    assert tried.output is None
    with pytest.raises(iron.NodeFailed, match="no answer"):
        tried.unwrap()
    failing = triage().test(message="hi", mocks={"alert": OSError("down"), "ack": None})
    assert isinstance(failing.error, OSError)
    assert failing.ran == ["alert"]


def test_a_node_that_decides_can_be_mocked_with_all_that_is_in_it(lab: Lab) -> None:
    tried = triage().test(
        message="", mocks={"alert": {"ok": 1, "id": 1}, "created": {"taken": "then"}, "each": [{"twice": 9}]}
    )
    assert tried.unwrap() == {"id": 1, "each": [9]}
    assert tried.ran == ["alert", "created", "each"]


def test_what_touches_the_world_needs_a_mock(lab: Lab) -> None:
    with pytest.raises(iron.errors.DefinitionError, match=r"alert \(touch\), ack \(touch\).*mocks=\{'alert'"):
        triage().test(message="hi")


def test_a_mock_needs_a_node(lab: Lab) -> None:
    with pytest.raises(iron.errors.DefinitionError, match=r"'allert'.*did you mean alert"):
        triage().test(message="hi", mocks={"allert": 1})
