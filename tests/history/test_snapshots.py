"""Snapshots: the state of a run at any moment, folded from its events."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.run_state import RunState, evolve
from ironflow_nb.execution.engine import Engine
from ironflow_nb.handles.recorded_run import RecordedRun
from ironflow_nb.handles.snapshot import Snapshot
from ironflow_nb.history import run_history
from ironflow_nb.journal.ports import Durability, RunCommit, Select
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.conftest import Lab
from tests.core.lives import LIVES, Life
from tests.core.made import RUN

LIMIT_S = 60
results: list[str] = []


@settings(max_examples=60)
@given(LIVES)
def test_a_snapshot_taken_live_equals_the_fold_later(life: Life) -> None:
    with pytest.MonkeyPatch.context() as patched, Engine(MemoryJournal(), durability=Durability.PROCESS) as engine:
        patched.setattr(run_history, "_EVERY", 4)  # several checkpoints in a short life
        patched.setattr(run_history, "_MOST", 8)
        handle, state, live = RecordedRun(engine, RUN), RunState(RUN), []
        for fact in life.facts:
            before = dict(state.steps)
            evolve(state, fact)
            gone = tuple(row.row_key for place, row in before.items() if place not in state.steps)
            commit = RunCommit(
                run_id=RUN, events=(fact,), run=state.run, steps=tuple(state.steps.values()), removed=gone
            )
            engine.journal.append([commit], durability=Durability.PROCESS)
            live.append(handle.at())
            with engine.reading() as reader:
                assert reader.runs(Select(run_ids=[RUN])) == [state.run]
                latest = {row.step: row.status for row in reader.steps(Select(run_ids=[RUN], is_latest=True))}
            assert live[-1].status == (state.run and state.run.status)
            assert {row.step: row.status for row, _ in live[-1]._latest()} == latest
        cold = [RecordedRun(engine, RUN).at(version) for version in range(1, len(life.facts) + 1)]
        warm = [handle.at(version) for version in range(len(life.facts), 0, -1)][::-1]
        assert live == cold == warm
        assert [each.version for each in cold] == list(range(1, len(cold) + 1))


def taken(run: Any) -> list[Snapshot]:
    return [run.at(version) for version in range(1, run.at().version + 1)]


def test_outputs_statuses_and_ghosts_are_as_they_were(lab: Lab) -> None:
    @step
    def fetch(n: int) -> int:
        return n * 2

    @step
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @flow
    def main(n: int) -> int:
        return total([fetch(each) for each in range(n)])

    main(3)
    run = main.last
    assert run is not None
    first, last = run.at(1), run.at(-1)
    assert (first.status, first.steps().empty, len(first.ghosts)) == ("running", True, 4)
    assert (last.status, last.value(total), last.ghosts, last.waits) == ("completed", 6, (), ())
    middle = next(each for each in taken(run) if len(each.steps()) == 2)
    assert middle.steps()["status"].tolist() == ["completed", "running"]
    assert middle.value("fetch[0]") == 0
    assert [ghost.rpartition(".")[2] for ghost in middle.ghosts] == ["fetch[2]", "total[0]"]
    with pytest.raises(iron.errors.StepNotFound, match=r"fetch\[1\] .* is running and has no output"):
        middle.value("fetch[1]")
    with pytest.raises(iron.errors.StepNotFound, match=r"version \d+ has no step '.*total'"):
        middle.value(total)
    drawn = middle.diagram()
    assert drawn.svg is not None
    assert "total: pending" in drawn.text
    assert middle._repr_mimebundle_().keys() >= {"text/plain", "image/svg+xml"}
    assert "1 of 2 steps done" in repr(middle)


def test_a_result_that_an_edit_replaced_is_still_that_of_its_moment(lab: Lab) -> None:
    results[:] = ["old", "new"]

    @step
    def work() -> str:
        return results.pop(0)

    @flow(on_rerun="continue")
    def main() -> str:
        found = work()
        if found == "old":
            raise OSError(found)
        return found

    with pytest.raises(OSError, match="old"):
        main()
    run = main.last
    assert run is not None
    before = run.at()
    run.resume(rerun=work).wait()
    assert (before.value(work), before.status) == ("old", "failed")
    assert run.at(before.version) == before
    assert (run.at().value(work), run.at().status) == ("new", "completed")
    assert "OSError" in str(before.error)
    assert run.at().error is None


def test_a_moment_is_a_version_an_instant_or_a_position(lab: Lab) -> None:
    clock = lab.simulate_time()

    @step
    def work(n: int) -> int:
        clock.advance(60)
        return n

    @flow
    def main() -> None:
        for n in range(3):
            work(n)

    main()
    main.options(fresh=True)()
    run = main.last
    assert run is not None
    snapshots = taken(run)
    events = run.events()
    assert [each.position for each in snapshots] == events["position"].tolist()
    assert [each.at for each in snapshots] == [each.to_pydatetime() for each in events["at"]]
    assert [run.at(position=each.position) for each in snapshots] == snapshots
    for each in snapshots:
        newest = max(other.version for other in snapshots if other.at <= each.at)
        assert run.at(each.at).version == newest
        assert run.at(each.at.isoformat()).version == newest
    assert run.at(snapshots[0].at + timedelta(seconds=90)).value("work[0]") == 0
    assert run.at(snapshots[2]) is snapshots[2]
    for moment in (
        snapshots[0].at - timedelta(seconds=1),
        snapshots[-1].at + timedelta(seconds=1),
        0,
        len(snapshots) + 1,
    ):
        with pytest.raises(iron.errors.VersionNotFound):
            run.at(moment)
    for position in (0, 1, 10**9):
        with pytest.raises(iron.errors.VersionNotFound, match="is no event of run"):
            run.at(position=position)
    with pytest.raises(ValueError, match="not both"):
        run.at(1, position=2)
    other = main.options(fresh=True).start().wait()
    with pytest.raises(ValueError, match="the snapshot is of run"):
        other.at(snapshots[0])


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_that_goes_on_and_waits_shows_for_what(lab: Lab, *, is_async: bool) -> None:
    @step
    def work() -> int:
        return 1

    @flow
    def plain() -> bool:
        work()
        return iron.approve("Publish?")

    @flow
    async def awaiting() -> bool:
        work()
        return await iron.aio.approve("Publish?")

    run: Any = (awaiting if is_async else plain).start()
    for _ in range(LIMIT_S * 100):
        if run.status == "waiting":
            break
        threading.Event().wait(0.01)
    then = run.at()
    assert (then.status, then.waits) == ("waiting", ("iron.approve[0]",)), then.error
    assert "approve" in then.diagram().text
    run.answer(True)
    assert run.result(timeout_s=LIMIT_S) is True
    assert run.at(then.version) == then
    assert run.at().waits == ()


def test_the_state_of_a_graph_and_of_its_nodes_is_told_by_moment(lab: Lab) -> None:
    graph = iron.Graph.from_yaml("""
graph: triage
nodes:
  - id: doubled
    transform: "{{ {n: input.n} }}"
  - id: told
    log: "{{ doubled.n }}"
""")
    graph(n=2)
    run = graph.last
    assert run is not None
    assert run.at(1).ghosts
    assert run.at().value("doubled") == {"n": 2}
    middle = next(each for each in taken(run) if len(each.steps()) == 1)
    assert middle.steps()["step"].tolist() == ["triage.doubled[0]"]
    assert "triage.told[0]" in middle.ghosts
