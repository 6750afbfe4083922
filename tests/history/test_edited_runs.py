"""Edits: results given by hand and taken back, of runs that have ended, wait, or go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.ports import Select
from tests.cells import run_cell
from tests.conftest import Lab
from tests.contracts.histories import folded

LIMIT_S = 60
calls: list[Any] = []
deaths: list[Callable[[], NoReturn]] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def done() -> list[Any]:
    """Return what bodies were called since this was asked last."""
    found = [*calls]
    calls.clear()
    return found


def wait_until(holds: Callable[[], object]) -> None:
    for _ in range(LIMIT_S * 100):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not come to that")


def require_rows_of_events(run: Run[Any]) -> None:
    """The rows in the journal are what the events fold to."""
    with REGISTRY.engine().reading() as reader:
        state = folded(reader.events(Select(run_ids=[run.id])), run.id)
        assert reader.runs(Select(run_ids=[run.id])) == [state.run]
        assert {(row.step, row.attempt): row for row in reader.steps(Select(run_ids=[run.id]))} == state.steps


@step
def fetch(n: int) -> int:
    calls.append(f"fetch {n}")
    if n == 13:
        raise OSError("no such page")
    return n * 2


@step
def total(numbers: list[int]) -> int:
    calls.append(f"total {numbers}")
    return sum(numbers)


@step
def tell(what: str) -> str:
    calls.append(f"tell {what}")
    return what.upper()


@flow
def mapped(pages: list[int]) -> int:
    numbers = list(fetch.map(pages, concurrency=2))
    tell("always the same")
    return total(numbers)


@flow
async def awaited(pages: list[int]) -> int:
    numbers = await fetch.map(pages, concurrency=2)
    tell("always the same")
    return total(list(numbers))


def ran(any_flow: Any, *arguments: Any) -> Any:
    """Run the flow to its end, which may be a failure, and return its run."""
    run = any_flow.start(*arguments).wait(LIMIT_S)
    done()
    return run


@pytest.mark.parametrize("any_flow", [mapped, awaited], ids=["def", "async def"])
def test_an_item_of_a_map_that_is_given_a_result_runs_only_again_what_depends_on_it(lab: Lab, any_flow: Any) -> None:
    run = ran(any_flow, [1, 2, 3])
    assert run.result() == 12
    assert run.inject("fetch[1]", 100, reason="page 2 was empty") is run
    assert (run.status, run.value("fetch[1]"), run.value("total")) == ("completed", 100, 12)
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == 108
    assert done() == ["total [2, 100, 6]"]
    require_rows_of_events(run)
    assert [run.at(version).value("fetch[1]") for version in (-1, run.at().version)] == [100, 100]


def test_an_edit_is_an_event_with_who_why_the_old_result_and_the_new_one(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    old = run.attempts().set_index("step")
    run.inject("fetch[1]", 100, reason="page 2 was empty")
    edit = run.events().iloc[-1]
    assert (edit["type"], edit["step"].rpartition(".")[2], edit["attempt"]) == ("OutputInjected", "fetch[1]", 2)
    assert edit["data"]["reason"] == "page 2 was empty"
    assert lab.engine.owner in edit["data"]["edited_by"]
    assert edit["data"]["old"] != edit["data"]["output"]
    assert len(old) == 4
    assert "given by hand by" in str(run.explain("fetch[1]"))
    assert "page 2 was empty" in str(run.explain("fetch[1]"))
    attempts = run.attempts()
    assert attempts[attempts["reason"] == "injected"]["output"].tolist() == ["100"]
    run.undo(reason="it was not")
    assert run.events().iloc[-1]["data"]["reason"] == "it was not"
    assert run.events().iloc[-1]["data"]["output"] == edit["data"]["output"]
    with pytest.raises(iron.errors.NothingToDo, match="no result that was given by hand"):
        run.undo()


def test_undo_takes_edits_back_one_by_one_and_nothing_runs_again(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    before = run.at()
    for value in (100, 200):
        run.inject("fetch[1]", value, reason="a try")
    run.inject("tell", "quiet", reason="a try")
    assert [run.value("fetch[1]"), run.value(tell)] == [200, "quiet"]
    run.undo()
    assert [run.value("fetch[1]"), run.value(tell)] == [200, "ALWAYS THE SAME"]
    run.undo()
    assert run.value("fetch[1]") == 100
    run.undo()
    assert run.at().steps().equals(before.steps())
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == 6
    assert done() == []
    require_rows_of_events(run)


def test_a_failed_step_that_is_given_a_result_lets_the_run_go_on(lab: Lab) -> None:
    run = ran(mapped, [1, 13])
    assert run.status == "failed"
    run.inject("fetch[1]", 0, reason="there is no page 13")
    assert run.status == "failed"
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == 2
    assert done() == ["tell always the same", "total [2, 0]"]
    require_rows_of_events(run)


def test_a_given_result_stays_when_the_code_of_its_step_is_edited(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell("@iron.step\ndef work():\n    return 'old'\n@iron.flow\ndef main():\n    return work()", space)
    assert space["main"]() == "old"
    run = space["main"].last
    run.inject("work", "by hand", reason="better")
    lab.cell()
    run_cell("@iron.step\ndef work():\n    return 'edited'", space)
    assert space["main"]() == "by hand"  # the run, which was completed, goes on with the edit
    assert space["main"].last.id == run.id
    run.undo()
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == "edited"


def test_a_step_without_a_known_outcome_is_settled_by_a_result(lab: Lab) -> None:
    @step(once=True)
    def pay() -> str:
        calls.append("pay")
        deaths[0]()

    @flow
    def main() -> str:
        return pay()

    deaths[:] = [lab.die_in_flow]
    with pytest.raises(SystemExit):
        main()
    assert done() == ["pay"]
    run = main.last
    assert run is not None
    run.inject(pay, "paid, says the bank", reason="looked")
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == "paid, says the bank"
    assert done() == []
    require_rows_of_events(run)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_question_that_waits_is_answered_by_a_result(lab: Lab, *, is_async: bool) -> None:
    @flow
    def plain() -> str:
        return f"{total([1, 2])} {iron.approve('Publish?')}"

    @flow
    async def awaiting() -> str:
        return f"{total([1, 2])} {await iron.aio.approve('Publish?')}"

    run: Any = (awaiting if is_async else plain).start()
    wait_until(lambda: run.status == "waiting")
    done()
    run.inject("iron.approve", False, reason="nobody is here")
    assert run.result(timeout_s=LIMIT_S) == "3 False"
    assert done() == []
    assert iron.waiting().empty
    require_rows_of_events(run)


def test_a_run_that_goes_on_is_paused_edited_and_continued(lab: Lab) -> None:
    gate.clear()

    @step
    def slow() -> str:
        calls.append("slow")
        assert gate.wait(LIMIT_S)
        return "slow"

    @flow
    def main() -> str:
        first = tell("first")
        slow()
        return f"{first} {tell('last')}"

    run = main.start()
    wait_until(lambda: "slow" in calls)
    with pytest.raises(iron.errors.NothingToDo, match=r"slow\[0\] of run .* is running, and can't be given a result"):
        run.inject(slow, "no", reason="too early")
    editing = threading.Thread(target=lambda: run.inject("tell[0]", "BY HAND", reason="meanwhile"))
    editing.start()
    wait_until(lambda: run._session is not None and run._session.stop_request is not None)
    gate.set()
    editing.join(LIMIT_S)
    assert run.result(timeout_s=LIMIT_S) == "BY HAND LAST"
    assert calls.count("slow") == 1
    require_rows_of_events(run)


def test_a_result_in_a_child_runs_the_child_and_what_depends_on_it_again(lab: Lab) -> None:
    @flow
    def inner(n: int) -> int:
        return total([fetch(n), fetch(n + 1)])

    @flow
    def middle(n: int) -> int:
        return inner(n) + 1000

    @flow
    def outer() -> str:
        found = [middle(1), middle(5)]
        tell("always the same")
        return tell(str(found))

    run = ran(outer)
    assert run.result() == "[1006, 1022]"
    children = iron.runs("inner").sort_values("started_at")
    child = iron.get_run(children["run_id"].iloc[0])
    child.inject("fetch[0]", 100, reason="better")
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == "[1104, 1022]"
    assert done() == ["total [100, 4]", "tell [1104, 1022]"]
    assert child.result() == 104
    for each in (run, child, iron.get_run(iron.runs("middle")["run_id"].iloc[-1])):
        require_rows_of_events(each)
    child.undo()
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == "[1006, 1022]"
    assert done() == []


def test_a_node_of_a_graph_is_given_a_result(lab: Lab) -> None:
    graph = iron.Graph.from_yaml("""
