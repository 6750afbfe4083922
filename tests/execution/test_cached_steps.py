"""Steps with cache=: one run computes, the others take the result, from the same process or another one."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb import flow, step
from ironflow_nb.execution.registry import REGISTRY
from tests import cells
from tests.conftest import Lab

pytestmark = pytest.mark.slow

performed: list[object] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def nothing_done_yet() -> Iterator[None]:
    performed.clear()
    gate.set()
    yield
    gate.set()


@step(cache=True)
def fetch(n: int) -> int:
    performed.append(n)
    gate.wait(20)
    if n < 0:
        raise ConnectionError(n)
    return n * 2


@step(cache=True)
async def fetch_async(n: int) -> int:
    performed.append(n)
    await asyncio.sleep(0)
    return n * 2


@flow
def one(n: int) -> int:
    return fetch(n)


@flow
def many(n: int) -> list[int]:
    return list(fetch.map([n, n, n + 1], concurrency=3))


@flow
async def later(n: int) -> list[int]:
    return await asyncio.gather(fetch_async(n), fetch_async(n), fetch_async(n + 1))


def test_another_run_takes_the_result(lab: Lab) -> None:
    assert one(3) == 6
    assert one.options(fresh=True)(3) == 6
    assert performed == [3]
    taken = one.last.steps().iloc[0]
    assert (taken["status"], taken["reason"], taken["output"]) == ("completed", "reused", "6")
    event = one.last.events().query("type == 'StepReused'").iloc[0]["data"]
    assert event["origin_run_id"] == one.runs()["run_id"][1]


def test_other_arguments_and_other_code_are_computed(lab: Lab) -> None:
    assert one(3) == 6
    assert one.options(fresh=True)(4) == 8

    @step(name=fetch.name, cache=True)
    def other(n: int) -> int:
        performed.append("other")
        return n * 3

    @flow
    def main() -> int:
        return other(3)

    assert main() == 9
    assert performed == [3, 4, "other"]


def test_a_failure_is_not_shared(lab: Lab) -> None:
    for _ in range(2):
        with pytest.raises(ConnectionError):
            one.options(fresh=True)(-1)
    assert performed == [-1, -1]


def test_a_result_that_is_too_old_is_computed_again_and_taken_from_then_on(lab: Lab) -> None:
    clock = lab.simulate_time()
    aged = fetch.options(cache="1h")

    @flow
    def main() -> int:
        return aged(3)

    assert [main.options(fresh=True)() for _ in range(2)] == [6, 6]
    clock.advance(3601)
    assert [main.options(fresh=True)() for _ in range(2)] == [6, 6]
    assert performed == [3, 3]


@pytest.mark.parametrize("make", [lambda: many(5), lambda: asyncio.run(_awaited(5))])
def test_equal_calls_side_by_side_are_computed_once(lab: Lab, make: Any) -> None:
    assert make() == [10, 10, 12]
    assert sorted(performed) == [5, 6]


async def _awaited(n: int) -> list[int]:
    return await later(n)


def test_a_run_that_meets_a_computation_in_another_run_waits_for_it(lab: Lab) -> None:
    gate.clear()
    first = one.options(fresh=True).start(3)
    while not performed:
        time.sleep(0.01)
    second = one.options(fresh=True).start(3)
    time.sleep(0.2)
    assert performed == [3]
    assert second.status == "running"
    gate.set()
    assert [first.result(20), second.result(20)] == [6, 6]
    assert performed == [3]


def test_who_waits_for_a_computation_that_fails_computes_itself(lab: Lab) -> None:
    gate.clear()
    first = one.options(fresh=True).start(-1)
    while not performed:
        time.sleep(0.01)
    second = one.options(fresh=True).start(-1)
    time.sleep(0.1)
    gate.set()
    for run in (first, second):
        with pytest.raises(ConnectionError):
            run.result(20)
    assert performed == [-1, -1]


def test_who_waits_can_be_cancelled(lab: Lab) -> None:
    gate.clear()
    first = one.options(fresh=True).start(3)
    while not performed:
        time.sleep(0.01)
    second = one.options(fresh=True).start(3)
    time.sleep(0.1)
    second.cancel()
    second.wait(20)
    assert second.status == "cancelled"
    gate.set()
    assert first.result(20) == 6


def test_the_claim_of_a_process_that_died_binds_nobody(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\nimport ironflow_nb as iron\nfrom ironflow_nb import flow, step\n\n"
        "@step(name='slow', cache=True)\ndef slow():\n    print('computing', flush=True)\n"
        "    time.sleep(float(sys.argv[2]))\n    return 'done'\n\n"
        "@flow\ndef main():\n    return slow()\n\n"
        "iron.use(sys.argv[1])\nprint(main.options(fresh=True)(), flush=True)\n"
    )

    def begin(seconds: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), str(tmp_path / "journal.db"), seconds]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with begin("60") as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == "computing\n"
        with begin("0") as waiting:
            time.sleep(1.5)
            assert waiting.poll() is None, "it waits for the other one"
            dying.kill()
            dying.wait()
            assert waiting.communicate(timeout=30)[0] == "computing\ndone\n"


def test_what_can_not_be_read_any_more_is_computed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(3) == 6
    ledger = REGISTRY.engine().access
    monkeypatch.setattr(type(ledger), "value", lambda *_: None)
    assert one.options(fresh=True)(3) == 6
    assert performed == [3, 3]


@pytest.mark.parametrize("wrong", [0, -5, "soon", object()])
def test_cache_is_true_or_a_time(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        step(cache=wrong)(lambda: 1)


def test_a_step_that_is_asked_for_again_by_name_is_computed_again(lab: Lab) -> None:
    @flow
    def main() -> int:
        return fetch(7)

    assert main() == 14
    run: Any = main.last
    assert run.resume(rerun=[fetch]).result(10) == 14
    assert performed == [7, 7]
    lab.cell()
    assert main() == 14
    assert performed == [7, 7]


def test_a_step_that_is_asked_for_again_is_computed_even_if_that_is_interrupted_first(lab: Lab) -> None:
    @step(cache=True)
    def interrupt_once(n: int) -> int:
        performed.append(n)
        if len(performed) == 2:
            raise KeyboardInterrupt
        return n

    @flow
    def main() -> int:
        return interrupt_once(7)

    assert main() == 7
    run: Any = main.last
    run.resume(rerun=[interrupt_once]).wait(10)
    assert run.status == "interrupted"
    assert main.options(fresh=True)() == 7, "for all runs there is a result again"
    assert run.resume().result(10) == 7
    assert performed == [7, 7, 7, 7]


def test_what_is_not_tracked_is_named_once_where_results_are_reused(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def some() -> list[int]:
        return [fetch(1), fetch(2)]

    some()
    lab.cell()
    caplog.set_level("INFO", "ironflow_nb")
    assert some() == [2, 4]
    assert performed == [1, 2]
    said = [record.message for record in caplog.records if "are reused" in record.message]
    assert len(said) == 1
    assert "not tracked" in said[0]
    assert "performed" in said[0]


def double(n: int) -> int:
    return 2 * n


@step(cache=True)
def evaluated(n: int) -> int:
    return int(eval("double(n)"))


@step(cache=True)
def among_globals(n: int) -> int:
    return int(globals()["double"](n))


@step(cache=True)
def imported(n: int) -> int:
    return int(importlib.import_module(__name__).double(n))


@step(cache=True)
def among_modules(n: int) -> int:
    return int(sys.modules[__name__].double(n))


@step(cache=True)
def of_a_module(n: int) -> int:
    name = "itertools"
    return int(getattr(cells, name).__name__ == name) * 2 * n


@step(cache=True)
def by_a_class(n: int) -> int:
    return n * (2 + len(cells.World.__subclasses__()))


@step(cache=True)
def of_an_object(n: int) -> int:
    return 2 * int(getattr(n, "real", 0))


LOOKUPS = [
    (evaluated, "eval"),
    (among_globals, "globals"),
    (imported, "importlib.import_module"),
    (among_modules, "sys.modules"),
    (of_a_module, "cells"),
    (by_a_class, "World.__subclasses__"),
    (of_an_object, None),
]


@pytest.mark.parametrize(("work", "name"), LOOKUPS, ids=lambda each: getattr(each, "name", each))
def test_code_that_a_text_leads_to_is_named_where_results_are_reused(
    lab: Lab, caplog: pytest.LogCaptureFixture, work: Any, name: str | None
) -> None:
    @flow
    def some() -> list[int]:
        return [work(1), work(2)]

    assert some() == [2, 4]
    lab.cell()
    caplog.set_level("INFO", "ironflow_nb")
    assert some() == [2, 4]
    said = [message for message in caplog.messages if "are reused" in message]
    assert len(said) == (name is not None)
    assert name is None or (name in said[0] and "name it in depends=" in said[0])
