"""Which run a call joins: cells that are repeated, keys, ages, notebooks, runs that go on elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability
from tests.cells import World
from tests.conftest import Lab


def test_a_repeated_cell_starts_anew_after_a_completed_run(lab: Lab) -> None:
    @flow
    def main() -> int:
        return 1

    main()
    lab.cell()
    main()
    assert list(iron.runs()["status"]) == ["completed", "completed"]


def test_equal_calls_in_one_cell_are_so_many_runs_and_the_next_cell_continues_each(lab: Lab, world: World) -> None:
    @step
    def work() -> None:
        if world.is_broken:
            raise RuntimeError

    @flow
    def main() -> None:
        work()

    for _ in range(3):
        with pytest.raises(RuntimeError):
            main()
    first = set(iron.runs()["run_id"])
    assert len(first) == 3
    world.is_broken = False
    lab.cell()
    for _ in range(4):
        main()
    runs = iron.runs()
    assert len(runs) == 4
    assert set(runs[runs["n_sessions"] == 2]["run_id"]) == first


def test_a_call_with_other_arguments_joins_nothing(lab: Lab, world: World) -> None:
    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main(n: int) -> None:
        work()

    for n in (1, 2):
        lab.cell()
        with pytest.raises(RuntimeError):
            main(n)
    assert len(iron.runs()) == 2


def test_arguments_are_the_same_however_they_are_spelled(lab: Lab) -> None:
    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main(n: int, scale: int = 2) -> None:
        work()

    for call in (lambda: main(1), lambda: main(n=1), lambda: main(1, 2), lambda: main(scale=2, n=1)):
        lab.cell()
        with pytest.raises(RuntimeError):
            call()
    assert list(iron.runs()["n_sessions"]) == [4]


@pytest.mark.parametrize("way", ["fresh", "new", "too old"])
def test_a_run_is_not_continued_where_that_was_not_wanted(lab: Lab, world: World, way: str) -> None:
    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main() -> None:
        work()

    with pytest.raises(RuntimeError):
        main()
    lab.cell()
    if way == "too old":
        time.sleep(0.02)
    other = {
        "fresh": main.options(fresh=True),
        "new": main.options(on_rerun="new"),
        "too old": main.options(continue_within=0.01),
    }[way]
    with pytest.raises(RuntimeError):
        other()
    assert len(iron.runs()) == 2


def test_the_same_key_is_the_same_run_for_ever(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        return n

    @flow
    def main(n: int) -> int:
        return work(n)

    assert main.options(key="k")(1) == 1
    assert main.options(key="k")(1) == 1
    lab.cell()
    assert main.options(key="k")(1) == 1
    assert world.log == [1]
    with pytest.raises(iron.errors.DuplicateKey, match="other arguments"):
        main.options(key="k")(2)
    assert len(iron.runs()) == 1


def test_a_call_attaches_to_a_run_that_goes_on_in_the_background(lab: Lab, world: World) -> None:
    world.gate = threading.Event()

    @step
    def work() -> str:
        world.did("work")
        assert world.gate.wait(10)
        return "done"

    @flow
    def main() -> str:
        return work()

    run = main.start()
    while not world.log:
        time.sleep(0.001)
    lab.cell()
    again = main.start()
    assert again.id == run.id
    threading.Timer(0.05, world.gate.set).start()
    lab.cell()
    assert main() == "done"
    assert world.log == ["work"]
    assert len(iron.runs()) == 1


def test_another_notebook_that_still_exists_forbids_joining(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main() -> None:
        work()

    mine, other = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    mine.write_text("{}")
    for path, n_runs in ((mine, 1), (other, 2)):
        monkeypatch.setenv("JPY_SESSION_NAME", str(path))
        lab.cell()
        with pytest.raises(RuntimeError):
            main()
        assert len(iron.runs()) == n_runs
    mine.unlink()
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "renamed.ipynb"))
    lab.cell()
    with pytest.raises(RuntimeError):
        main()
    assert len(iron.runs()) == 2


def test_continuing_is_said_in_one_line(lab: Lab, world: World, caplog: pytest.LogCaptureFixture) -> None:
    @step
    def work(n: int) -> None:
        if n == 2 and world.is_broken:
            raise RuntimeError

    @flow
    def main() -> None:
        for n in range(3):
            work(n)

    with caplog.at_level("INFO", "ironflow_nb"):
        with pytest.raises(RuntimeError):
            main()
        assert not caplog.records
        world.is_broken = False
        lab.cell()
        main()
    (line,) = (record.getMessage() for record in caplog.records)
    assert "continuing run" in line
    assert "2 finished steps are kept" in line
    assert "options(fresh=True)(...)" in line


def test_resume_continues_with_the_recorded_arguments(lab: Lab, world: World) -> None:
    @step
    def work(n: int, names: list[str]) -> list[str]:
        world.did(n)
        if world.is_broken:
            raise RuntimeError
        return names * n

    @flow
    def main(n: int, names: list[str], *rest: int, **more: int) -> list[str]:
        return work(n, names)

    with pytest.raises(RuntimeError):
        main(2, ["a", "b"] * 2000, 1, x=2)
    world.is_broken = False
    run = main.resume()
    assert run.result(timeout_s=10) == ["a", "b"] * 4000
    assert iron.resume(run.id[:5]).id == run.id
    with pytest.raises(iron.RunNotFound, match="no unfinished run"):
        main.resume()


def test_resume_says_what_is_missing(lab: Lab, world: World) -> None:
    import numpy as np

    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main(data: object) -> None:
        work()

    with pytest.raises(RuntimeError):
        main(np.zeros(1_000_000))
    with pytest.raises(iron.errors.InputsNotStored, match="data"):
        main.resume()


def test_a_run_of_a_flow_that_is_not_defined_here_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def work() -> None:
        raise RuntimeError

    @flow
    def main() -> None:
        work()

    with pytest.raises(RuntimeError):
        main()
    run = main.last
    monkeypatch.setattr(REGISTRY, "_definitions", {})
    with pytest.raises(iron.errors.FlowNotDefined, match="run the cell"):
        run.resume()


def test_unknown_and_ambiguous_ids_say_what_there_is(lab: Lab) -> None:
    @flow
    def main() -> None:
        return

    with pytest.raises(iron.RunNotFound, match="no runs"):
        iron.get_run("zz")
    for _ in range(40):
        main.options(fresh=True)()
    ids = sorted(iron.runs()["run_id"])
    twin = next(one[0] for one, two in itertools.pairwise(ids) if one[0] == two[0])
    with pytest.raises(iron.errors.AmbiguousRun, match="several runs begin with"):
        iron.get_run(twin)
    assert iron.get_run(ids[3]).id == ids[3]
    with pytest.raises(iron.RunNotFound, match="the newest are"):
        iron.get_run("!!")


def test_a_step_that_was_done_again_is_one_finished_step(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    @step
    def work(n: int) -> int:
        return n

    @flow
    def main() -> None:
        work(1)
        work(2)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        main()
    run: Any = main.last
    run.resume(rerun=[work]).wait(10)
    lab.cell()
    caplog.set_level("INFO", logger="ironflow_nb")
    with pytest.raises(ConnectionError):
        main()
    assert "; 2 finished steps are kept" in caplog.text


def test_a_call_attaches_to_who_took_the_run_over_while_a_body_of_it_is_left_here(lab: Lab, world: World) -> None:
    is_begun, is_over = threading.Event(), threading.Event()

    @step
    def slow() -> int:
        is_begun.set()
        is_over.wait(30)
        return 1

    @flow
    async def main() -> int:
        return await slow.submit()

    async def interrupted() -> None:
        task = asyncio.create_task(main.options(key="k")())
        await asyncio.to_thread(is_begun.wait, 30)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert main.last.wait(30).status == "interrupted"
    with REGISTRY.adopt(Engine(lab.new_journal(), durability=Durability.PROCESS)):
        elsewhere = main.options(key="k").start()
        attached = Context().run(main.options(key="k").start)  # outside of the other engine
        assert attached.id == elsewhere.id
        assert attached.status == "running"
        is_over.set()
        assert attached.result() == elsewhere.result() == 1
    assert lab.engine.is_running_here(attached.id) is False
