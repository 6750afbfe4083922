"""Steps whose bodies run in an executor: where, how many at once, and what becomes of them when nobody wants them."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import DefinitionError, OutcomeUnknown, StepTimeout, WorkerLost
from ironflow_nb.execution.engine import Engine
from tests.executors.conftest import HoldingExecutor
from tests.values.workshop import new_values
from tests.waits.conftest import LIMIT_S, until

pytestmark = pytest.mark.usefixtures("engine")


def thread_name() -> str:
    return threading.current_thread().name.partition("_")[0]


class Client:
    """A client of a cluster, which has a method of that name."""

    def submit(self, *_: Any) -> None: ...


@step
def where(n: int) -> tuple[int, str]:
    return n, thread_name()


@step
async def where_async(n: int) -> tuple[int, str]:
    await asyncio.sleep(0)
    return n, thread_name()


def test_a_body_runs_in_the_executor_of_its_step_however_it_is_called(threads: ThreadPoolExecutor) -> None:
    there, there_async = where.options(executor=threads), where_async.options(executor=threads)

    @flow
    def calls() -> Any:
        direct, submitted = there(0), there.submit(1)
        return [direct, submitted.result(), *there.map([2, 3]), there_async.submit(4).result(), *there_async.map([5])]

    @flow
    async def async_calls() -> Any:
        direct, submitted = await there_async(0), await there.submit(1)
        return [direct, submitted, *await there.map([2, 3]), *await asyncio.gather(there_async(4), there_async(5))]

    expected = [(n, "theirs") for n in range(6)]
    assert calls() == expected
    assert asyncio.run(async_calls()) == expected
    assert [n for n, _ in calls.options(fresh=True)()] == list(range(6))


def test_the_executor_of_a_flow_is_that_of_its_steps_without_one_and_not_of_its_children(
    threads: ThreadPoolExecutor,
) -> None:
    @flow
    def child() -> Any:
        return where(1)[1]

    with ThreadPoolExecutor(1, thread_name_prefix="own") as own:

        @flow
        def main() -> Any:
            return where(1)[1], where.options(executor=own)(2)[1], child(), where_async.submit(3).result()[1]

        assert main.options(executor=threads)()[:2] == ("theirs", "own")
        assert main.options(executor=threads, fresh=True)()[3] == "theirs"
        assert main.options(executor=threads, fresh=True)()[2] not in {"theirs", "own"}
        assert main.options(executor=threads).options(executor=None, fresh=True)()[0] != "theirs"


def test_another_executor_runs_no_step_again_and_nothing_of_it_is_recorded(threads: ThreadPoolExecutor) -> None:
    main = flow(lambda there: there(1), name="main")
    first = main.options(key="k")(where.options(executor=threads))
    assert main.options(key="k")(where) == first
    assert "ThreadPoolExecutor" in where.options(executor=threads).getdoc()
    iron.engine().close()
    assert b"ThreadPoolExecutor" not in Path("journal.db").read_bytes()


def test_a_pool_that_a_function_refers_to_does_not_identify_it(threads: ThreadPoolExecutor) -> None:
    def digest_with(pool: ThreadPoolExecutor) -> object:
        return new_values().digester.digest(lambda n: pool.submit(pow, n, 2).result())

    with ThreadPoolExecutor(3) as other:
        before = digest_with(other)
        other.submit(len, ()).result(LIMIT_S)  # it has a thread now
        assert digest_with(other) == before == digest_with(threads)


def test_what_a_body_in_an_executor_calls_is_called_plainly(threads: ThreadPoolExecutor) -> None:
    inner = flow(lambda: None, name="inner")

    @step(executor=threads)
    def outer() -> list[Any]:
        found: list[Any] = [where(1)[0], where.map([2])[0][0], iron.gather(lambda: 3)]
        for call in (inner, lambda: iron.sleep(1)):
            try:
                call()
            except iron.errors.NotAllowedInStep:
                found.append("refused")
        return found

    assert flow(lambda: outer(), name="main")() == [1, 2, [3], "refused", "refused"]
    assert iron.steps()["name"].to_list() == [outer.name]


def test_a_call_outside_of_a_flow_does_not_use_the_executor(threads: ThreadPoolExecutor) -> None:
    assert where.options(executor=threads)(1)[1] != "theirs"


@pytest.mark.parametrize("given", [5, "processes", where, where_async.fn, Client()])
def test_what_is_no_executor_is_refused_where_it_is_given(given: Any) -> None:
    with pytest.raises(TypeError, match=r"executor is a concurrent\.futures\.Executor, or a function"):
        step(executor=given)(lambda: 1)
    with pytest.raises(TypeError, match="executor is a concurrent"):
        flow(lambda: 1, name="main").options(executor=given)


def test_graphs_have_no_executor(threads: ThreadPoolExecutor) -> None:
    graph = iron.Graph.from_yaml("graph: g\nnodes: [{id: a, log: hello}]")
    with pytest.raises(DefinitionError, match="executor= is of the steps of flows"):
        graph.options(executor=threads)
    graph.options(executor=None)


def test_a_function_that_makes_no_executor_fails_the_step() -> None:
    with pytest.raises(TypeError, match=r"made no concurrent\.futures\.Executor, but 5"):
        flow(lambda: where.options(executor=lambda: 5)(1), name="main")()


def test_an_executor_that_was_shut_down_fails_the_step_at_once_and_says_what_to_do(holding: HoldingExecutor) -> None:
    holding.shutdown()
    there = where.options(executor=holding, retries=5)
    with pytest.raises(WorkerLost, match=r"where\[0\] takes no more work: RuntimeError: cannot schedule.*lambda: Proc"):
        flow(lambda: there(1), name="main")()
    with pytest.raises(WorkerLost):
        asyncio.run(_in_async_flow(where_async.options(executor=holding)))
    assert iron.attempts()["attempt"].to_list() == [1, 1]


async def _in_async_flow(there: Any) -> Any:
    @flow(name="main_async")
    async def main() -> Any:
        return await there(1)

    return await main()


def test_a_function_that_makes_the_executor_is_called_once_and_again_when_that_takes_no_more_work() -> None:
    made: list[ThreadPoolExecutor] = []

    def make() -> ThreadPoolExecutor:
        made.append(ThreadPoolExecutor(2, thread_name_prefix=f"pool{len(made)}"))
        return made[-1]

    there = where.options(executor=make)
    main = flow(lambda: [name for _, name in there.map(range(5))], name="main")
    assert set(main()) == {"pool0"}
    made[0].shutdown()
    assert set(main.options(fresh=True)()) == {"pool1"}
    iron.engine().close()
    with pytest.raises(RuntimeError):
        made[1].submit(int)


def test_the_class_of_an_executor_makes_one() -> None:
    own = threading.get_ident()

    @step(executor=ThreadPoolExecutor)
    def ident(n: int) -> int:
        return threading.get_ident()

    found = flow(lambda: [ident(1), *ident.map([2, 3])], name="main")()
    assert own not in found
    assert len(iron.engine().access.executors._made) == 1


def test_a_map_submits_as_many_as_its_concurrency_and_starts_no_more_threads(holding: HoldingExecutor) -> None:
    there = where.options(executor=holding)
    run = flow(lambda: [n for n, _ in there.map(range(500), concurrency=4)], name="main").start()
    until(lambda: len(holding.pending) == 4)
    before = threading.active_count()

    def perform() -> bool:
        holding.perform()
        return len(holding.held) >= 500

    until(perform)
    until(lambda: holding.perform() is None and run.status == "completed")
    assert run.result(LIMIT_S) == list(range(500))
    assert holding.most_held <= 4
    assert threading.active_count() <= before + 1


def test_what_has_ended_is_recorded_while_the_rest_is_still_in_the_executor(holding: HoldingExecutor) -> None:
    there = where.options(executor=holding)
    run = flow(lambda: len(there.map(range(3), concurrency=3)), name="main").start()
    until(lambda: len(holding.pending) == 3)
    future, call = holding.held[1]
    future.set_result(call())
    until(lambda: run.steps()["status"].to_list() == ["running", "completed", "running"])
    holding.perform()
    assert run.result(LIMIT_S) == 3


def cancelled(run: Any) -> None:
    run.cancel()
    assert run.wait().status == "cancelled"


def paused(run: Any) -> None:
    run.pause()
    assert run.wait().status == "paused"


@pytest.mark.parametrize("stop", [cancelled, paused])
@pytest.mark.parametrize("kind", ["def", "async"])
def test_a_stop_withdraws_what_has_not_begun(holding: HoldingExecutor, kind: str, stop: Any) -> None:
    there: Any = (where if kind == "def" else where_async).options(executor=holding)
    if kind == "def":
        run = flow(lambda: list(there.map(range(9), concurrency=3)), name="main").start()
    else:

        @flow(name="main")
        async def main() -> Any:
            return await asyncio.gather(*(there(n) for n in range(3)))

        run = main.start()
    until(lambda: len(holding.pending) == 3)
    stop(run)
    until(lambda: all(future.cancelled() for future, _ in holding.held))
    assert len(holding.held) == 3


@pytest.mark.parametrize("kind", ["map", "submit", "called", "gather", "async"])
def test_a_step_that_runs_once_and_was_withdrawn_did_not_happen_and_is_begun_when_the_run_goes_on(
    holding: HoldingExecutor, kind: str
) -> None:
    there: Any = (where_async if kind == "async" else where).options(executor=holding, once=True)
    ways: dict[str, Any] = {
        "map": lambda: list(there.map([1, 2])),
        "submit": lambda: [future.result() for future in [there.submit(1), there.submit(2)]],
        "called": lambda: [there(1), (2, "")],
        "gather": lambda: iron.gather(lambda: there(1), lambda: there(2)),
    }

    @flow(name="main")
    async def main_async() -> list[int]:
        return [n for n, _ in await asyncio.gather(there(1), there(2))]

    main: Any = main_async if kind == "async" else flow(lambda: [n for n, _ in ways[kind]()], name="main")
    run = main.start()
    until(lambda: len(holding.pending) == (1 if kind == "called" else 2))
    paused(run)
    until(lambda: all(future.cancelled() for future, _ in holding.held))
    run.resume()

    def perform() -> bool:
        holding.perform()
        return bool(run.status == "completed")

    until(perform)
    assert run.result(LIMIT_S) == [1, 2]


def test_a_cancel_leaves_a_body_that_has_begun_and_discards_what_it_returns(
    holding: HoldingExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    there = where.options(executor=holding)
    run = flow(lambda: there(1), name="main").start()
    until(lambda: holding.pending)
    holding.begin()
    cancelled(run)
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        holding.perform()
    assert "where[0] ended after its run was cancelled; that is discarded" in caplog.text
    assert run.steps()["status"].to_list() == ["interrupted"]


def test_a_pause_waits_for_a_body_that_has_begun(holding: HoldingExecutor) -> None:
    there = where.options(executor=holding)
    main = flow(lambda: there(1)[0], name="main")
    run = main.start()
    until(lambda: holding.pending)
    holding.begin()
    run.pause()
    holding.perform()
    assert run.wait().status == "paused"
    assert run.resume().result(LIMIT_S) == 1
    assert len(holding.held) == 1


def test_after_a_failure_nothing_begins_that_waits_in_the_executor(holding: HoldingExecutor) -> None:
    @step(executor=holding)
    def fails() -> None:
        raise ValueError("no")

    there = where.options(executor=holding)

    @flow
    def main() -> Any:
        others = there.map(range(3), concurrency=3)
        fails()
        return list(others)

    run = main.start()
    until(lambda: len(holding.held) == 4)
    future, call = next(each for each in holding.held if each[1].__name__ == "fails")
    future.set_result(call())
    with pytest.raises(ValueError, match="no"):
        run.result(LIMIT_S)
    assert sum(future.cancelled() for future, _ in holding.held) == 3


def test_a_body_that_is_out_of_time_before_it_begins_is_withdrawn(holding: HoldingExecutor) -> None:
    there = where.options(executor=holding, timeout_s=0.05, retries=iron.Retry(attempts=2, delay_s=0))
    with pytest.raises(StepTimeout, match="its body was withdrawn from its executor"):
        flow(lambda: there(1), name="main")()
    assert iron.attempts()["status"].to_list() == ["timed_out", "timed_out"]
    assert all(future.cancelled() for future, _ in holding.held)
    slow = where_async.options(executor=holding, timeout_s=0.05)
    with pytest.raises(StepTimeout, match="withdrawn"):
        asyncio.run(_in_async_flow(slow))


def test_a_body_that_is_out_of_time_and_can_not_be_ended_is_waited_for_by_the_next_attempt(
    holding: HoldingExecutor,
) -> None:
    there = where.options(executor=holding, timeout_s=0.3, retries=iron.Retry(attempts=2, delay_s=0))
    run = flow(lambda: there(1)[0], name="main").start()
    until(lambda: holding.pending)
    holding.begin()
    until(lambda: run.attempts()["status"].to_list() == ["retrying"])
    assert len(holding.held) == 1
    holding.perform()
    until(lambda: len(holding.held) == 2)
    holding.perform()
    assert run.result(LIMIT_S) == 1
    assert "ended after its time was up" in iron.events()["data"].astype(str).str.cat()


def test_where_a_step_that_runs_once_is_lost_its_outcome_is_unknown(holding: HoldingExecutor) -> None:
    there = where.options(executor=holding, once=True)
    run = flow(lambda: there(1), name="main").start()
    until(lambda: holding.pending)
    holding.begin()
    holding.held[0][0].set_exception(RuntimeError("the worker died"))
    with pytest.raises(OutcomeUnknown):
        run.result(LIMIT_S)
    holding.shutdown()
    with pytest.raises(WorkerLost):  # it never got there
        flow(lambda: there(1), name="main2")()


def test_an_engine_is_closed_without_waiting_for_an_executor(tmp_path: Path, holding: HoldingExecutor) -> None:
    there = where.options(executor=holding)
    with iron.open(tmp_path / "other.db") as engine:
        run = flow(lambda: list(there.map(range(2), concurrency=2)), name="main").start()
        until(lambda: len(holding.pending) == 2)
        holding.held[0][0].set_running_or_notify_cancel()
    assert isinstance(engine, Engine)
    assert holding.held[1][0].cancelled()
    holding.perform()
    with iron.open(tmp_path / "other.db"):
        assert iron.get_run(run.id).status == "interrupted"


def test_a_step_that_names_an_executor_can_be_pickled(threads: ThreadPoolExecutor) -> None:
    import cloudpickle

    there = where.options(executor=threads)
    assert cloudpickle.loads(cloudpickle.dumps(there))(1)[0] == 1


def test_what_can_not_be_sent_to_another_process_is_named(holding: HoldingExecutor) -> None:
    lock = threading.Lock()

    @step(executor=holding)
    def uses(n: int, connection: Any) -> int:
        return n

    with pytest.raises(TypeError, match=r"uses\[0\] can't be sent to its executor, for its argument connection can't"):
        flow(lambda: uses(1, iron.resource(lock)), name="main")()
    assert holding.held == []
