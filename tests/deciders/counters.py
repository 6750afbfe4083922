"""Deciders of these tests that are smaller than an order: a counter, and a heartbeat that sets itself again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ironflow_nb as iron


@dataclass(frozen=True)
class Count:
    n: int = 0
    status: str = "open"


@dataclass(frozen=True)
class Add:
    id: str
    n: int = 1


@dataclass(frozen=True)
class Remind:
    id: str
    delay_s: float
    key: str | None = "bell"
    n: int = 1


@dataclass(frozen=True)
class Forget:
    id: str
    key: str = "bell"


@dataclass(frozen=True)
class Tick:
    id: str
    until: int


@dataclass(frozen=True)
class Ask:
    id: str
    what: str


@dataclass(frozen=True)
class Close:
    id: str


@dataclass(frozen=True)
class Added:
    n: int


@dataclass(frozen=True)
class Closed:
    pass


@dataclass(frozen=True)
class Call:
    what: str


@dataclass(frozen=True)
class Mail:
    what: str


Event = Added | Closed
Command = Add | Remind | Forget | Tick | Ask | Close


def counters(name: str = "counter", **options: Any) -> iron.Decider[Count, Command, Event, Call | Mail]:
    """Return a decider of its own: it counts, and sets and cancels timers as it is told."""
    counter: iron.Decider[Count, Command, Event, Call | Mail] = iron.Decider(
        name, initial=Count(), terminal={"closed"}, **options
    )

    @counter.evolve
    def evolve(state: Count, event: Event) -> Count:
        match event:
            case Added(n=n):
                return replace(state, n=state.n + n)
            case Closed():
                return replace(state, status="closed")

    @counter.decide
    def decide(state: Count, command: Command) -> Any:
        match command:
            case Add(n=n):
                return iron.accept(Added(n)) if n else iron.reject({"n": n})
            case Remind(id=id, delay_s=delay_s, key=key, n=n):
                return iron.accept(Added(0)).timer(delay_s, Add(id, n), key=key)
            case Forget(key=key):
                return iron.accept(Added(0)).cancel_timer(key)
            case Tick(id=id, until=until):
                ticked = iron.accept(Added(1))
                is_last = state.n + 1 >= until
                return ticked.cancel_timer("tick") if is_last else ticked.timer(1, command, key="tick")
            case Ask(what=what):
                return iron.accept(Added(0)).effect(Call(what))
            case Close():
                return iron.accept(Closed())

    return counter
