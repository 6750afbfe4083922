"""Projections in the background: they follow what is committed, bear failures, and go on with new code."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from tests.conftest import Lab
from tests.deciders.orders import orders
from tests.deciders.test_projections import placed, tally


def until(holds: Callable[[], bool]) -> None:
    """Wait for what a background does."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def test_it_follows_what_this_process_commits(lab: Lab) -> None:
    seen = tally()
    assert not seen.is_live
    seen.start()
    assert seen.start().is_live
    placed(orders(), 3)
    until(lambda: len(seen.stored_state) == 3)
    assert list(iron.projections()["status"]) == ["live"]
    placed(orders(), 2, 3)
    until(lambda: len(seen.stored_state) == 5)
    seen.stop()
    placed(orders(), 1, 5)
    time.sleep(0.2)
    assert len(seen.stored_state) == 5
    assert not seen.is_live


def test_it_follows_what_another_engine_commits(lab: Lab) -> None:
    journal = lab.engine.journal
    if not isinstance(journal, SqliteJournal):
        pytest.skip("a journal in memory has one engine")
    seen = tally().start()
    with REGISTRY.adopt(Engine(SqliteJournal(journal.path), durability=Durability.PROCESS)):
        placed(orders(), 3)
    until(lambda: len(seen.stored_state) == 3)
    assert seen.lag == 0


def test_it_ends_with_its_engine(lab: Lab) -> None:
    seen = tally().start()
    lab.engine.close()
    assert not seen.is_live
    lab.begin()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_function_that_exits_is_told_and_called_again(
    lab: Lab, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    ends = [True, True]

    @iron.projection("fragile", initial=0)
    def fragile(state: int, event: iron.ProjectionEvent) -> int:
        if ends:
            ends.pop()
            raise error
        return state + 1

    fragile.start()
    placed(orders(), 1)
    until(lambda: fragile.stored_state == 1)
    assert fragile.start().is_live
    assert caplog.text.count("fragile") >= 1
    assert type(error).__name__ in caplog.text
    fragile.stop()


class Watched(SimClock):
    """Notes how long retries waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, wakeup: Any, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        if is_idle and timeout_s is not None:
            self.waits.append(round(timeout_s, 3))
        return super().wait(wakeup, timeout_s, is_idle=is_idle)


def test_it_tries_again_after_longer_and_longer_waits_and_says_it_once(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    clock = lab.clock = Watched()
    lab.begin()
    n_calls = [0]

    @iron.projection("flaky", initial=0)
    def flaky(state: int, event: iron.ProjectionEvent) -> int:
        n_calls[0] += 1
        if event.instance == "o-1" and n_calls[0] < 12:
            raise ConnectionError("not now")
        return state + 1

    placed(orders(), 3)
    flaky.start()
    until(lambda: flaky.stored_state == 3)
    assert clock.waits[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert len([line for line in caplog.messages if "could not fold event 1 of order o-1" in line]) == 1
    assert flaky.error is None
    flaky.stop()


def test_a_new_definition_takes_over_from_one_that_follows(lab: Lab) -> None:
    placed(orders(), 2)
    before = tally().start()
    until(lambda: len(before.stored_state) == 2)

    @iron.projection("tally", initial=0)
    def after(state: int, event: iron.ProjectionEvent) -> int:
        return state + 1

    assert after.is_live
    assert not before.is_live
    until(lambda: after.stored_state == 2)
    placed(orders(), 1, 2)
    until(lambda: after.stored_state == 3)


def test_it_gives_way_to_other_code_of_another_process(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ironflow_nb")
    placed(orders(), 2)
    before = tally().start()
    until(lambda: before.stored_state != [])
    REGISTRY.forget("projection", "tally")  # as if the other one were defined elsewhere

    @iron.projection("tally", initial=0)
    def elsewhere(state: int, event: iron.ProjectionEvent) -> int:
        return state + 1

    assert elsewhere.state == 2
    placed(orders(), 1, 2)
    until(lambda: not before.is_live)
    assert elsewhere.state == 3
    assert any("another process folds it with other code" in line for line in caplog.messages)
