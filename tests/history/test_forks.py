"""Forks: runs that go on from a moment of another one, share its prefix, and leave it alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Select
from tests.conftest import Lab
from tests.history.test_edited_runs import (
    LIMIT_S,
    awaited,
    calls,
    deaths,
    done,
    fetch,
    mapped,
    no_calls,
    ran,
    require_rows_of_events,
    tell,
    total,
    wait_until,
)

__all__ = ["no_calls"]


@step(once=True)
def send(text: str) -> str:
    calls.append(f"send {text}")
    return f"sent {text}"


@flow
def mailing(n: int) -> str:
    return send(str(fetch(n)))


def moment_of(run: Any, step_name: str) -> int:
    """Return the version at which the step has completed."""
    events = run.events()
    ended = events[(events["type"] == "StepCompleted") & events["step"].str.endswith(step_name)]
    return int(ended["version"].iloc[0])


@pytest.mark.parametrize("any_flow", [mapped, awaited], ids=["def", "async def"])
def test_a_fork_reuses_the_prefix_and_does_the_rest(lab: Lab, any_flow: Any) -> None:
    run = ran(any_flow, [1, 2, 3])
    before = run.at()
    fork = run.fork(at=moment_of(run, "tell[0]"))
    assert fork.result(timeout_s=LIMIT_S) == 12
    assert done() == ["total [2, 4, 6]"]
    assert (fork.id != run.id, run.at()) == (True, before)
    row = iron.runs(run=fork.id).iloc[0]
    assert (row["origin_run_id"], row["origin_position"]) == (run.id, run.at(moment_of(run, "tell[0]")).position)
    reused = fork.steps().set_index("step")["reason"]
    assert sorted(reused) == ["new", *["reused"] * 4]
    require_rows_of_events(fork)


def test_a_fork_of_now_where_nothing_differs_does_nothing(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    fork = run.fork()
    assert (fork.result(timeout_s=LIMIT_S), done()) == (6, [])
    again = fork.fork()
    assert (again.result(timeout_s=LIMIT_S), done()) == (6, [])
    assert [again.inputs(f"fetch[{n}]") for n in range(2)] == [run.inputs(f"fetch[{n}]") for n in range(2)]


def test_other_results_and_other_arguments_change_what_depends_on_them(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    first = run.fork(replace={"fetch[1]": 100})
    assert (first.result(timeout_s=LIMIT_S), done()) == (102, ["total [2, 100]"])
    second = run.fork(inputs={"pages": [1, 2, 3]})
    assert (second.result(timeout_s=LIMIT_S), sorted(done())) == (12, ["fetch 3", "total [2, 4, 6]"])
    third = first.fork(replace={total: 7})
    assert (third.result(timeout_s=LIMIT_S), done()) == (7, [])
    assert first.arguments["pages"] == [1, 2]
    assert second.arguments["pages"] == [1, 2, 3]
    assert run.result() == 6
    for each in (first, second, third):
        require_rows_of_events(each)


def test_what_the_origin_does_after_the_fork_is_not_the_forks(lab: Lab) -> None:
    run = ran(mapped, [1, 13])
    assert run.status == "failed"
    before = run.at()
    run.inject("fetch[0]", 1000, reason="later")
    fork = run.fork(at=before, replace={"fetch[1]": 5})
    assert fork.result(timeout_s=LIMIT_S) == 7
    run.inject("fetch[1]", 0, reason="later")
    assert run.resume().result(timeout_s=LIMIT_S) == 1000
    assert fork.at().value("fetch[0]") == 2


def test_no_value_file_is_copied(lab: Lab) -> None:
    @step
    def large() -> bytes:
        return b"x" * 5_000_000

    @flow
    def main() -> int:
        return len(large())

    run = ran(main)
    with REGISTRY.engine().reading() as reader:
        before = reader.value_ids("bytes")
    fork = run.fork()
    assert fork.result(timeout_s=LIMIT_S) == 5_000_000
    with REGISTRY.engine().reading() as reader:
        assert reader.value_ids("bytes") == before
        [mine], [its] = (reader.steps(Select(run_ids=[each.id])) for each in (fork, run))
    assert (mine.output_id, mine.origin_run_id) == (its.output_id, run.id)


def test_a_fork_that_dies_goes_on_from_the_same_prefix(lab: Lab) -> None:
    @step
    def may_die() -> str:
        calls.append("may die")
        if deaths:
            deaths.pop()()
        return "alive"

    @flow
    def main() -> str:
        return f"{tell('a')} {may_die()} {tell('b')}"

    deaths.clear()
    run = ran(main)
    moment = moment_of(run, "tell[0]")
    deaths[:], dead = [lab.die_in_flow], lab.engine
    fork = run.fork(at=moment, replace={"tell[1]": "B BY HAND"})
    wait_until(lambda: REGISTRY.engine() is not dead)
    again, origin = iron.get_run(fork.id), iron.get_run(run.id)
    wait_until(lambda: again.status == "interrupted")
    origin.inject("tell[0]", "LATER", reason="it is not the fork's")
    assert again.resume().result(timeout_s=LIMIT_S) == "A alive B BY HAND"
    assert done() == ["may die", "may die"]
    require_rows_of_events(again)


def test_what_runs_once_is_not_done_again_in_a_fork_at_any_moment(lab: Lab) -> None:
    run = ran(mailing, 1)
    for at in (1, moment_of(run, "fetch[0]"), None):
        fork = run.fork(at=at)
        assert fork.result(timeout_s=LIMIT_S) == "sent 2"
        assert not [each for each in done() if "send" in each]


@pytest.mark.parametrize("how", ["fork", "inject"])
def test_what_runs_once_is_asked_about_before_it_is_done_with_other_arguments(lab: Lab, how: str) -> None:
    run = ran(mailing, 1)
    for option, sent, did in (("keep", "sent 2", []), ("rerun", "sent 100", ["send 100"])):
        if how == "fork":
            other: Any = run.fork(replace={fetch: 100}).wait(LIMIT_S)
        else:
            other = ran(mailing.options(fresh=True), 1)
            other.inject(fetch, 100, reason="x")
            other.resume().wait(LIMIT_S)
        assert (other.status, done()) == ("failed", [])
        assert isinstance(other.error, iron.errors.OutcomeUnknown)
        assert f'{option}=["send"]' in str(other.error)
        assert other.resume(**{option: ["send"]}).result(timeout_s=LIMIT_S) == sent
        assert done() == did
        require_rows_of_events(other)


def test_a_moment_at_which_the_outcome_of_what_runs_once_is_not_known_is_refused(lab: Lab) -> None:
    @step(once=True)
    def pay() -> str:
        deaths[0]()

    @flow
    def main() -> str:
        return pay()

    deaths[:] = [lab.die_in_flow]
    with pytest.raises(SystemExit):
        main()
    deaths.clear()
    run = main.last
    assert run is not None
    with pytest.raises(iron.errors.OutcomeUnknown, match=r"pay\[0\] runs once and was at work .* say what it was"):
        run.fork()
    assert len(iron.runs()) == 1
    run.inject(pay, "paid", reason="looked")
    assert run.fork().result(timeout_s=LIMIT_S) == "paid"


def test_a_failure_that_the_flow_went_on_after_is_one_in_the_fork(lab: Lab) -> None:
    @flow
    def main() -> int:
        try:
            found = fetch(13)
        except OSError:
            found = -1
        return total([found, fetch(1)])

    run = ran(main)
    fork = run.fork(replace={"fetch[1]": 7})
    assert (fork.result(timeout_s=LIMIT_S), done()) == (6, ["total [-1, 7]"])


def test_children_and_graphs_are_forked(lab: Lab) -> None:
    @flow
    def inner(n: int) -> int:
        return total([fetch(n), fetch(n + 1)])

    @flow
    def outer(n: int) -> str:
        return tell(f"{inner(n)} of {n}")

    run = ran(outer, 1)
    fork = run.fork(inputs={"n": 2})
    assert fork.result(timeout_s=LIMIT_S) == "10 OF 2"
    assert run.fork().result(timeout_s=LIMIT_S) == "6 OF 1"
    done()
    half = run.fork(at=moment_of(iron.get_run(iron.runs("inner")["run_id"].iloc[-1]), "fetch[0]") + 2)
    assert half.result(timeout_s=LIMIT_S) == "6 OF 1"
    graph = iron.Graph.from_yaml("""
