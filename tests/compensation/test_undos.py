"""What steps did is undone when their run has failed for good: the newest first, each once, in any style of call."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import DefinitionError, DuplicateName, NothingToDo
from tests.cells import run_cell
from tests.compensation.effects import (
    BROKEN,
    LOG,
    act,
    act_async,
    child,
    fail,
    failing_child,
    outcome,
    statuses,
    undo,
    undo_async,
)
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S


def test_what_was_done_is_undone_the_newest_first(lab: Lab) -> None:
    @flow
    def main() -> None:
        act(1)
        act(2)
        fail()

    error = outcome(main)
    assert LOG == ["fails", 2, 1]
    run = main.last
    assert run.status is RunStatus.FAILED
    assert statuses(run) == {
        f"{act.name}[0]": "compensated", f"{act.name}[1]": "compensated", f"{fail.name}[0]": "failed",
        f"{undo.name}[0]": "completed", f"{undo.name}[1]": "completed",
    }  # fmt: skip
    kinds = list(run.events()["type"])
    assert kinds.count("StepCompensated") == kinds.count("CompensationRegistered") == 2
    assert kinds.index("CompensationStarted") < kinds.index("StepCompensated")
    assert kinds[-1] == "RunFailed"
    assert any("are undone" in note for note in error.__notes__)
    assert "compensated" in run.diagram().text


def test_an_undo_gets_what_it_names(lab: Lab) -> None:
    def by_names(amount: int, *, card: str = "?", result: str) -> None:
        LOG.append((amount, card, result))

    def by_value(receipt: str, dry: bool = False) -> None:
        LOG.append((receipt, dry))

    def nothing() -> None:
        LOG.append("nothing")

    @step
    def pay(amount: int, card: str = "visa") -> str:
        return f"{card} {amount}"

    @flow
    def main() -> None:
        for each in (by_names, by_value, nothing):
            pay.options(compensate=each)(10)
        fail()

    outcome(main)
    assert LOG[1:] == ["nothing", ("visa 10", False), (10, "visa", "visa 10")]


@pytest.mark.parametrize("how", ["map", "submit", "gather", "child", "on_failure"])
def test_it_does_not_matter_how_a_step_was_called(lab: Lab, how: str) -> None:
    @flow
    def main() -> None:
        act(0)
        if how == "map":
            list(act.map([1, 2], concurrency=1))
        elif how == "submit":
            act.submit(1).result()
            act_async.submit(2).result()
        elif how == "gather":
            iron.gather(partial(child, 1))
        elif how == "child":
            child(1)
        else:
            iron.on_failure(undo, 1)
            iron.on_failure(note, 2)
        fail()

    outcome(main)
    assert LOG == ["fails", 2, 1, 0]


def note(n: int) -> None:
    LOG.append(n)


def test_an_async_flow_undoes_steps_of_both_colours(lab: Lab) -> None:
    @flow
    async def inner() -> None:
        await act_async(1)
        await act.submit(2)

    @flow
    async def main() -> None:
        await act_async(0)
        await inner()
        iron.on_failure(undo_async, 3)
        await asyncio.gather(act_async(4))
        fail()

    run = main.start()
    outcome(lambda: run.result(LIMIT_S))
    assert LOG == ["fails", 4, 3, 2, 1, 0]


def test_a_child_whose_failure_is_handled_is_undone_at_once_and_not_again(lab: Lab) -> None:
    @flow
    def main() -> None:
        act(1)
        with pytest.raises(ValueError, match="0"):
            failing_child(2)
        LOG.append("goes on")
        fail()

    outcome(main)
    assert LOG == ["fails", 2, "goes on", "fails", 1]
    assert failing_child.last.status is RunStatus.FAILED


def test_what_is_undone_with_its_parent_shows_in_the_child(lab: Lab) -> None:
    @flow
    def main() -> None:
        child(1)
        fail()

    outcome(main)
    assert set(statuses(child.last).values()) == {"compensated"}
    assert statuses(main.last)[f"{child.name}[0]"] == "compensated"


def test_a_completed_run_and_one_that_lives_with_a_failure_undo_nothing(lab: Lab) -> None:
    @flow
    def main() -> None:
        act(1)
        with pytest.raises(ValueError, match="0"):
            fail()

    main()
    assert LOG == ["fails"]
    assert main.last.status is RunStatus.COMPLETED


def test_one_undo_that_fails_does_not_stop_the_others_and_has_its_own_retries(lab: Lab) -> None:
    BROKEN.add(2)
    stubborn = act.options(compensate=undo.options(retries=iron.Retry(attempts=3, delay_s=0)))

    @flow
    def main() -> None:
        act(1)
        stubborn(2)
        act(3)
        fail()

    error = outcome(main)
    assert LOG == ["fails", 3, 2, 2, 2, 1]
    assert statuses(main.last)[f"{act.name}[1]"] == "completed"  # it stands
    assert any("could not be undone" in note for note in error.__notes__)


def test_a_resumed_run_does_again_what_was_undone_and_tries_again_what_could_not_be(lab: Lab) -> None:
    BROKEN.update({2, "gate"})

    @step
    def pure(n: int) -> int:
        LOG.append(("pure", n))
        return n

    @step(compensate=undo)
    def effect(n: int) -> int:
        LOG.append(("effect", n))
        return n

    @step
    def gate() -> None:
        if "gate" in BROKEN:
            raise ValueError(0)

    @flow
    def main() -> None:
        pure(0)
        effect(1)
        effect(2)
        gate()

    outcome(main)
    run = main.last
    assert LOG == [("pure", 0), ("effect", 1), ("effect", 2), 2, 1]
    LOG.clear()
    with pytest.raises(ValueError, match="0"):
        iron.resume(run.id).result(LIMIT_S)
    assert LOG == [("effect", 1), 1, 2]  # the second one stood, and is older now
    BROKEN.clear()
    LOG.clear()
    iron.resume(run.id, retry="failed").result(LIMIT_S)
    assert LOG == [("effect", 1)]
    assert run.status is RunStatus.COMPLETED
    with pytest.raises(NothingToDo):
        run.resume(retry="failed")


def test_an_equal_call_begins_a_new_run_and_says_so(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    @flow
    def main() -> None:
        act(1)
        fail()

    outcome(main)
    lab.cell()
    outcome(main)
    assert len(main.runs()) == 2
    assert LOG == ["fails", 1, "fails", 1]


def test_both_attempts_of_an_edited_step_are_undone(lab: Lab) -> None:
    cell: dict[str, Any] = {"__name__": "__main__", "undo": undo, "fail": fail, "BROKEN": BROKEN}
    source = """
