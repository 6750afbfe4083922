"""Where an interrupt strikes: the user's code at once, the engine when it stands well, and nothing that comes later."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.system.interrupts import INTERRUPTS, AwaitedRuns
from ironflow_nb.journal.ports import QueueSelect
from tests.cells import World
from tests.conftest import Lab
from tests.deciders.counters import Ask, Call, Remind, counters

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler was not given back"
    signal.signal(signal.SIGINT, before)


def press() -> None:
    """Interrupt this process, as the stop button does."""
    os.kill(os.getpid(), signal.SIGINT)


def press_at_next_commit(lab: Lab, monkeypatch: pytest.MonkeyPatch, n_presses: int = 1) -> None:
    """Press stop in the middle of the engine's work."""
    journal = lab.engine.journal
    append, presses = journal.append, [press] * n_presses

    def pressed(entries: Any, **given: Any) -> None:
        while presses:
            presses.pop()()
        append(entries, **given)

    monkeypatch.setattr(journal, "append", pressed)


def test_stop_that_is_pressed_twice_stops_one_call(lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def work() -> None:
        if world.is_broken:
            world.is_broken = False
            press_at_next_commit(lab, monkeypatch)  # that which records the interruption
            press()

    @flow
    def main() -> str:
        work()
        return "done"

    with pytest.raises(KeyboardInterrupt):
        main()
    assert not lab.engine.interrupts.is_pending
    lab.cell()
    assert main() == "done"


def test_an_interrupt_while_a_failure_is_recorded_is_not_lost(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def main() -> None:
        press_at_next_commit(lab, monkeypatch)
        raise KeyError("a failure")

    with pytest.raises(KeyboardInterrupt) as caught:
        main()
    assert isinstance(caught.value.__context__, KeyError)
    assert main.last.status == "failed"
    assert not lab.engine.interrupts.is_pending


def test_an_interrupt_that_comes_before_a_body_is_delivered_to_it(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @step(once=True)
    def work() -> None:
        world.did("work")

    @flow
    def main() -> None:
        press_at_next_commit(lab, monkeypatch)  # that of the beginning of the step
        work()

    with pytest.raises(KeyboardInterrupt):
        main()
    assert world.log == []


@pytest.mark.parametrize("way", ["a step", "gather", "bind", "map"])
def test_what_a_body_calls_is_interrupted_in_the_middle(lab: Lab, way: str) -> None:
    def endless(_: int = 0) -> None:
        press()
        time.sleep(5)
        raise AssertionError("it was not interrupted")

    inner = step(name="inner")(endless)
    ways: dict[str, Callable[[], object]] = {
        "a step": inner,
        "gather": lambda: iron.gather(endless),
        "bind": iron.bind(endless),
        "map": lambda: inner.map([1]),
    }

    @step
    def outer() -> None:
        ways[way]()

    @flow
    def main() -> None:
        outer()

    with pytest.raises(KeyboardInterrupt) as caught:
        main()
    assert caught.value.__context__ is None


ENDLESS = """
import os, signal, time

def endless():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
    raise AssertionError("it was not interrupted")
"""


@pytest.mark.parametrize("name", ["ironflow_nb_extras", "ironflow_nb_extras.graphs", "my_ironflow_nb", "__main__"])
def test_a_package_whose_folder_begins_as_ours_does_is_the_users(lab: Lab, name: str) -> None:
    beside_ours = Path(iron.__file__).parent.parent / name.replace(".", "/") / "__init__.py"
    module: dict[str, Any] = {"__name__": name}
    exec(compile(ENDLESS, str(beside_ours), "exec"), module)

    @step
    def work(endless: Any) -> None:
        endless()

    @flow
    def main(endless: Any) -> None:
        work(endless)

    with pytest.raises(KeyboardInterrupt) as caught:
        main(iron.resource(module["endless"]))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("is_left", [False, True], ids=["taken out after the run", "left in place"])
def test_a_handler_that_was_put_in_within_a_run_does_not_make_ours_call_itself(lab: Lab, *, is_left: bool) -> None:
    """As an await of a cell that never went on, which is collected whenever the garbage is."""
    awaited = AwaitedRuns().listening(lambda: None, lambda _: None)
    with INTERRUPTS.taken():
        awaited.__enter__()
    if not is_left:
        awaited.__exit__(None, None, None)

    @flow
    def main() -> None:
        press()

    for _ in range(2):
        lab.cell()
        with pytest.raises(KeyboardInterrupt):
            main()
        with INTERRUPTS.taken():
            INTERRUPTS.is_pending = True
            with pytest.raises(KeyboardInterrupt):
                INTERRUPTS.check()
    if is_left:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_what_a_resource_does_is_interrupted_in_the_middle(lab: Lab) -> None:
    module: dict[str, Any] = {"__name__": "__main__"}
    exec(ENDLESS, module)
    endless = iron.resource(module["endless"])

    @flow
    def main() -> None:
        endless()

    with pytest.raises(KeyboardInterrupt) as caught:
        main()
    assert caught.value.__context__ is None


def test_an_async_flow_that_is_called_right_after_an_interrupt_goes_on_with_the_run(lab: Lab, world: World) -> None:
    begun = threading.Semaphore(0)

    @step
    async def work() -> str:
        begun.release()
        try:
            if world.is_broken:
                await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0.2 * world.is_broken)  # it takes its time to end
        return "done"

    @flow
    async def main() -> str:
        return await work()

    async def cell(*, presses: int) -> str:
        task = asyncio.ensure_future(main())
        for _ in range(presses):
            await asyncio.to_thread(begun.acquire) if _ == 0 else await asyncio.sleep(0.02)
            task.cancel()
        return await task

    for n_presses in (1, 2):
        lab.cell()
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cell(presses=n_presses))
        if n_presses == 1:  # a second one does not wait for the end
            assert main.last.status == "interrupted"
    world.is_broken = False
    lab.cell()
    assert asyncio.run(cell(presses=0)) == "done"
    assert len(iron.runs()) == 1
    assert iron.events(run=main.last)["type"].tolist().count("RunContinued") == 2


@pytest.mark.parametrize(
    "moments", [["body"], ["before"], ["after"], ["coroutine"], ["body", "before"], ["body", "after"]], ids="-".join
)
def test_an_interrupt_of_effects_leaves_no_claim(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch, moments: list[str]
) -> None:
    counter = counters()

    left = list(moments)

    def press_at(moment: str) -> None:
        if left and left[0] == moment:
            left.pop(0)
            press()

    @counter.perform(Call)
    def call(effect: Call) -> Any:
        press_at("body")
        world.did(effect.what)
        return later() if "coroutine" in moments else None

    async def later() -> None:
        press_at("coroutine")
        await asyncio.sleep(0.05)

    for n in range(3):
        counter.send(Ask("c", f"call {n}"))
    exchange = lab.engine.journal.exchange

    def pressed(act: Any, **given: Any) -> None:
        press_at("before")
        exchange(act, **given)
        press_at("after")

    monkeypatch.setattr(lab.engine.journal, "exchange", pressed)
    with pytest.raises(KeyboardInterrupt):
        counter.run_until_idle()
    assert left == []
    with lab.engine.reading() as reader:
        assert {work.owner for work in reader.work(QueueSelect())} == {None}
    counter.run_until_idle()
    assert set(world.log) == {f"call {n}" for n in range(3)}
    assert counter.instances()["n_pending"].tolist() == [0]


def test_a_wait_for_effects_is_interrupted(lab: Lab) -> None:
    counter = counters()
    counter.send(Remind("c", 30))
    timer = threading.Timer(0.3, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        counter.run_until_idle(wait=60)
    assert counter.instances()["n_pending"].tolist() == [1]


def test_an_interrupt_after_a_loop_was_closed_meets_the_users_handler(lab: Lab) -> None:
    """What awaited in that loop never went on, so it still listens."""
    loop = asyncio.new_event_loop()
    loop.close()
    waiting = lab.engine.awaited.listening(lambda: loop.call_soon_threadsafe(print), lambda _: None)
    waiting.__enter__()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_an_await_that_is_closed_late_takes_no_handler_from_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    awaited_runs = AwaitedRuns()
    before = signal.getsignal(signal.SIGINT)
    earlier = awaited_runs.listening(lambda: heard.append("earlier"), lambda _: None)
    earlier.__enter__()
    getsignal = signal.getsignal

    def closing(number: int) -> Any:
        """Look at the handler as Python does, with a garbage collector that closes the earlier await meanwhile."""
        found = getsignal(number)
        monkeypatch.setattr(signal, "getsignal", getsignal)
        earlier.__exit__(None, None, None)
        return found

    monkeypatch.setattr(signal, "getsignal", closing)
    with pytest.raises(KeyboardInterrupt), awaited_runs.listening(lambda: heard.append("next"), lambda _: None):
        signal.raise_signal(signal.SIGINT)
    assert heard == ["next"]
    assert signal.getsignal(signal.SIGINT) == before
