"""Processes that die between the end of a wait and what they do then: the others notice without another message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.execution import Waker, Wakeup
from ironflow_nb.execution.registry import REGISTRY
from tests.triggers.conftest import engine_on
from tests.triggers.test_clocks_set_back import StillClock
from tests.waits.conftest import LIMIT_S, until


class DyingClock(StillClock):
    """A clock whose waits end with their process."""

    is_over = False

    def wait(self, wakeup: Wakeup, timeout_s: float | None, *, is_idle: bool = False) -> bool:
        is_woken = super().wait(wakeup, timeout_s, is_idle=is_idle)
        if self.is_over:
            raise SystemExit
        return is_woken


@flow
def sleeper() -> str:
    iron.sleep(60)
    return "awake"


@flow
def listener() -> str:
    return str(iron.wait_for("go"))


@flow
async def async_sleeper() -> str:
    await iron.aio.sleep(60)
    return "awake"


@flow
async def async_listener() -> str:
    return str(await iron.aio.wait_for("go"))


@pytest.mark.parametrize("waiter", [sleeper, listener, async_sleeper, async_listener])
def test_a_run_whose_owner_dies_after_its_wait_has_ended_goes_on_elsewhere(waiter: Any, tmp_path: Path) -> None:
    clock, clock_of_owner = StillClock(), DyingClock()
    owner = engine_on(tmp_path, clock=clock_of_owner)
    with REGISTRY.replaced(owner):
        run_id = waiter.start().id
        until(lambda: iron.get_run(run_id).status == "waiting")
    owner._background.stop()  # it lives, and does not come to end its wait
    other = engine_on(tmp_path, clock=clock)
    with REGISTRY.replaced(other):
        iron.get_run(run_id).signal("go", "awake")
        clock.advance(61)
        waker = Waker(other)
        assert not waker.look(is_new=True)
        assert iron.get_run(run_id).status == "waiting"
        owner.access.close("it was killed", abandon=True)
        with other.access.current():
            other.access.journal.release(owner.access.owner)
        clock.advance(2)
        assert waker.look(is_new=False)
        assert iron.get_run(run_id).result(LIMIT_S) == "awake"
    other.close()
    clock_of_owner.is_over = True
    owner.close()  # which wakes its threads
    owner.access.journal.close()