from ironflow_nb import flow, step

@step(compensate=undo)
def effect(n):
    return n + 10

@flow(on_change="refresh")
def main():
    effect(1)
    if "kernel" in BROKEN:
        raise KeyboardInterrupt
    fail()
"""
    BROKEN.add("kernel")
    run_cell(source, cell)
    with pytest.raises(KeyboardInterrupt):
        cell["main"]()
    BROKEN.clear()
    run_cell(source.replace("n + 10", "n + 20"), cell)
    lab.cell()
    outcome(cell["main"])
    assert LOG == ["fails", 21, 11]
    assert len(cell["main"].runs()) == 1


# -- bad input -----------------------------------------------------------------------------------------------------


def test_an_undo_that_needs_something_else_is_refused_where_it_is_defined() -> None:
    def refund(receipt: str, reason: str) -> None: ...

    with pytest.raises(DefinitionError, match=r"refund.*by their names \(amount\), and also needs reason; leave"):

        @step(compensate=refund)
        def pay(amount: int) -> str:
            return str(amount)


def test_what_can_not_undo_a_step_is_refused() -> None:
    with pytest.raises(DefinitionError, match="begins a run of its own"):
        step(compensate=child)(fail.fn)
    with pytest.raises(DefinitionError, match="made of a function"):
        step(compensate=3)(fail.fn)
    with pytest.raises(DuplicateName):
        step(compensate=lambda: None)(fail.fn)
    with pytest.raises(DefinitionError, match="cache="):
        step(compensate=step(cache=True)(undo.fn))(fail.fn)


def test_on_failure_is_refused_where_nothing_would_call_it(lab: Lab) -> None:
    with pytest.raises(iron.errors.NotInRun):
        iron.on_failure(undo, 1)

    @step
    def inside() -> None:
        iron.on_failure(undo, 1)

    @flow
    def main() -> None:
        with pytest.raises(TypeError):
            iron.on_failure(undo, 1, 2)
        inside()

    with pytest.raises(iron.errors.NotAllowedInStep):
        main()
