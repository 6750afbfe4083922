"""Deciders: a command decided, a long instance replayed, an effect performed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.floor import between, committed_rows
from benchmarks.samples import Figures

N_COMMANDS: Final = 300
N_INSTANCES: Final = 30
N_EVENTS: Final = 10_000
N_EFFECTS: Final = 200


@dataclass(frozen=True)
class Total:
    n: int = 0
    status: str = "open"


@dataclass(frozen=True)
class Add:
    id: str
    n: int
    is_charged: bool = False


@dataclass(frozen=True)
class Added:
    n: int


@dataclass(frozen=True)
class Charge:
    n: int


def totals() -> iron.Decider[Total, Add, Added, Charge]:
    """Return a decider that adds, and charges for it with an effect and a timer if it is told to."""
    total: iron.Decider[Total, Add, Added, Charge] = iron.Decider("total", initial=Total())

    @total.evolve
    def evolve(state: Total, event: Added) -> Total:
        return Total(state.n + event.n)

    @total.decide
    def decide(_: Total, command: Add) -> Any:
        added = iron.accept(Added(command.n))
        if not command.is_charged:
            return added
        return added.effect(Charge(command.n)).timer("1h", Add(command.id, 0), key="remind")

    @total.perform(Charge)
    def charge(effect: Charge) -> None:
        pass

    return total


def _decided(folder: Path, *, is_charged: bool) -> float:
    with iron.open(folder / "decisions.db", durability="power"):
        total = totals()
        for n in range(N_INSTANCES):
            total.send(Add(f"t-{n}", 0))
        begun = time.perf_counter()
        for n in range(N_COMMANDS):
            total.send(Add(f"t-{n % N_INSTANCES}", n, is_charged))
        return (time.perf_counter() - begun) / N_COMMANDS


def _beside_rows(folder: Path, *, is_charged: bool) -> tuple[float, float]:
    return between(
        folder,
        lambda here: committed_rows(here, "power", N_COMMANDS),
        lambda here: _decided(here, is_charged=is_charged),
    )


def commands(folder: Path) -> Figures:
    """Measure commands of one event each that survive a power cut."""
    floor, found = _beside_rows(folder, is_charged=False)
    return {"row beside commands, power": floor, "command, power": found}


def commands_with_effects(folder: Path) -> Figures:
    """Measure commands of one event, one effect and one timer each."""
    floor, found = _beside_rows(folder, is_charged=True)
    return {"row beside effects, power": floor, "command with an effect, power": found}


def replay(folder: Path) -> Figures:
    """Measure the state of an instance that a new engine folds from its 10,000 events, none of them spared."""
    path = folder / "replay.db"
    with iron.open(path, durability="process"):
        total = totals()
        for n in range(N_EVENTS):
            total.send(Add("t", n))
    with iron.open(path, durability="process"):
        total, version = totals(), N_EVENTS + 1
        begun = time.perf_counter()
        state = total.state("t", at=version)
        spent = time.perf_counter() - begun
    assert state.n == sum(range(N_EVENTS))
    return {"replay of 10,000 events": spent}


def effects(folder: Path) -> Figures:
    """Measure effects from the queue until they are settled, in power."""

    def performed(here: Path) -> float:
        with iron.open(here / "effects.db", durability="power"):
            total = totals()
            for n in range(N_EFFECTS):
                total.send(Add(f"t-{n % N_INSTANCES}", n, is_charged=True))
            begun = time.perf_counter()
            assert total.run_until_idle() == N_EFFECTS
            return (time.perf_counter() - begun) / N_EFFECTS

    floor, found = between(folder, lambda here: committed_rows(here, "power", N_EFFECTS), performed)
    return {"row beside settling, power": floor, "effect, power": found}