graph: triage
nodes:
  - id: doubled
    transform: "{{ {n: input.n} }}"
  - id: told
    transform: "{{ {m: doubled.n} }}"
output: "{{ told.m }}"
""")
    assert graph(n=2) == 2
    origin = graph.last
    assert origin is not None
    assert origin.fork(replace={"doubled": {"n": 5}}).result(timeout_s=LIMIT_S) == 5
    assert origin.fork(inputs={"n": 9}).result(timeout_s=LIMIT_S) == 9


def test_no_call_joins_a_fork(lab: Lab) -> None:
    run = ran(mapped, [1, 13])
    fork = run.fork(at=1).wait(LIMIT_S)
    assert fork.status == "failed"
    lab.cell()
    with pytest.raises(OSError, match="no such page"):
        mapped([1, 13])
    assert iron.runs()["n_sessions"].tolist() == [1, 2]  # it continues the run, and not the fork


def test_forks_that_can_not_be_are_refused_and_nothing_begins(lab: Lab) -> None:
    run = ran(mapped, [1, 2])
    for at in (0, 99, "2001-01-01"):
        with pytest.raises(iron.errors.VersionNotFound):
            run.fork(at=at)
    for odd in ("fetch[1]", "yesterday"):
        with pytest.raises(ValueError, match="is no moment"):
            run.fork(at=odd)
    with pytest.raises(TypeError, match="was called with pages, and not with page"):
        run.fork(inputs={"page": 1})
    with pytest.raises(iron.errors.StepNotFound):
        run.fork(replace={"nothing": 1})
    with pytest.raises(iron.errors.ValueNotStorable):
        run.fork(replace={tell: threading.Lock()})
    with pytest.raises(TypeError, match="into= is an engine"):
        run.fork(into="other.db")
    assert len(iron.runs()) == 1

    @step
    def item(n: int) -> None:
        run.fork()

    @flow
    def main() -> None:
        list(item.map([1]))

    with pytest.raises(iron.errors.NotAllowedInStep, match=r"can't be forked inside .*item\[0\]"):
        main()

    @flow
    def direct() -> None:
        run.fork()

    with pytest.raises(iron.errors.NotAllowedInStep, match="can't be forked inside a flow"):
        direct()
    assert len(iron.runs("mapped")) == 1


def test_a_run_that_goes_on_can_be_forked(lab: Lab) -> None:
    @flow
    def main() -> str:
        return f"{tell('a')} {iron.approve('Publish?')}"

    run = main.start()
    wait_until(lambda: run.status == "waiting")
    fork = run.fork(replace={"iron.approve": True})
    assert fork.result(timeout_s=LIMIT_S) == "A True"
    assert run.status == "waiting"
    other = run.fork()
    wait_until(lambda: other.status == "waiting")
    other.answer(False)
    assert other.result(timeout_s=LIMIT_S) == "A False"
    run.answer(True)
    assert run.result(timeout_s=LIMIT_S) == "A True"


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)  # the journal in memory exports no runs
@pytest.mark.parametrize("any_flow", [mapped, awaited], ids=["def", "async def"])
def test_a_fork_into_another_journal_takes_its_origin_along(lab: Lab, any_flow: Any, tmp_path: Path) -> None:
    run = ran(any_flow, [1, 2, 3])
    before = run.at()
    with iron.open(tmp_path / "other.db") as other:
        fork = run.fork(at=moment_of(run, "tell[0]"), into=other)
        assert fork.result(timeout_s=LIMIT_S) == 12
        assert done() == ["total [2, 4, 6]"]
        again = run.fork(replace={"fetch[1]": 100}, into=other)
        assert again.result(timeout_s=LIMIT_S) == 108
        assert done() == ["total [2, 100, 6]"]
        assert set(iron.runs()["run_id"]) == {run.id, fork.id, again.id}
        assert iron.compare(run.id, fork.id).changed.empty
        assert iron.verify().ok
    assert (run.at(), len(iron.runs())) == (before, 1)


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_the_copy_of_a_run_that_waits_goes_on_nowhere_and_its_fork_does(lab: Lab, tmp_path: Path) -> None:
    @flow
    def asking(n: int) -> Any:
        return fetch(n), iron.approve("Go on?")

    run = asking.start(1)
    wait_until(lambda: len(iron.waiting()) == 1)
    done()
    with iron.open(tmp_path / "other.db") as other:
        fork = run.fork(into=other)
        wait_until(lambda: fork.id in set(iron.waiting()["run_id"]))
        assert iron.get_run(run.id).status == "cancelled"  # the copy
        assert len(iron.waiting()) == 1
        fork.answer(False)
        assert fork.result(timeout_s=LIMIT_S) == (2, False)
    run.answer(True)
    assert run.result(timeout_s=LIMIT_S) == (2, True)
    assert done() == []
    with (
        iron.open(tmp_path / "other.db") as other,
        pytest.raises(iron.errors.JournalConflict, match="needs more of it"),
    ):
        run.fork(into=other)
