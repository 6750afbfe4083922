"""The workloads on Burr: actions of an application with its SQLite persister, which saves the state after each.

There is nothing to replay: an application goes on from the last state that was saved.
"""

# mypy: disable-error-code="untyped-decorator, no-any-return"
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from burr.core import Application, ApplicationBuilder, ApplicationContext, Condition, State, action, default
from burr.core.parallelism import MapStates
from burr.core.persistence import SQLitePersister

from benchmarks.samples import Figures

N_STEPS: Final = 1000
N_AT_ONCE: Final = 10
_TEXT: Final = "x" * 180


@action(reads=["n"], writes=["n", "text"])
def work(state: State[Any]) -> State[Any]:
    """Return some 200 bytes."""
    return state.update(n=state["n"] + 1, text=_TEXT)


@action(reads=["n"], writes=[])
def end(state: State[Any]) -> State[Any]:
    """Do nothing."""
    return state


class Beside(MapStates):  # type: ignore[misc]
    """The same action over so many states."""

    def action(self, state: State[Any], inputs: dict[str, Any]) -> Any:
        """Return what is done with each."""
        return work

    def states(self, state: State[Any], context: ApplicationContext, inputs: dict[str, Any]) -> Iterator[State[Any]]:
        """Yield the states."""
        for n in range(N_STEPS):
            yield state.update(n=n)

    def reduce(self, state: State[Any], states: Iterator[State[Any]]) -> State[Any]:
        """Sum what came of them."""
        return state.update(total=sum(found["n"] for found in states))

    @property
    def reads(self) -> list[str]:
        """What it reads."""
        return ["n"]

    @property
    def writes(self) -> list[str]:
        """What it writes."""
        return ["total"]


def _built(folder: Path, name: str, builder: ApplicationBuilder) -> Application:
    # With SQLite's own five seconds ten threads that each write find the database locked now and then.
    settings = {"check_same_thread": False, "timeout": 60}
    persister = SQLitePersister(str(folder / f"{name}.db"), connect_kwargs=settings)
    persister.initialize()
    return (
        builder.with_state(n=0)
        .with_identifiers(app_id=name, partition_key=name)
        .with_state_persister(persister)
        .with_parallel_executor(lambda: ThreadPoolExecutor(N_AT_ONCE))
        .build()
    )


def _timed(application: Application, last: str) -> float:
    begun = time.perf_counter()
    application.run(halt_after=[last])
    return (time.perf_counter() - begun) / N_STEPS


def peer_burr(folder: Path) -> Figures:
    """Measure actions one after the other, and ten at once."""
    sequential = (
        ApplicationBuilder()
        .with_actions(work=work, end=end)
        .with_transitions(("work", "work", Condition.expr(f"n < {N_STEPS}")), ("work", "end", default))
        .with_entrypoint("work")
    )
    beside = ApplicationBuilder().with_actions(beside=Beside()).with_transitions().with_entrypoint("beside")
    return {
        "burr: step": _timed(_built(folder, "sequential", sequential), "end"),
        "burr: beside": _timed(_built(folder, "beside", beside), "beside"),
    }
