"""`iron.current_run()`: the run of the code that asks."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import NotInRun
from tests.conftest import Lab


@step
def here(_n: int = 0) -> str:
    return iron.current_run().id


def test_flow_steps_maps_branches_and_children_know_their_run(lab: Lab) -> None:
    @flow
    def child() -> str:
        return iron.current_run().id

    @flow
    def main() -> list[str]:
        return [iron.current_run().id, here(), *here.map([1, 2]), *iron.gather(lambda: iron.current_run().id), child()]

    *own, of_child = main()
    run: Any = main.last
    assert set(own) == {run.id}
    assert len(own) == 5
    assert child.last is not None
    assert of_child == child.last.id != run.id


def test_an_async_flow_knows_it_too(lab: Lab) -> None:
    @flow
    async def main() -> str:
        return iron.current_run().id

    run = main.start()
    assert run.result(10) == run.id


def test_it_is_looked_at_in_its_own_journal_whatever_engine_is_current(lab: Lab) -> None:
    @flow
    def main() -> str:
        with iron.open(":memory:"):
            return str(iron.current_run().status)

    assert main() == "running"


def test_outside_of_a_run_it_says_so(lab: Lab) -> None:
    with pytest.raises(NotInRun, match="called outside of every run; call it in a flow or step"):
        iron.current_run()


def test_a_worker_process_has_no_run(lab: Lab) -> None:
    @flow
    def main() -> str:
        return here.options(executor=pool)(1)

    with ProcessPoolExecutor(1) as pool, pytest.raises(NotInRun, match="in a worker of an executor"):
        main()
