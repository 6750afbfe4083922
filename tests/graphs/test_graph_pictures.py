"""Pictures of graphs: what they can do before any run, and what became of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.diagram.model import Diagram, NodeKind
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_picture import picture_of
from ironflow_nb.notebook.live_pictures import LiveOutput
from tests.diagram.drawn import SVG, Drawn, title

TRIAGE = """
graph: triage
nodes:
  - {id: alert, log: "{{ input.message }}", retry: {attempts: 3}}
  - id: created
    condition: "{{ input.ok }}"
    then: [{id: ack, log: a}]
    else: [{id: note, log: b}]
  - id: tell
    loop: "{{ input.teams }}"
    as: team
    do:
      - {id: sent, log: "{{ team }}"}
      - {id: again, log: "{{ team }}", when: "{{ team == 'red' }}"}
  - id: fan
    branch:
      mail: {when: "{{ input.mail }}", do: [{id: m, log: m}]}
      chat: {do: [{id: c, log: c}]}
  - {id: charge, python: charge, on_error: [{id: refund, log: "{{ error.message }}"}]}
  - {id: end, log: done, when: "{{ input.loud }}"}
"""


@pytest.fixture(autouse=True)
def own_journal(tmp_path: Path) -> object:
    with iron.open(tmp_path / "journal.db") as engine:
        yield engine


def graph(text: str, **functions: object) -> iron.Graph:
    return iron.Graph.from_yaml(text, functions=functions)  # type: ignore[arg-type]


def kinds(diagram: Diagram) -> dict[str, NodeKind]:
    return {node.id: node.kind for node in diagram.nodes}


def ways(diagram: Diagram) -> set[tuple[str, str | None, str]]:
    return {(edge.source, edge.label, edge.target) for edge in diagram.edges}


def text_of(run: Run) -> list[str]:
    return [line.strip() for line in picture_of(run._engine, run.id).text.splitlines()]


def test_every_sort_of_node_has_its_shape() -> None:
    found = kinds(graph(TRIAGE, charge=print).diagram_model())
    assert {name: found[name] for name in ("alert", "created", "tell", "sent", "again", "fan", "end")} == {
        "alert": NodeKind.STEP, "created": NodeKind.CONDITION, "tell": NodeKind.LOOP, "sent": NodeKind.MAP,
        "again": NodeKind.STEP, "fan": NodeKind.FORK, "end": NodeKind.STEP,
    }  # fmt: skip
    assert len([kind for kind in found.values() if kind in {NodeKind.START, NodeKind.END}]) == 2


def test_the_ways_are_those_that_can_be_gone() -> None:
    diagram = graph(TRIAGE, charge=print).diagram_model()
    start, *_, end = (node.id for node in diagram.nodes)
    assert ways(diagram) == {
        (start, None, "alert"), ("alert", None, "created"), ("created", "then", "ack"), ("created", "else", "note"),
        ("ack", None, "tell"), ("note", None, "tell"), ("tell", None, "sent"), ("sent", None, "again?"),
        ("again?", "yes", "again"), ("again?", "no", "tell"), ("again", None, "tell"), ("tell", "done", "fan"),
        ("fan", "mail, if input.mail", "m"), ("fan", "chat", "c"), ("m", None, "charge"), ("c", None, "charge"),
        ("charge", "on error", "refund"), ("charge", None, "end?"), ("refund", None, "end?"), ("end?", "yes", "end"),
        ("end", None, end), ("end?", "no", end),
    }  # fmt: skip
    assert [edge.target for edge in diagram.edges if edge.is_dashed] == ["refund"]
    assert {edge.source for edge in diagram.edges if edge.is_back} == {"again", "again?"}


def test_what_is_side_by_side_is_drawn_so_and_joined_in_whatever_order_it_is_written() -> None:
    diagram = graph(
        "graph: g\nnodes:\n"
        "  - {id: joined, log: j, depends_on: [a, b]}\n"
        "  - {id: a, log: a, depends_on: []}\n"
        "  - {id: b, log: b, depends_on: []}\n"
    ).diagram_model()
    start, *_, end = (node.id for node in diagram.nodes)
    assert ways(diagram) == {
        (start, None, "a"), (start, None, "b"), ("a", None, "joined"), ("b", None, "joined"), ("joined", None, end),
    }  # fmt: skip


def test_deciding_nodes_say_their_ids_and_what_they_look_at() -> None:
    labels = {node.id: node.label for node in graph(TRIAGE, charge=print).diagram_model().nodes}
    assert labels["created"] == "created: input.ok"
    assert labels["tell"] == "tell: team in input.teams"
    titles = {node.id: node.title for node in graph(TRIAGE, charge=print).diagram_model().nodes}
    assert "up to 3 attempts" in titles["alert"]
    assert titles["end?"] == "end runs when input.loud"


def test_what_was_not_taken_looks_left_out() -> None:
    made = graph(TRIAGE, charge=lambda: 1)
    made(message="hi", ok=True, teams=["red", "blue"], mail=False, loud=False)
    found = text_of(made.last)
    assert "[then] ✓ ack: completed" in found
    assert "[else] ↷ note: skipped (created took then)" in found
    assert "✓ sent (map): 2 of 2" in found
    assert "[yes] ✓ again: 1 of 2, 1 skipped (when is false)" in found
    assert "[mail, if input.mail] ↷ m: skipped (when of mail is false)" in found
    assert "[chat] ✓ c: completed" in found
    assert "[on error] ↷ refund: skipped (charge ended without it)" in found
    assert "[yes] ↷ end: skipped (when is false)" in found


def test_what_comes_after_a_failure_is_skipped_because_of_it() -> None:
    made = graph("graph: g\nnodes:\n  - {id: a, python: fail}\n  - {id: b, log: b}\n", fail=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made()
    assert text_of(made.last) == ["g: failed", "✗ a: failed", "↷ b: skipped (a failed)"]


def test_a_loop_says_how_far_it_is_while_it_runs() -> None:
    reached, go = threading.Event(), threading.Event()

    def work(n: int) -> int:
        if n == 7:
            reached.set()
            go.wait(10)
        return n

    body = "[{id: w, python: work, with: ['{{ n }}']}]"
    made = graph(f"graph: g\nnodes: [{{id: each, loop: '{{{{ range(`10`) }}}}', as: n, do: {body}}}]", work=work)
    run = made.start()
    assert reached.wait(10)
    while "1 running" not in (picture := picture_of(run._engine, run.id)).text:
        assert run.status == "running"  # that a step began is committed with the next flush
    go.set()
    run.result()
    assert "w (map): 7 of 10, 1 running" in picture.text
    shown = Drawn.of(picture.svg).by_id()[f"iron-{run.id}-n-w"]
    assert shown.get("data-status") == "running"
    around = Drawn.of(picture.svg).by_id()[f"iron-{run.id}-n-each"]
    assert around.get("data-status") == "running"


def test_a_child_shows_how_far_it_is_and_which_run_it_is() -> None:
    reached, go = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        go.wait(10)

    child = graph("graph: child\nnodes: [{id: a, log: a}, {id: b, python: hold}]", hold=hold)
    run = graph("graph: top\nnodes: [{id: sub, workflow: child}]").start()
    assert reached.wait(10)
    svg = picture_of(run._engine, run.id).svg or ""
    go.set()
    run.result()
    assert f"run {child.last.id}: running, 1 step done" in svg
    assert ">1 step done</text>" in svg
    assert f"run {child.last.id}: completed, 2 steps done" in (picture_of(run._engine, run.id).svg or "")


def test_a_followed_picture_is_drawn_again_when_only_a_child_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        "ironflow_nb.notebook.live_pictures.update", lambda _, bundle: shown.append(bundle["image/svg+xml"])
    )
    steps = [threading.Event() for _ in range(2)]
    reached = [threading.Event() for _ in range(2)]

    def hold(n: int) -> None:
        reached[n].set()
        steps[n].wait(10)

    graph("graph: child\nnodes: [{id: a, python: hold, with: [0]}, {id: b, python: hold, with: [1]}]", hold=hold)
    run = graph("graph: top\nnodes: [{id: sub, workflow: child}]").start()
    assert reached[0].wait(10)
    following = LiveOutput(run._engine, "here")
    following._run_id = run.id
    following.paint()
    following.paint()
    assert len(shown) == 1
    steps[0].set()
    assert reached[1].wait(10)
    following.paint()
    steps[1].set()
    run.result()
    assert len(shown) == 2
    assert "running, 1 step done" in shown[1]


def test_a_graph_is_told_in_mermaid() -> None:
    text = graph(TRIAGE, charge=print).to_mermaid()
    assert text.startswith("flowchart TD")
    assert '[/"fan"/]' in text
    assert '-.->|"on error"|' in text


def test_a_loop_that_failed_keeps_its_total() -> None:
    def work(n: int) -> int:
        return n if n < 7 else n // 0

    body = "[{id: w, python: work, with: ['{{ n }}']}]"
    made = graph(f"graph: g\nnodes: [{{id: each, loop: '{{{{ range(`10`) }}}}', as: n, do: {body}}}]", work=work)
    with pytest.raises(ZeroDivisionError):
        made()
    assert "w (map): 7 of 10, 1 failed" in picture_of(made.last._engine, made.last.id).text


def ways_taken(run: Run) -> set[str]:
    """Return the ways that are marked, as the labels of their ends."""
    picture = Drawn.of(picture_of(run._engine, run.id).svg).root
    marked = [group for group in picture.iter() if group.get("data-taken") == "true"]
    return {title(label) for group in marked for label in group.findall(f"{SVG}g")}


def test_the_ways_that_a_run_of_a_graph_took_are_marked() -> None:
    made = graph(TRIAGE, charge=lambda: 1)
    made(message="hi", ok=True, teams=["red"], mail=False, loud=False)
    assert ways_taken(made.last) == {"then", "yes", "done", "chat", "no"}
    made.options(fresh=True)(message="hi", ok=False, teams=["blue"], mail=True, loud=True)
    assert ways_taken(made.last) == {"else", "no", "done", "mail, if input.mail", "chat", "yes"}


def test_a_failure_that_is_handled_took_the_way_to_its_handler() -> None:
    made = graph(TRIAGE, charge=lambda: 1 / 0)
    made(message="hi", ok=True, teams=[], mail=False, loud=False)
    assert "on error" in ways_taken(made.last)


def test_a_condition_says_that_it_led_to_the_end_only_where_it_may_have() -> None:
    made = graph(TRIAGE, charge=lambda: 1)
    assert "(no: end)" in made.diagram().text
    made(message="hi", ok=True, teams=["red"], mail=False, loud=True)
    assert "end)" not in picture_of(made.last._engine, made.last.id).text
    made.options(fresh=True)(message="hi", ok=True, teams=["red"], mail=False, loud=False)
    assert "(no: end)" in picture_of(made.last._engine, made.last.id).text
