"""Sending commands to deciders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ironflow_nb.core.durations import spoken
from ironflow_nb.deciders.deciding import Deciding, Order
from ironflow_nb.deciders.decisions import Accepted, Outcome
from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.deciders.store import Observation, deciders_of
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.recorded_calls import commit_seen
from ironflow_nb.execution.surroundings import say, shell
from ironflow_nb.journal.ports import Entry, Reader

R = TypeVar("R")


def send(
    engine: Engine, decider: AnyMachine, command: Any, *, key: str | None = None, expected_version: int | None = None
) -> Outcome:
    """Decide one command in one transaction."""
    commit_seen()  # a flow may send what its recorded calls gave
    order = Order(command=command, key=key, expected_version=expected_version, execution=engine.execution())
    before: list[Observation] = []

    def act(deciding: Deciding) -> Outcome:
        outcome = deciding.decide(order)
        if not isinstance(outcome, Accepted):
            return outcome
        before[:] = _before(deciding, order)
        n_facts = sum(draft.n_facts for draft in deciding.drafts)
        return replace(outcome, position=deciders_of(deciding.reader).last_position() + n_facts)

    outcome = exchange(engine, decider, act)
    for observation in before:
        _warn(engine, decider, observation)
    return outcome


def _before(deciding: Deciding, order: Order) -> list[Observation]:
    """Return the same command as an earlier cell sent it, or the same cell when it ran before."""
    if order.key is not None or shell() is None:
        return []
    observed = [draft.observed for draft in deciding.drafts if draft.observed is not None]
    found = [deciders_of(deciding.reader).accepted_before(each) for each in observed]
    return [each for each in found if each is not None]


def _warn(engine: Engine, decider: AnyMachine, before: Observation) -> None:
    """Say it, once an execution: who sends a thousand commands again needs one line."""
    execution = engine.execution()
    if decider.warned_in == execution:
        return
    decider.warned_in = execution
    age = spoken(max(engine.ledger.clock.now() - before.at, 0) / 1e6)
    say(
        f"{decider.name} {before.instance}: an equal {before.command} was accepted {age} ago, and has been decided "
        "again; with send(command, key=...) it is decided once"
    )


def exchange(engine: Engine, decider: AnyMachine, act: Callable[[Deciding], R]) -> R:
    """Let `act` decide whatever it has to in one transaction; return what it returns."""
    found: list[R] = []
    deciding_of: list[Deciding] = []

    def decided(reader: Reader) -> Sequence[Entry]:
        deciding = Deciding(decider, engine.ledger, reader, engine.durability.value)
        deciding_of[:] = [deciding]
        found[:] = [act(deciding)]
        return [*(draft.entry() for draft in deciding.drafts), *deciding.beside]

    engine.ledger.exchange(decided, engine.durability)
    deciding_of[0].remember()
    return found[0]
