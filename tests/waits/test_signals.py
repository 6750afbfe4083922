"""Signals to a run: each ends one wait, in the order of sending, from any process, before or after the wait began."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import StepStatus
from ironflow_nb.journal.ports import Select
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until


def is_waiting(run: Any, n_waits: int = 1) -> bool:
    return list(run.steps()["status"]).count(StepStatus.WAITING) == n_waits


@flow
def one() -> Any:
    return iron.wait_for("go")


@flow
async def one_async() -> Any:
    return await iron.aio.wait_for("go")


BOTH = pytest.mark.parametrize("waiter", [one, one_async], ids=["def", "async"])


@BOTH
@pytest.mark.parametrize("payload", [None, {"a": (1, 2)}, b"x" * 100_000], ids=["none", "small", "large"])
def test_a_signal_that_comes_after_the_wait_began_ends_it_with_its_payload(
    lab: Lab, waiter: Any, payload: object
) -> None:
    run = waiter.start()
    until(lambda: is_waiting(run))
    run.signal("go", payload)
    assert run.result(LIMIT_S) == payload
    assert run.value("iron.wait_for") == payload


@BOTH
def test_a_signal_that_was_sent_before_is_found_by_the_wait(lab: Lab, waiter: Any) -> None:
    @step
    def gate() -> None:
        until(lambda: sent)

    @flow
    def late() -> Any:
        gate()
        return waiter.fn() if waiter is one else one_async()

    sent: list[int] = []
    if waiter is one_async:
        run = one_async.start()
    else:
        run = late.start()
    run.signal("go", 7)
    sent.append(1)
    assert run.result(LIMIT_S) == 7


def test_the_first_sent_goes_to_the_first_wait_and_each_is_consumed_once(lab: Lab) -> None:
    @flow
    def three() -> list[Any]:
        return [iron.wait_for("go") for _ in range(3)]

    run = three.start()
    for n in range(3):
        run.signal("go", n)
    assert run.result(LIMIT_S) == [0, 1, 2]
    received = run.events().query("type == 'SignalReceived'")
    assert len({data["signal_id"] for data in received["data"]}) == 3


@BOTH
def test_a_signal_with_an_id_is_one_signal_however_often_it_is_sent(lab: Lab, waiter: Any) -> None:
    run = waiter.start()
    for _ in range(2):
        run.signal("go", {"a": 1, "b": {2, 3}}, id="line 4")
    run.signal("go", {"b": {3, 2}, "a": 1}, id="line 4")
    assert run.result(LIMIT_S) == {"a": 1, "b": {2, 3}}
    run.signal("go", {"a": 1, "b": {2, 3}}, id="line 4")
    assert list(run.events()["type"]).count("SignalReceived") == 1
    with pytest.raises(iron.errors.RunFinished):
        run.signal("go", {"a": 1}, id="line 5")
    with pytest.raises(iron.errors.DuplicateKey):
        run.signal("go", {"a": 1}, id="line 4")


def test_an_id_with_another_payload_or_name_is_refused_and_the_first_signal_stays(lab: Lab) -> None:
    @flow
    def two() -> list[Any]:
        return [iron.wait_for("paid"), iron.wait_for("paid")]

    run = two.start()
    run.signal("paid", 20, id="line 4")
    with pytest.raises(
        iron.errors.DuplicateKey, match=r"the id 'line 4' and another payload; .* with an id of its own"
    ):
        run.signal("paid", 21, id="line 4")
    with pytest.raises(iron.errors.DuplicateKey, match=r"and the name 'paid'"):
        run.signal("cancelled", 20, id="line 4")
    other = two.start()
    other.signal("paid", 21, id="line 4")  # of another run
    run.signal("paid", 20, id="line 5")
    assert run.result(LIMIT_S) == [20, 20]
    other.signal("paid", 22)
    assert other.result(LIMIT_S) == [21, 22]


@pytest.mark.parametrize("given", ["", 7, "two\nlines"])
def test_what_is_no_id_of_a_signal_is_refused(lab: Lab, given: Any) -> None:
    run = one.start()
    with pytest.raises(ValueError, match="the id of a signal is a text of one line, not"):
        run.signal("go", id=given)
    run.signal("go")
    assert run.result(LIMIT_S) is None


IDENTIFIED = """
import sys
import ironflow_nb as iron
with iron.open(sys.argv[1]):
    for n in range(20):
        iron.get_run(sys.argv[2]).signal("paid", n, id=f"line {n}")
