"""Random attempts, pauses, timeouts and deaths of a step with time limits, against a model of a page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution import REGISTRY
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.cells import World
from tests.conftest import Lab
from tests.execution.test_timeouts import Time, assert_history_is_its_rows

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Program:
    """What the step may do, and what each of its bodies does: how long it takes, and how it ends."""

    timeout_s: float | None
    deadline_s: float | None
    n_attempts: int
    delay_s: int
    bodies: tuple[tuple[str, int], ...]


# No sum of the others meets a limit exactly.
PROGRAMS = st.builds(
    Program,
    timeout_s=st.sampled_from([None, 7.25, 30.25]),
    deadline_s=st.sampled_from([None, 40.5, 100.5]),
    n_attempts=st.integers(1, 4),
    delay_s=st.sampled_from([0, 3, 20]),
    bodies=st.lists(
        st.tuples(st.sampled_from(["returns", "raises", "dies"]), st.sampled_from([0, 5, 8, 35])), max_size=6
    ).map(tuple),
)


@dataclass
class Model:
    """What becomes of a program: the status and reason of each attempt, how many bodies ran, and the end."""

    attempts: list[tuple[str, str]] = field(default_factory=list)
    n_bodies: int = 0
    end: str = ""


def modelled(program: Program) -> Model:
    """Return what becomes of the program."""
    model, now_s, n_failed, reason = Model(), 0.0, 0, "new"
    ends_s = now_s + (program.deadline_s or float("inf"))
    bodies = iter(program.bodies)
    while True:
        left_s = ends_s - now_s
        if left_s <= 0:
            model.attempts.append(("timed_out", reason))
            model.end = "StepTimeout"
            return model
        does, takes_s = next(bodies, ("returns", 0))
        model.n_bodies += 1
        if does == "dies":
            model.attempts.append(("interrupted", reason))
            now_s, n_failed, reason = now_s + takes_s, 0, "interrupted"  # the process is down so long
            continue
        now_s += takes_s
        is_over = takes_s > min(program.timeout_s or left_s, left_s)
        if does == "returns" and not is_over:
            model.attempts.append(("completed", reason))
            model.end = "done"
            return model
        n_failed += 1
        model.attempts.append(("timed_out" if is_over else "failed", reason))
        model.end = "StepTimeout" if is_over else "ConnectionError"
        is_retryable = not is_over or (program.timeout_s or left_s) < left_s
        if n_failed >= program.n_attempts or not is_retryable or now_s + program.delay_s >= ends_s:
            return model
        now_s, reason = now_s + program.delay_s, "timed out" if is_over else "retry"


@contextmanager
def laboratory() -> Iterator[tuple[Lab, Time, World]]:
    """Give a journal in memory, with the time of its engines and the world of its bodies."""
    journal, before = MemoryJournal(), REGISTRY._engine
    clock = Time()
    lab = Lab(lambda: journal, clock=clock)
    lab.begin()
    lab.cell()
    try:
        yield lab, clock, World(lab.die_in_flow)
    finally:
        lab.close()
        REGISTRY._engine = before


def flow_of(program: Program, clock: Time, world: World, way: str) -> iron.Flow[[], str]:
    """Return a flow that calls the step of the program in that way."""

    def body() -> str:
        does, takes_s = program.bodies[len(world.log)] if len(world.log) < len(program.bodies) else ("returns", 0)
        world.did(does)
        if does == "dies":
            assert len(iron.steps())  # to look writes what has begun
            world.die()
        clock.advance(takes_s)
        if does == "raises":
            raise ConnectionError(does)
        return "done"

    retries = iron.Retry(attempts=program.n_attempts, delay_s=program.delay_s, factor=1)
    options: dict[str, Any] = {"timeout_s": program.timeout_s, "deadline_s": program.deadline_s, "retries": retries}

    @step(name="work", **options)
    def work() -> str:
        return body()

    @step(name="work", **options)
    async def work_async() -> str:
        await asyncio.sleep(0)
        return body()

    @flow
    def main() -> str:
        match way:
            case "called":
                return work()
            case "submitted":
                return work.submit().result()
            case _:
                return work_async.submit().result()

    return main


def lived_through(program: Program, lab: Lab, clock: Time, world: World, way: str) -> Model:
    """Let the flow run until it ends, in as many processes as it takes."""
    main = flow_of(program, clock, world, way)
    downs_s = [takes_s for does, takes_s in program.bodies if does == "dies"]
    end = ""
    while not end:
        try:
            end = main()
        except SystemExit:
            clock.advance(downs_s[world.log.count("dies") - 1])
        except Exception as error:
            end = type(error).__name__
    frame = iron.attempts()
    return Model(list(zip(frame["status"], frame["reason"], strict=True)), len(world.log), end)


@pytest.mark.parametrize("way", ["called", "submitted", "async"])
@given(program=PROGRAMS)
@settings(max_examples=40, deadline=None)
def test_a_step_with_time_limits_does_what_the_model_does(way: str, program: Program) -> None:
    assume((program.timeout_s or 0) < (program.deadline_s or float("inf")))
    assume(way != "async" or "dies" not in dict(program.bodies))  # the loop of the dead would go on in this process
    with laboratory() as (lab, clock, world):
        assert lived_through(program, lab, clock, world, way) == modelled(program)
        assert_history_is_its_rows(lab)
