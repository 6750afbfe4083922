"""Processes that are open do what is due: as soon as they define the flow, and after the death of who was to do it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.execution import Engine, watch_what_is_due
from ironflow_nb.execution.registry import REGISTRY
from tests.triggers.conftest import engine_on, forgotten_definitions
from tests.waits.conftest import until


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine with the clock of the machine."""
    with forgotten_definitions():
        made = engine_on(tmp_path)
        with REGISTRY.replaced(made):
            yield made
        made.close()


EMIT = """
import sys
import ironflow_nb as iron
iron.use(sys.argv[1])
print(iron.emit("order.placed", {"id": 7}))
iron.engine().close()
"""
CLAIM = """
import sys, time
import ironflow_nb as iron
from ironflow_nb.journal.ports import QueueSelect
from ironflow_nb.triggers.claims import claim
engine = iron.use(sys.argv[1])
with engine.reading() as reader:
    (item,) = reader.work(QueueSelect())
print(claim(engine, item).attempts, flush=True)
time.sleep(600)
"""


def program(source: str, engine: Engine) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", source, engine.journal.location]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_process_that_is_open_starts_what_another_one_emits(open_engine: Engine) -> None:
    @flow(on="order.placed")
    def fulfil(order: dict[str, int]) -> int:
        return order["id"]

    watch_what_is_due(open_engine)
    event, _ = program(EMIT, open_engine).communicate()
    until(lambda: fulfil.last is not None and fulfil.last.status == "completed")
    assert fulfil.runs()["key"].tolist() == [f"event order.placed {event.strip()}"]


def test_what_was_emitted_before_is_started_when_a_process_defines_the_flow(open_engine: Engine) -> None:
    event, _ = program(EMIT, open_engine).communicate()

    @flow(on="order.placed")
    def fulfil(order: dict[str, int]) -> int:
        return order["id"]

    watch_what_is_due(open_engine)
    until(lambda: fulfil.last is not None and fulfil.last.status == "completed")
    assert fulfil.runs()["key"].tolist() == [f"event order.placed {event.strip()}"]


def test_what_a_process_claimed_and_did_not_begin_before_it_died_is_started_by_another(open_engine: Engine) -> None:
    @flow(on="order.placed")
    def fulfil(order: dict[str, int]) -> int:
        return order["id"]

    fulfil.subscribe(open_engine)
    REGISTRY.forget("flow", fulfil.name)
    iron.emit("order.placed", {"id": 7})
    with program(CLAIM, open_engine) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        REGISTRY.define(fulfil)
        watch_what_is_due(open_engine)
        assert iron.work()["attempts"].tolist() == [1]
        process.kill()
    until(lambda: fulfil.last is not None and fulfil.last.status == "completed")


def test_who_only_defines_flows_watches_nothing_and_makes_no_journal(open_engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    watch_what_is_due(open_engine)
    assert not open_engine._background._is_watching
    assert not Path(open_engine.journal.location).exists()

    @flow(on="order.placed")
    def fulfil(order: object) -> None:
        pass

    watch_what_is_due(open_engine)
    assert open_engine._background._is_watching
    assert not Path(open_engine.journal.location).exists()


def test_a_schedule_fires_in_a_process_that_defines_the_flow_and_did_not_make_it(open_engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    report.schedule(every_s=0.05)
    REGISTRY.forget("flow", report.name)
    REGISTRY.define(report)
    watch_what_is_due(open_engine)
    until(lambda: len(report.runs()) >= 3)
    report.schedule().remove()
    n_fired = len(report.runs())
    assert iron.schedules().empty
    assert n_fired >= 3


def test_what_another_user_emitted_or_scheduled_starts_nothing_until_it_is_trusted(
    open_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(on="order.placed")
    def fulfil(order: dict[str, int]) -> int:
        return order["id"]

    fulfil.subscribe(open_engine)
    location = open_engine.journal.location
    monkeypatch.setenv("IRONFLOW_KEY", "somebody else")
    with engine_on(Path(location).parent) as other:
        REGISTRY.forget("flow", fulfil.name)
        iron.emit("order.placed", {"id": 1})
        fulfil.schedule(every_s=0.05, args=({"id": 2},))
        assert other.journal.location == location
    monkeypatch.setenv("IRONFLOW_KEY", "me")
    REGISTRY.define(fulfil)
    iron.emit("order.placed", {"id": 3})
    until(lambda: fulfil.last is not None and fulfil.last.status == "completed")
    until(lambda: caplog.text.count("not written by you") == 2)
    assert [iron.get_run(run).result() for run in fulfil.runs()["run_id"]] == [3]
    assert iron.trust() >= 2
    with iron.open(location):
        watch_what_is_due(iron.engine())
        until(lambda: {"1", "2", "3"} <= {*fulfil.runs()["output"].dropna()})
