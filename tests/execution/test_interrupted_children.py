"""Children that are still stopping when their interrupted parent is called again: they are continued."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")

LIMIT_S = 10.0


class Bodies:
    """What ran; bodies of children wait at the gate, and one of the parent presses the stop button meanwhile."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.is_armed = True
        self.is_failing = False

    def wait(self, n: int) -> None:
        self.log.append(f"slow {n}")
        self.begun.set()
        assert self.gate.wait(LIMIT_S)
        if self.is_failing:
            raise ValueError("no")

    def press(self) -> None:
        self.log.append("press")
        if self.is_armed:
            assert self.begun.wait(LIMIT_S)
            os.kill(os.getpid(), signal.SIGINT)


BODIES = Bodies()


@pytest.fixture(autouse=True)
def new_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BODIES", Bodies())


@step
def slow(n: int) -> int:
    BODIES.wait(n)
    return n


@step
def after(n: int) -> int:
    BODIES.log.append(f"after {n}")
    return n + 1


@step
def press() -> int:
    BODIES.press()
    return 10


@flow
def child(n: int) -> int:
    return after(slow(n))


@flow
def middle(n: int) -> int:
    return child(n)


@flow
async def async_child(n: int) -> int:
    return after(slow(n))  # on the loop: nothing can cancel it


@flow
def gathered() -> int:
    return sum(iron.gather(partial(child, 1), press))


@flow
def gathered_deep() -> int:
    return sum(iron.gather(partial(middle, 1), press))


@flow
def bound() -> int:
    found: list[int] = []

    def call() -> None:
        with suppress(BaseException):  # what the parent was interrupted by
            found.append(child(1))

    thread = threading.Thread(target=iron.bind(call))
    thread.start()
    pressed = press()
    thread.join()
    return found[0] + pressed


@flow
async def gathered_async() -> int:
    async def pressed() -> int:
        return await asyncio.to_thread(iron.bind(press))

    return sum(await asyncio.gather(pressed(), async_child(1)))


def _interrupted(call: Callable[[], int], lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt):
        call()
    assert set(iron.runs()["status"]) >= {"interrupted"}
    BODIES.is_armed = False
    lab.cell()


@pytest.mark.parametrize("parent", [gathered, gathered_deep, bound])
def test_a_child_that_still_stops_is_continued_by_the_next_call(parent: iron.Flow[[], int], lab: Lab) -> None:
    _interrupted(parent, lab)
    threading.Timer(0.1, BODIES.gate.set).start()
    assert parent() == 12
    assert BODIES.log.count("slow 1") == 1, "what ran on is not run again"
    assert set(iron.runs()["status"]) == {"completed"}
    assert len(iron.runs()) == (3 if parent is gathered_deep else 2)
    attempts = iron.attempts()
    assert set(attempts[attempts["status"] != "completed"]["status"]) == {"interrupted"}, "nothing failed"


def test_a_child_that_has_stopped_is_continued_by_the_next_call(lab: Lab) -> None:
    _interrupted(gathered, lab)
    BODIES.gate.set()
    assert gathered() == 12
    assert BODIES.log.count("slow 1") == 1
    assert set(iron.runs()["status"]) == {"completed"}


def test_a_child_that_is_interrupted_twice_is_continued_by_the_third_call(lab: Lab) -> None:
    _interrupted(gathered, lab)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    _interrupted(gathered, lab)
    threading.Timer(0.1, BODIES.gate.set).start()
    assert gathered() == 12
    assert BODIES.log.count("slow 1") == 1
    assert set(iron.runs()["status"]) == {"completed"}


def test_a_body_that_fails_while_its_child_stops_is_tried_again(lab: Lab) -> None:
    _interrupted(gathered, lab)
    BODIES.is_failing = True
    threading.Timer(0.1, BODIES.gate.set).start()
    with pytest.raises(ValueError, match="no"):
        gathered()
    BODIES.is_failing = False
    lab.cell()
    assert gathered() == 12
    assert set(iron.runs()["status"]) == {"completed"}


def test_an_async_child_that_blocks_the_loop_is_continued_by_the_next_call(lab: Lab) -> None:
    async def called() -> int:
        return await gathered_async()

    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        asyncio.run(called())
    BODIES.is_armed = False
    lab.cell()
    threading.Timer(0.1, BODIES.gate.set).start()
    assert asyncio.run(called()) == 12
    assert BODIES.log.count("slow 1") == 1
    assert set(iron.runs()["status"]) == {"completed"}
