"""Circuit breakers: after failures nothing begins for a while, in any process; nothing fails of it; a probe decides."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.steps.breaker_gate import BreakerGate
from ironflow_nb.testing.clock import START_AT, SimClock
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

AT_ONCE = iron.Retry(attempts=50, delay_s=0)
SERVICE: dict[str, Any] = {}
CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def service() -> None:
    SERVICE.clear()
    SERVICE.update({"n_to_fail": 0, "inside": 0, "most": 0})
    CALLS.clear()


LOCK = threading.Lock()


def ask(n: int) -> int:
    with LOCK:
        CALLS.append(n)
        if SERVICE["n_to_fail"] > 0:
            SERVICE["n_to_fail"] -= 1
            raise ConnectionError(n)
    return n


api = iron.Breaker("api", failures=3, open_s=60)


@step(breaker=api, retries=AT_ONCE)
def call(n: int) -> int:
    return ask(n)


@step(breaker=api, retries=AT_ONCE)
async def call_async(n: int) -> int:
    await asyncio.sleep(0)
    return ask(n)


@flow
def direct() -> list[int]:
    return [call(1), call(2)]


@flow
def mapped() -> list[int]:
    return list(call.map(range(1, 3), concurrency=1))


@flow
def submitted() -> list[int]:
    return [call_async.submit(1).result(), call.submit(2).result()]


@flow
async def awaited() -> list[int]:
    return [await call_async(1), await call.submit(2)]


@pytest.mark.parametrize("main", [direct, mapped, submitted, awaited])
def test_while_it_is_open_calls_wait_and_nothing_fails(lab: Lab, main: Any) -> None:
    lab.simulate_time()
    SERVICE["n_to_fail"] = 4  # the third one opens it, the probe opens it again
    assert main.start().result() == [1, 2]
    began = main.last.attempts()["started_at"].sort_values().diff().dt.total_seconds()
    assert sorted(round(each) for each in began if each >= 59) == [60, 60]
    assert len(CALLS) == 6
    assert list(iron.breakers()["status"]) == ["closed"]
    assert list(iron.breakers()["n_failed"]) == [0]
    assert api.status == "closed"


class SetBackOnce(SimClock):
    """A clock that is set back by a day as soon as somebody waits after the third call."""

    is_set_back = False

    def set_back(self) -> None:
        if len(CALLS) == 3 and not self.is_set_back:
            self.is_set_back = True
            self.advance(-86400.0)

    def wait(self, *args: Any, **options: Any) -> bool:
        self.set_back()
        return super().wait(*args, **options)

    async def wait_on_loop(self, *args: Any, **options: Any) -> bool:
        self.set_back()
        return await super().wait_on_loop(*args, **options)


@pytest.mark.parametrize("main", [direct, mapped, submitted, awaited])
def test_it_does_not_wait_for_the_old_time_of_a_clock_that_was_set_back(lab: Lab, main: Any) -> None:
    clock = lab.simulate_time()
    clock.__class__ = SetBackOnce
    SERVICE["n_to_fail"] = 3
    began_s = clock.monotonic()
    assert main.start().result() == [1, 2]
    assert clock.now() < START_AT
    assert 60.0 <= clock.monotonic() - began_s <= 125.0


def test_a_success_forgets_failures_and_what_can_not_be_tried_again_is_none(lab: Lab) -> None:
    @step(breaker=api)
    def refused(n: int) -> None:
        raise iron.NotRetryable("no such page")

    @flow
    def main() -> None:
        SERVICE["n_to_fail"] = 2
        call(1)
        SERVICE["n_to_fail"] = 2
        call(2)
        for n in range(5):
            with pytest.raises(iron.NotRetryable):
                refused(n)
        SERVICE["n_to_fail"] = 2
        call(3)

    main()
    frame = iron.breakers().iloc[0]
    assert (frame["name"], frame["status"], frame["n_failed"], frame["failures"]) == ("api", "closed", 0, 3)
    assert frame["open_s"] == 60


def test_one_attempt_decides_while_all_others_wait(lab: Lab) -> None:
    clock = lab.simulate_time()
    is_free = threading.Event()

    @step(breaker=api, retries=AT_ONCE)
    def slow(n: int) -> int:
        with LOCK:
            is_probe = SERVICE["n_to_fail"] == 0 and not SERVICE.get("is_up")
            SERVICE["inside"] += is_probe
            SERVICE["most"] = max(SERVICE["most"], SERVICE["inside"])
        if is_probe:
            assert is_free.wait(LIMIT_S)
            SERVICE["is_up"] = True
        return ask(n)

    @step(breaker=api, retries=iron.Retry(attempts=3, delay_s=0))
    def opens() -> None:
        ask(0)

    @flow
    def main() -> list[int]:
        with pytest.raises(ConnectionError):
            opens()
        return list(slow.map(range(6), concurrency=3))

    SERVICE["n_to_fail"] = 3
    run = main.start()
    until(lambda: SERVICE["inside"] or clock.advance(1))
    until(lambda: list(iron.breakers()["status"]) == ["half-open"])
    assert iron.breakers()["probe"].iloc[0].startswith(run.id)
    is_free.set()
    assert run.result(LIMIT_S) == list(range(6))
    assert SERVICE["most"] == 1


def test_a_mapped_call_asks_once_whether_it_may_begin(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins it has asked. A second answer could be no, and a thread of the pool would wait for the breaker."""
    left_s, asked = BreakerGate.left_s, []

    def asking(gate: BreakerGate) -> float | None:
        asked.append(gate)
        return left_s(gate)

    monkeypatch.setattr(BreakerGate, "left_s", asking)

    @flow
    def main() -> list[int]:
        return list(call.map(range(6), concurrency=3))

    assert main() == list(range(6))
    assert len(asked) == 6


