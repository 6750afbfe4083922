"""Sending commands to deciders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ironflow_nb.deciders.deciding import Deciding, Order
from ironflow_nb.deciders.decisions import Outcome
from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Entry, Reader

R = TypeVar("R")


def send(
    engine: Engine, decider: AnyMachine, command: Any, *, key: str | None = None, expected_version: int | None = None
) -> Outcome:
    """Decide one command in one transaction."""
    order = Order(command=command, key=key, expected_version=expected_version, execution=engine.execution())
    return exchange(engine, decider, lambda deciding: deciding.decide(order))


def exchange(engine: Engine, decider: AnyMachine, act: Callable[[Deciding], R]) -> R:
    """Let `act` decide whatever it has to in one transaction; return what it returns."""
    found: list[R] = []

    def decided(reader: Reader) -> Sequence[Entry]:
        deciding = Deciding(decider, engine.ledger, reader, engine.durability.value)
        found[:] = [act(deciding)]
        return [*(draft.entry() for draft in deciding.drafts), *deciding.beside]

    engine.ledger.exchange(decided, engine.durability)
    return found[0]
