"""A run in the hand: its status, its result and its error, however it ended; waiting for it."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.handles.run import Run
from tests.cells import World, run_cell
from tests.conftest import Lab


def a_running_run() -> tuple[Run[int], Callable[[], None]]:
    """Start a run that goes on until it is let go."""
    gate, inside = threading.Event(), threading.Event()

    @step
    def held() -> int:
        inside.set()
        gate.wait(20)
        return 7

    @flow
    def main() -> int:
        return held()

    run = main.start()
    assert inside.wait(20)
    return run, gate.set


def an_interrupted_run() -> Run[int]:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "is_stopped": lambda: True}
    run_cell(
        """
@iron.step
def work(n):
    return n

@iron.flow
def main():
    if is_stopped():
        work(1)
        raise KeyboardInterrupt
    return work(1) + work(2)
""",
        space,
    )
    with pytest.raises(KeyboardInterrupt):
        space["main"]()
    space["is_stopped"] = lambda: False
    run: Run[int] = space["main"].last
    return run


def test_a_completed_run_gives_its_value_and_has_no_error(lab: Lab) -> None:
    @flow
    def main(n: int) -> dict[str, int]:
        return {"n": n}

    run = main.start(3)
    assert run.wait(timeout_s=20) is run
    assert run.status == "completed"
    assert run.result() == {"n": 3}
    assert run.error is None
    assert iron.get_run(run.id).result() == {"n": 3}
    assert run.resume() is run


def test_a_failed_run_raises_its_own_exception_each_time_and_from_every_handle(lab: Lab, world: World) -> None:
    @step
    def fail() -> int:
        raise ZeroDivisionError("of course")

    @flow
    def main() -> int:
        return fail()

    run = main.start()
    for handle in (run, run, iron.get_run(run.id)):
        with pytest.raises(ZeroDivisionError, match="of course") as caught:
            handle.result(timeout_s=20)
        assert any(f"run {run.id} of" in note for note in caught.value.__notes__)
    assert run.status == "failed"
    assert isinstance(run.error, ZeroDivisionError)


def test_a_failure_whose_class_is_gone_says_so_and_names_the_class(lab: Lab, world: World) -> None:
    space: dict[str, Any] = {"__name__": "somewhere", "iron": iron}
    run_cell("class Odd(Exception): pass\n@iron.flow\ndef main():\n    raise Odd('strange')", space)
    with pytest.raises(Exception, match="strange"):
        space["main"]()
    run = space["main"].last
    del space["Odd"]
    lab.die()
    with pytest.raises(iron.RunFailed, match="strange") as caught:
        iron.get_run(run.id).result()
    assert caught.value.ids["kind"] == "somewhere.Odd"


def test_an_interrupted_run_has_no_result_and_says_how_to_go_on(lab: Lab) -> None:
    run = an_interrupted_run()
    assert run.status == "interrupted"
    with pytest.raises(iron.RunInterrupted) as caught:
        run.result()
    assert f"iron.resume('{run.id}')" in str(caught.value)
    assert caught.value.ids == {"run_id": run.id, "status": "interrupted"}
    assert run.error is None
    continued = iron.resume(run.id[:6])
    assert continued.result(timeout_s=20) == 3
    assert run.result() == 3
    assert run.steps()["reused"].tolist() == [True, False]


def test_a_running_run_goes_on_when_the_patience_of_who_waits_ends(lab: Lab, world: World) -> None:
    run, let_go = a_running_run()
    for ask in (run.result, run.wait):
        with pytest.raises(iron.ResultTimeout, match=f"run {run.id} did not end within 0.05 s; it goes on"):
            ask(timeout_s=0.05)
        for over in (0, -1, "0s", timedelta(0)):
            with pytest.raises(iron.ResultTimeout):
                ask(timeout_s=over)  # type: ignore[arg-type]
        for none in (math.nan, "soon", True, object()):
            with pytest.raises((ValueError, TypeError), match="duration"):
                ask(timeout_s=none)  # type: ignore[arg-type]
    assert run.status == "running"
    assert run.error is None
    assert run.resume() is run
    with pytest.raises(iron.errors.StepNotFound, match=r"held\[0\] of run \w+ is running and has no output"):
        run.value("held")
    assert run.values("held") == []
    let_go()
    assert run.result(timeout_s=20) == 7
    assert run.value("held") == 7


def test_a_run_whose_process_died_is_interrupted(lab: Lab, world: World) -> None:
    run, let_go = a_running_run()
    assert len(run.steps()) == 1  # now it is written
    lab.die()
    found = iron.get_run(run.id)
    assert found.status == "interrupted"
    assert found.steps()["status"].tolist() == ["interrupted"]
    with pytest.raises(iron.RunInterrupted):
        found.result(timeout_s=20)
    let_go()


def test_a_run_that_nobody_knows_is_not_found(lab: Lab) -> None:
    run = Run[int](lab.engine, RunId("000000000000"))
    for ask in (run.result, run.wait, run.resume, lambda: run.status, lambda: run.error):
        with pytest.raises(iron.RunNotFound, match="there is no run 000000000000 in"):
            ask()


def test_awaiting_a_run_gives_its_value_or_raises_its_error(lab: Lab) -> None:
    @flow
    def good() -> str:
        return "value"

    @flow
    def bad() -> str:
        raise LookupError("nothing there")

    async def main() -> str:
        with pytest.raises(LookupError, match="nothing there"):
            await bad.start()
        first, second = await asyncio.gather(good.start(), good.start())
        return first + second

    assert asyncio.run(main()) == "valuevalue"


def test_who_stops_awaiting_is_not_held_back_by_the_run(lab: Lab, world: World) -> None:
    run, let_go = a_running_run()

    async def impatient() -> None:
        await asyncio.wait_for(run, timeout=0.05)

    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(impatient())  # which also ends the threads of its loop
    assert time.monotonic() - began_s < 10
    assert run.status == "running"
    let_go()
    assert run.result(timeout_s=20) == 7


def test_steps_attempts_and_events_are_those_of_the_run_alone(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        if world.is_broken:
            raise ValueError(n)
        return n

    @flow
    def main(n: int) -> int:
        return work(n)

    with pytest.raises(ValueError, match="1"):
        main(1)
    world.is_broken = False
    lab.cell()
    assert main(1) == 1
    first = main.last
    assert main(2) == 2
    assert first is not None
    assert set(first.events()["run_id"]) == {first.id}
    assert first.steps()["status"].tolist() == ["completed"]
    assert first.attempts()["status"].tolist() == ["failed", "completed"]
    assert first.attempts()["attempt"].tolist() == [1, 2]
    assert first.events()["type"].tolist()[-1] == "RunCompleted"
