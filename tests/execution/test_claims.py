"""One at a time computes what all runs share, and what it gives up another one computes at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from ironflow_nb import flow, step
from ironflow_nb.core import events
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import Digest, RunId, step_ref
from ironflow_nb.core.retry import FIRST_DELAY_S
from ironflow_nb.errors import IronflowError, RunFinished
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import CachedResult, Durability, RunCommit
from tests.conftest import Lab

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0
tried: list[object] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def nothing_tried_yet() -> None:
    tried.clear()


async def awaited(run: Awaitable[int]) -> int:
    return await run


def fail_the_first_time(n: int) -> int:
    tried.append(n)
    if len(tried) == 1:
        raise ConnectionError(n)
    return n * 2


@contextmanager
def interrupted(is_time: Callable[[], bool]) -> Iterator[None]:
    """Interrupt this thread when it is time, and once more if that was to no avail."""

    def interrupt() -> None:
        while not is_time():
            time.sleep(0.01)
        for pause_s in (0.1, PATIENCE_S):
            if not over.wait(pause_s):
                os.kill(os.getpid(), signal.SIGINT)

    over = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    try:
        yield
    finally:
        over.set()
        interrupter.join()
        signal.signal(signal.SIGINT, before)


def test_a_call_that_is_cancelled_between_two_attempts_lets_others_compute(lab: Lab) -> None:
    @step(cache=True, retries=1)
    async def fetch(n: int) -> int:
        return fail_the_first_time(n)

    @flow
    async def main() -> int:
        cancelled = asyncio.ensure_future(fetch(3))
        while not tried:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        return await asyncio.wait_for(fetch(3), PATIENCE_S)

    assert asyncio.run(awaited(main())) == 6
    assert tried == [3, 3]


def test_a_flow_that_is_interrupted_between_two_attempts_may_call_again(lab: Lab) -> None:
    @step(cache=True, retries=1)
    def fetch(n: int) -> int:
        return fail_the_first_time(n)

    @flow
    def main() -> int:
        with suppress(KeyboardInterrupt):
            fetch(3)
        return fetch(3)

    with interrupted(lambda: bool(tried)):
        assert main() == 6
    assert tried == [3, 3]


def test_a_call_that_outlives_its_flow_keeps_nobody_from_computing(lab: Lab) -> None:
    ended, refused = threading.Event(), threading.Event()

    @step(cache=True)
    async def fetch(n: int) -> int:
        return n * 2

    async def call_late(call: Awaitable[int]) -> None:
        while not ended.is_set():
            await asyncio.sleep(0.01)
        try:
            await call
        except RunFinished:
            refused.set()

    outliving: list[object] = []

    @flow
    async def main(*, is_late: bool) -> int:
        if not is_late:
            return await asyncio.wait_for(fetch(3), PATIENCE_S)
        outliving.append(asyncio.ensure_future(call_late(fetch(3))))
        return 0

    assert asyncio.run(awaited(main(is_late=True))) == 0
    ended.set()
    assert refused.wait(PATIENCE_S)
    assert asyncio.run(awaited(main(is_late=False))) == 6


@pytest.mark.parametrize("is_queued", [False, True], ids=["while it waits", "when it is due"])
def test_an_attempt_that_a_failing_map_does_not_begin_any_more_lets_others_compute(lab: Lab, is_queued: bool) -> None:
    @step(cache=True, retries=1)
    def fetch(n: int) -> int:
        if n >= 0:
            return fail_the_first_time(n)
        if is_queued:
            time.sleep(FIRST_DELAY_S + 0.5)
        raise IronflowError("this is not tried again")

    @flow
    def main() -> int:
        with pytest.raises(IronflowError):
            list(fetch.map([3, -1], concurrency=1))
        return fetch(3)

    assert main.start().result(PATIENCE_S) == 6
    assert tried == [3, 3]


def beside(lab: Lab) -> Engine:
    """Return an engine that works on the journal at the same time."""
    lab.engines.append(Engine(lab.new_journal(), execution=lambda: "elsewhere"))
    return lab.engine


def computing(engine: Engine) -> CachedResult:
    """Say that the engine computes something."""
    return CachedResult(
        identity=Digest(b"i"), code=Digest(b"c"), run_id=RunId("r"), step=step_ref("f", 0), owner=engine.owner
    )


def claim(engine: Engine) -> CachedResult | None:
    return engine.access.claim(computing(engine), lambda _: True)


def test_who_has_written_nothing_else_yet_is_believed_to_compute(lab: Lab) -> None:
    first, second = lab.engine, beside(lab)
    assert claim(first) is None
    assert claim(second) == computing(first)


def test_of_two_who_claim_at_once_one_computes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = lab.engine, beside(lab)
    journal, rivals, claimed = first.access.journal, [second], []
    claim_in_journal = journal.claim

    def claim_after_rivals(*args: Any, **kwargs: Any) -> Any:
        while rivals:
            claimed.append(claim(rivals.pop()))
        return claim_in_journal(*args, **kwargs)

    monkeypatch.setattr(journal, "claim", claim_after_rivals)
    assert claim(first) == computing(second)
    assert claimed == [None]


def test_an_attempt_that_outlives_an_interrupt_goes_on_computing_for_all(lab: Lab) -> None:
    gate.clear()

    @step(cache=True, retries=1)
    def fetch(n: int) -> int:
        try:
            return fail_the_first_time(n)
        finally:
            if len(tried) > 1:
                gate.wait(PATIENCE_S)

    @flow
    def main() -> int:
        return fetch.submit(3).result()

    @flow
    def other() -> int:
        return fetch(3)

    with interrupted(lambda: len(tried) == 2), pytest.raises(KeyboardInterrupt):
        main()
    waiting = other.start()
    time.sleep(0.5)
    assert tried == [3, 3]
    gate.set()
    assert waiting.result(PATIENCE_S) == 6
    assert tried == [3, 3]


def test_a_run_that_another_process_has_taken_over_lets_others_compute(lab: Lab) -> None:
    gate.clear()

    @step(cache=True)
    def fetch(n: int) -> int:
        tried.append(n)
        gate.wait(PATIENCE_S)
        return n * 2

    @flow
    def main() -> int:
        return fetch(3)

    run = main.start()
    while not tried:
        time.sleep(0.01)
    lab.engine.flush()
    append_elsewhere(lab, run.id)
    gate.set()
    run.wait(PATIENCE_S)
    assert main.options(fresh=True).start().result(PATIENCE_S) == 6
    assert tried == [3, 3]
    deadline_s = time.monotonic() + PATIENCE_S
    while lab.engine.sessions and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert lab.engine.sessions == {}, "it is over here"


def append_elsewhere(lab: Lab, run_id: RunId) -> None:
    """Continue the run as another process does."""
    with closing(lab.new_journal()) as journal:
        with journal.reading() as reader:
            head = reader.head(run_id)
        assert head is not None
        fact = RecordedEvent(head[0] + 1, head[1], events.RunInterrupted(reason="elsewhere"))
        journal.append([RunCommit(run_id=run_id, events=(fact,))], durability=Durability.PROCESS)


def test_an_attempt_that_was_to_be_tried_again_has_failed_once_the_result_of_another_run_is_taken(lab: Lab) -> None:
    @step(cache=True, retries=1)
    def fetch(n: int) -> int:
        return fail_the_first_time(n)

    @flow
    def main() -> int:
        return fetch(3)

    with interrupted(lambda: bool(tried)), pytest.raises(KeyboardInterrupt):
        main()
    run: Any = main.last
    assert main.options(fresh=True)() == 6
    assert run.resume().result(PATIENCE_S) == 6
    assert tried == [3, 3]
    assert run.attempts()["status"].tolist() == ["failed", "completed"]