"""


def test_of_equal_signals_that_two_processes_send_at_once_one_is_received(tmp_path: Path) -> None:
    @flow
    def several() -> list[Any]:
        return [*(iron.wait_for("paid") for _ in range(20)), iron.wait_for("paid", timeout_s=0.01)]

    with iron.open(tmp_path / "journal.db"):
        run = several.start()
        command = [sys.executable, "-c", IDENTIFIED, str(tmp_path / "journal.db"), run.id]
        senders = [subprocess.Popen(command) for _ in range(2)]
        assert [sender.wait(LIMIT_S) for sender in senders] == [0, 0]
        with pytest.raises(iron.WaitTimeout):
            run.result(LIMIT_S)
        assert [run.value(f"iron.wait_for[{n}]") for n in range(20)] == list(range(20))


def test_branches_that_wait_for_one_name_get_one_signal_each(lab: Lab) -> None:
    @flow
    def several() -> list[Any]:
        return sorted(iron.gather(*(partial(iron.wait_for, "go") for _ in range(3))))

    run = several.start()
    until(lambda: is_waiting(run, 3))
    for n in range(3):
        run.signal("go", n)
    assert run.result(LIMIT_S) == [0, 1, 2]


def test_other_branches_go_on_while_one_waits(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        return n

    @flow
    def fan() -> list[Any]:
        return iron.gather(partial(iron.wait_for, "go"), partial(work, 1), partial(work, 2))

    run = fan.start()
    until(lambda: sorted(world.log) == [1, 2])
    run.signal("go", "late")
    assert run.result(LIMIT_S) == ["late", 1, 2]


def test_any_of_several_gives_the_first_sent_and_all_of_them_waits_for_all(lab: Lab) -> None:
    @flow
    def several() -> tuple[Any, Any]:
        return iron.wait_for(iron.any_of("a", "b")), iron.wait_for(iron.all_of("c", "d"))

    run = several.start()
    run.signal("d", 4).signal("b", 2).signal("a", 1).signal("c", 3)
    assert run.result(LIMIT_S) == (("b", 2), {"c": 3, "d": 4})
    with lab.engine.reading() as reader:
        assert [signal.name for signal in reader.signals([run.id])] == ["a"]  # nobody waited for it


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wait_that_nobody_ends_times_out_and_a_replay_meets_that_too(lab: Lab, world: World, is_async: bool) -> None:
    lab.simulate_time()

    @step
    def trip() -> None:
        if world.is_broken:
            raise ConnectionError

    @flow(name="timing")
    def timing() -> str:
        try:
            iron.wait_for("go", timeout_s="1h")
        except TimeoutError as error:
            trip()
            return f"{type(error).__name__} of {getattr(error, 'step', None)}"
        return "came"

    @flow(name="timing")
    async def timing_async() -> str:
        try:
            await iron.aio.wait_for("go", timeout_s="1h")
        except iron.WaitTimeout as error:
            trip()
            return f"{type(error).__name__} of {error.step}"
        return "came"

    waiter: Any = timing_async if is_async else timing
    run = waiter.start()
    with pytest.raises(ConnectionError):
        run.result()
    run.signal("go")  # too late: the timeout has won
    world.is_broken = False
    assert run.resume().result() == "WaitTimeout of iron.wait_for[0]"


def test_a_run_that_a_timeout_has_failed_waits_again_when_it_is_continued(lab: Lab) -> None:
    lab.simulate_time()

    @flow
    def timing() -> Any:
        return iron.wait_for("go", timeout_s="1h")

    run = timing.start()
    with pytest.raises(iron.WaitTimeout, match='waited for the signal "go" until 2030-'):
        run.result()
    run.signal("go", 5)
    assert run.resume().result() == 5
    assert list(run.attempts()["status"]) == [StepStatus.TIMED_OUT, StepStatus.COMPLETED]


def test_what_is_sent_before_the_time_is_over_wins_even_if_it_is_looked_at_later(lab: Lab) -> None:
    clock = lab.simulate_time()

    @step
    def work() -> None:
        clock.advance(7200)

    @flow
    def late() -> Any:
        lab.engine.access.send(late.last.id, "go")  # type: ignore[union-attr]
        return iron.gather(partial(iron.wait_for, "go", timeout_s=3600), work)[0]

    assert late.start().result() is None


def test_a_signal_survives_the_death_of_the_process_that_waited(lab: Lab) -> None:
    @flow
    def mortal() -> Any:
        return iron.wait_for("go"), iron.wait_for("go"), iron.wait_for("go")

    run = mortal.start()
    run.signal("go", 1)
    until(lambda: list(run.steps()["status"]) == [StepStatus.COMPLETED, StepStatus.WAITING])
    lab.die()
    again = iron.get_run(run.id)
    again.signal("go", 2).signal("go", 3)
    assert again.resume().result(LIMIT_S) == (1, 2, 3)


def test_a_signal_to_a_run_that_is_over_or_unknown_is_refused(lab: Lab) -> None:
    @flow
    def done() -> None:
        return None

    done()
    assert done.last is not None
    with pytest.raises(iron.errors.RunFinished, match="is completed, so it waits for no signal any more"):
        done.last.signal("go")
    with pytest.raises(iron.RunNotFound):
        iron.get_run("zzzzzzzzzzzz").signal("go")
    with pytest.raises(ValueError, match="the package's own"):
        done.last.signal("ironflow:cancel")


def test_a_payload_that_nothing_stores_is_refused_and_the_run_waits_on(lab: Lab) -> None:
    run = one.start()
    with pytest.raises(iron.errors.ValueNotStorable):
        run.signal("go", (n for n in "abc"))
    run.signal("go", 1)
    assert run.result(LIMIT_S) == 1


def test_what_is_waiting_when_the_run_is_cancelled_leaves_nothing_in_the_queue_of_work(lab: Lab) -> None:
    run = one.start()
    until(lambda: is_waiting(run))
    run.cancel()
    with pytest.raises(iron.RunCancelled):
        run.result(LIMIT_S)
    with lab.engine.reading() as reader:
        from ironflow_nb.journal.ports import QueueSelect

        assert reader.work(QueueSelect()) == []
        assert [row.status for row in reader.steps(Select())] == [StepStatus.WAITING]
    assert list(run.steps()["status"]) == [StepStatus.INTERRUPTED]


SENDER = """
import sys
import ironflow_nb as iron
iron.use(sys.argv[1])
iron.get_run(sys.argv[2]).signal("go", {"from": "elsewhere"})
"""


@pytest.mark.crash
@BOTH
def test_a_signal_from_another_process_ends_the_wait(tmp_path: Path, waiter: Any) -> None:
    with iron.open(tmp_path / "journal.db"):
        run = waiter.start()
        until(lambda: is_waiting(run))
        sent = [sys.executable, "-c", SENDER, str(tmp_path / "journal.db"), run.id]
        subprocess.run(sent, check=True, timeout=LIMIT_S)
        assert run.result(LIMIT_S) == {"from": "elsewhere"}


def test_a_flow_that_is_made_async_keeps_what_it_has_waited_for(lab: Lab, world: World) -> None:
    @step
    def trip() -> None:
        if world.is_broken:
            raise ConnectionError

    @flow(name="edited")
    def before() -> Any:
        got = iron.wait_for("go")
        trip()
        return got

    run = before.start()
    run.signal("go", 3)
    with pytest.raises(ConnectionError):
        run.result(LIMIT_S)
    world.is_broken = False

    @flow(name="edited")
    async def after() -> Any:
        got = await iron.aio.wait_for("go", timeout_s=60)
        await asyncio.sleep(0)
        trip()
        return got

    assert run.resume().result(LIMIT_S) == 3


def test_the_plan_of_a_run_reuses_its_waits(lab: Lab) -> None:
    run = one.start()
    run.signal("go")
    run.result(LIMIT_S)
    assert [(row.step, row.action) for row in run.plan().itertuples()] == [("iron.wait_for[0]", "reuse")]


def test_the_plan_of_a_run_that_waits_says_so_also_where_nothing_has_waited_yet(tmp_path: Path) -> None:
    program = f"""
import ironflow_nb as iron
with iron.open({str(tmp_path / "journal.db")!r}):
    [run_id] = iron.runs()["run_id"]
    print(iron.get_run(run_id).plan()[["step", "action", "reason"]].to_csv(index=False))
"""
    with iron.open(tmp_path / "journal.db"):
        run = one.start()
        until(lambda: is_waiting(run))
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert '"waits on, for what is left"' in printed
        assert run.plan()["reason"].tolist() == ["waits on, for what is left"]
        run.signal("go")
        run.result(LIMIT_S)
