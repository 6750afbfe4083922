"""Performing what is due: in the calling thread until nothing is left, or beside it."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Final

from ironflow_nb.deciders.deciding import EFFECT
from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.deciders.performing import Performer
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.surroundings import logger, say
from ironflow_nb.journal.ports import WorkSelect

POLL_S: Final = 0.1
"""How often work in the background looks whether something is due."""


def run_until_idle(engine: Engine, machine: AnyMachine, *, wait_s: float = 0.0) -> int:
    """Perform what is due, and what becomes due within `wait_s`; return how many things were performed or tried."""
    performer = Performer(engine, {machine.name: machine})
    clock = engine.ledger.clock
    deadline = clock.now() + round(wait_s * 1e6)
    n_performed = 0
    while True:
        while performer.perform_one():
            n_performed += 1
        due_at = performer.next_due_at()
        if due_at is None or due_at > deadline:
            break
        clock.wait(engine.threads.wakeup(), max(due_at - clock.now(), 0) / 1e6 + 0.001, is_idle=True)
    _say_unperformed(engine, machine)
    return n_performed


def _say_unperformed(engine: Engine, machine: AnyMachine) -> None:
    with engine.reading() as reader:
        pending = reader.work(WorkSelect(of=[(machine.kind, machine.name)], kind=EFFECT, is_dead=False))
    names = Counter(name for work in pending if (name := work.key.partition("/")[0]) not in machine.handlers)
    for name, n_effects in names.items():
        effects = "1 effect" if n_effects == 1 else f"{n_effects} effects"
        say(f"{machine.name}: {effects} {name} can't be performed here; define @{machine.name}.perform({name})")


class Background:
    """A thread that performs what is due for one decider until it is stopped, or its engine closed."""

    def __init__(self, engine: Engine, machine: AnyMachine) -> None:
        self._engine = weakref.ref(engine)
        self._threads = engine.threads
        self._performer: Performer | None = Performer(engine, {machine.name: machine})
        self._clock = engine.ledger.clock
        self._wakeup = engine.threads.wakeup()
        self._name = machine.name
        self.is_stopped = False
        engine.threads.spawn(f"ironflow-performer-{machine.name}", self._run)

    def nudge(self) -> None:
        """Let it look at once."""
        self._wakeup.set()

    def stop(self) -> None:
        """Let it end after what it is performing."""
        self.is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        while not self.is_stopped and self._performer is not None:
            try:
                while not self.is_stopped and self._performer.perform_one():
                    pass
            except IronflowError as error:
                if self._is_closed():
                    return
                logger().warning("decider %s: %s", self._name, error)
            self._clock.wait(self._wakeup, POLL_S)

    def _is_closed(self) -> bool:
        engine = self._engine()
        return engine is None or engine.ledger.is_closed
