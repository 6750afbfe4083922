"""The decider of these tests: an order that is placed, charged for, and expires if nobody pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import ironflow_nb as iron


@dataclass(frozen=True)
class Order:
    status: str = "new"
    total: float = 0.0


@dataclass(frozen=True)
class Place:
    id: str
    total: float


@dataclass(frozen=True)
class Pay:
    id: str


@dataclass(frozen=True)
class Expire:
    id: str


@dataclass(frozen=True)
class GiveUp:
    id: str
    why: str


@dataclass(frozen=True)
class Placed:
    total: float


@dataclass(frozen=True)
class Paid:
    at: datetime


@dataclass(frozen=True)
class Expired:
    pass


@dataclass(frozen=True)
class Failed:
    why: str


@dataclass(frozen=True)
class Charge:
    amount: float


Event = Placed | Paid | Expired | Failed
Command = Place | Pay | Expire | GiveUp


def orders(name: str = "order", **options: Any) -> iron.Decider[Order, Command, Event, Charge]:
    """Return a decider of its own, without a handler of its effect."""
    order: iron.Decider[Order, Command, Event, Charge] = iron.Decider(
        name, initial=Order(), terminal={"paid", "expired", "failed"}, **options
    )

    @order.evolve
    def evolve(state: Order, event: Event) -> Order:
        match event:
            case Placed(total=total):
                return replace(state, status="placed", total=total)
            case Paid():
                return replace(state, status="paid")
            case Expired():
                return replace(state, status="expired")
            case Failed():
                return replace(state, status="failed")

    @order.decide
    def decide(state: Order, command: Command, now: datetime) -> Any:
        match state.status, command:
            case "new", Place(total=total):
                placed = iron.accept(Placed(total)).effect(Charge(total))
                return placed.timer("1h", Expire(command.id), key="pay-by")
            case "placed", Pay():
                return iron.accept(Paid(now)).cancel_timer("pay-by")
            case "placed", Expire():
                return iron.accept(Expired())
            case "placed", GiveUp(why=why):
                return iron.accept(Failed(why)).cancel_timer("pay-by")
        return iron.reject(f"{type(command).__name__} is not valid for an order that is {state.status}")

    return order


def charging(order: Any, log: list[Any], fails: Callable[[Charge], bool] = lambda _: False, **options: Any) -> None:
    """Let the decider have a handler, which writes down what it was asked for."""

    @order.perform(Charge, **options)
    def charge(effect: Charge, context: Any) -> Pay:
        log.append((effect.amount, context.attempt, context.idempotency_key))
        if fails(effect):
            raise ConnectionError("the bank is closed")
        return Pay(context.instance)