graph: triage
nodes:
  - id: doubled
    transform: "{{ {n: input.n} }}"
  - id: told
    transform: "{{ {m: doubled.n} }}"
output: "{{ told.m }}"
""")
    assert graph(n=2) == 2
    run = graph.last
    assert run is not None
    run.inject("doubled", {"n": 5}, reason="better")
    run.resume()
    assert run.result(timeout_s=LIMIT_S) == 5
    require_rows_of_events(run)


def test_a_result_of_another_type_is_allowed_and_said(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ironflow_nb")
    run = ran(mapped, [1])
    run.inject("tell", ["a", "list"], reason="to see")
    assert "tell[0] was str and is list now" in caplog.text
    assert run.value(tell) == ["a", "list"]


def test_edits_that_can_not_be_are_refused_and_leave_nothing(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    n_events = len(run.events())
    with pytest.raises(iron.errors.AmbiguousStep, match="2 steps"):
        run.inject(fetch, 1, reason="x")
    with pytest.raises(iron.errors.StepNotFound, match=r"no step 'fetch.7.'"):
        run.inject("fetch[7]", 1, reason="x")
    with pytest.raises(iron.errors.ValueNotStorable):
        run.inject(tell, threading.Lock(), reason="x")
    with pytest.raises(ValueError, match="reason is a text"):
        run.inject(tell, "x", reason=None)  # type: ignore[arg-type]
    with pytest.raises(iron.errors.NothingToDo, match="given by hand"):
        run.undo()
    assert len(run.events()) == n_events

    @step
    def inside() -> None:
        run.inject(tell, "x", reason="x")

    @flow
    def main() -> None:
        inside()

    with pytest.raises(iron.errors.NotAllowedInStep, match="edited from outside"):
        main()
    waiting: Any = flow(lambda: iron.approve("?"), name="waiting").start()
    wait_until(lambda: waiting.status == "waiting")
    waiting.cancel().wait(LIMIT_S)
    with pytest.raises(iron.errors.RunFinished, match="was cancelled"):
        waiting.inject("iron.approve", True, reason="x")
    assert len(run.events()) == n_events


def test_an_awaited_flow_can_be_edited_from_another_cell(lab: Lab) -> None:
    async def cell() -> int:
        return await awaited([1, 2])

    assert asyncio.run(cell()) == 6
    run = awaited.last
    assert run is not None
    done()
    run.inject("fetch[0]", 10, reason="x")
    lab.cell()
    assert asyncio.run(cell()) == 14
    assert done() == ["total [10, 4]"]


def test_a_plan_says_first_what_would_run_again_because_of_a_result(lab: Lab) -> None:
    @step(once=True)
    def send(text: str) -> str:
        calls.append(f"send {text}")
        return text

    @step
    def double(number: int) -> int:
        return number * 2

    @flow
    def main() -> int:
        numbers = [fetch(n) for n in (1, 2)]
        found = double(total(numbers))
        send("fixed text")
        tell("always the same")
        return found

    run = ran(main)
    plan = run.plan(inject={"fetch[1]": 100})
    by_name = {row["name"].rpartition(".")[2] + str(row["index"]): row for _, row in plan.iterrows()}
    assert {key: row["action"] for key, row in by_name.items()} == {
        "fetch0": "reuse", "fetch1": "reuse", "total0": "redo", "double0": "redo", "send0": "reuse", "tell0": "reuse",
    }  # fmt: skip
    assert by_name["fetch1"]["reason"] == "given by hand: 4 -> 100"
    assert by_name["total0"]["reason"].startswith("its argument `numbers` has the result of")
    assert by_name["send0"]["reason"] == "runs once; it is not done again"
    assert "2 done again" in plan.headline
    assert run.value("fetch[1]") == 4
    assert (run.plan(inject={"fetch[1]": 4})["action"] == "reuse").all()
    with pytest.raises(iron.errors.StepNotFound):
        run.plan(inject={"nothing": 1})
    run.inject("fetch[1]", 100, reason="x")
    assert run.plan().set_index("step")["reason"].tolist().count("given by hand") == 1
    assert run.resume().result(timeout_s=LIMIT_S) == 204
    assert done() == ["total [2, 100]"]


def test_a_plan_shows_how_a_step_failed_beside_what_it_would_give(lab: Lab) -> None:
    @step
    def broken() -> int:
        raise ConnectionError("the host is gone")

    @flow
    def main() -> int:
        return broken()

    with pytest.raises(ConnectionError):
        main()
    assert main.last is not None
    [reason] = main.last.plan(inject={"broken": 3})["reason"]
    assert reason == "given by hand: ConnectionError: the host is gone -> 3"


def test_edits_of_several_threads_are_all_recorded_one_after_the_other(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    threads = [threading.Thread(target=lambda n=n: run.inject(tell, n, reason="at once")) for n in range(6)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    require_rows_of_events(run)
    for _ in threads:
        run.undo()
    assert run.value(tell) == "ALWAYS THE SAME"
    require_rows_of_events(run)