def test_a_reset_lets_those_begin_that_wait(lab: Lab) -> None:
    @flow
    def main() -> int:
        return call(1)

    SERVICE["n_to_fail"] = 3
    run = main.start()
    until(lambda: "waits for breaker api" in run.diagram().text)
    iron.Breaker("api").reset()
    assert run.result(LIMIT_S) == 1
    assert iron.breakers()["failures"].tolist() == [api.failures]
    iron.Breaker("never asked").reset()
    assert list(iron.breakers()["name"]) == ["api"]


def test_a_run_that_waits_for_a_breaker_can_be_cancelled(lab: Lab) -> None:
    SERVICE["n_to_fail"] = 3
    run = mapped.start()
    until(lambda: api.status == "open")
    run.cancel().wait(LIMIT_S)
    assert run.status == "cancelled"
    assert len(CALLS) == 3


def test_the_probe_of_a_process_that_died_is_taken_over(lab: Lab) -> None:
    clock = lab.simulate_time()
    SERVICE["n_to_fail"] = 3
    has_died: list[int] = []

    @step(breaker=api, retries=AT_ONCE)
    def dies(n: int) -> int:
        if SERVICE["n_to_fail"] == 0 and not has_died:
            has_died.append(1)
            lab.die_in_flow()
        return ask(n)

    @flow
    def main() -> int:
        return dies(1)

    with pytest.raises(SystemExit):
        main()
    clock.advance(1)
    assert list(iron.breakers()["status"]) == ["half-open"]
    assert main() == 1
    assert api.status == "closed"


def test_two_settings_of_one_name_are_refused_in_a_run_and_beside_a_living_process(lab: Lab) -> None:
    other = call.options(breaker=iron.Breaker("api", failures=4, open_s=60), name="other")

    @flow
    def main() -> None:
        call(1)
        with pytest.raises(
            DefinitionError, match=r"failures=4, open_s=60 for other.* and failures=3, open_s=60 for an"
        ):
            other(2)

    main()
    lab.cell()

    @flow
    def edited() -> int:
        return other(3)

    assert edited() == 3  # the cell was edited
    assert list(iron.breakers()["failures"]) == [4]


def test_what_a_breaker_can_not_be_is_refused() -> None:
    with pytest.raises(ValueError, match="failures of breaker 'api' is a whole number from 1, not 0"):
        iron.Breaker("api", failures=0)
    with pytest.raises(ValueError, match="breaker is a name or"):
        step(breaker=3)(ask)  # type: ignore[call-overload]
    assert step(breaker="api")(ask).spec.breaker.failures == 5


def test_nodes_of_graphs_share_it(lab: Lab) -> None:
    lab.simulate_time()
    text = """
graph: g
nodes:
  - id: asked
    python: ask
    with: {n: 1}
    retry: {attempts: 9, delay_s: 0}
    breaker: {name: api, failures: 3, open_s: 60}
"""
    SERVICE["n_to_fail"] = 4
    graph = iron.Graph.from_yaml(text, functions={"ask": ask})
    assert graph() == 1
    began = graph.last.attempts()["started_at"].diff().dt.total_seconds()
    assert sorted(round(each) for each in began if each >= 59) == [60, 60]


PROGRAM = """
import os, sys, time
import ironflow_nb as iron
from ironflow_nb import flow, step

def write(line):
    with open("log", "a") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()} {line}\\n")

@step(breaker=iron.Breaker("api", failures=2, open_s=0.2), retries=iron.Retry(attempts=500, delay_s=0))
def call(n):
    write(f"begins {n}")
    is_down = not os.path.exists("up")
    if is_down:
        time.sleep(0.05)
    write(f"ends {n}")
    if is_down:
        raise ConnectionError(n)
    return n

@flow
def main():
    return list(call.map(range(3), concurrency=2))

iron.use("journal.db")
print(main())
"""


@pytest.mark.crash
def test_over_several_processes_there_is_one_probe_at_a_time_whichever_is_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment = own | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with iron.open(tmp_path / "journal.db"):
        iron.runs()
        call.fn(0)

    def program() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "program.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    processes = [program() for _ in range(3)]
    log = tmp_path / "log"

    def lines() -> list[list[str]]:
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def kill_probe() -> bool:
        """Kill the process whose probe is at work, if one is; another continues its run."""
        _, pid, what, n = lines()[-1]
        found = [each for each in processes if str(each.pid) == pid and what == "begins"]
        for process in found:
            killed_at = time.monotonic_ns()  # before: another probe may begin at once
            process.kill()
            process.communicate()
            with log.open("a") as file:
                file.write(f"{killed_at} {pid} ends {n}\n")
            processes[processes.index(process)] = program()
        return bool(found)

    until(lambda: len(lines()) >= 30)
    for n_lines in (30, 40):
        until(lambda: len(lines()) >= n_lines and kill_probe())  # noqa: B023 -- it is called at once
    until(lambda: len(lines()) >= 60)
    (tmp_path / "up").touch()
    for process in processes:
        assert process.communicate(timeout=LIMIT_S)[0].strip() == "[0, 1, 2]"
    found = sorted(lines(), key=lambda line: int(line[0]))[:60]
    # The first ones of each process begin before any has failed; all later ones are probes.
    n_first = max(n for n, line in enumerate(found[:30]) if line[1] not in {each[1] for each in found[:n]}) + 12
    inside: set[tuple[str, str]] = set()
    for n, (_, pid, what, number) in enumerate(found):
        inside = inside | {(pid, number)} if what == "begins" else inside - {(pid, number)}
        assert n < n_first or len(inside) <= 1
