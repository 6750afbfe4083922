"""Death before and after every commit of deciders: deciding, claiming, settling, giving up, firing."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.store import deciders_of
from ironflow_nb.journal.ports import Durability, Journal, QueueSelect, Reader, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, process_on
from tests.contracts.histories import folded
from tests.deciders.counters import Ask, Call, Tick, counters
from tests.deciders.orders import GiveUp, Pay, Place, charging, orders

pytestmark = pytest.mark.crash

Handled = defaultdict[str, list[str]]
Script = Callable[[Handled], None]


def a_sold_order(handled: Handled) -> None:
    """Let an order be placed and charged for: decide, claim, settle."""
    order = orders()
    charging(order, log := [])
    try:
        order.send(Place("o-1", 5.0), key="placed")
        order.run_until_idle(wait="2h")
    finally:
        handled["Charge"] += [key for _, _, key in log]
    assert order.state("o-1").status == "paid"


def a_refused_order(handled: Handled) -> None:
    """Let the effect fail for good, and its dead letter be answered."""
    order = orders()
    log: list[Any] = []
    answered = {"on_dead_letter": lambda effect, error: GiveUp("o-1", str(error))}
    charging(order, log, lambda _: True, attempts=3, **answered)
    try:
        order.send(Place("o-1", 5.0), key="placed")
        order.run_until_idle(wait="2h")
    finally:
        handled["Charge"] += [key for _, _, key in log]
    assert order.state("o-1").status == "failed"
    assert order.send(Pay("o-1")) == iron.AlreadyCompleted("o-1")
    assert order.requeue() in {0, 1}
    charging(order, [])
    order.run_until_idle()


def an_expired_order(handled: Handled) -> None:
    """Let nobody pay: the timer fires."""
    order = orders()
    order.send(Place("o-1", 5.0), key="placed")
    order.run_until_idle(wait="2h")
    assert order.state("o-1").status == "expired"
    charging(order, [])
    order.run_until_idle()


def a_heartbeat_and_several_effects(handled: Handled) -> None:
    """Let timers set themselves again while effects of several instances are performed."""
    counter = counters()

    @counter.perform(Call)
    def call(effect: Call, context: Any) -> None:
        handled[effect.what].append(context.idempotency_key)

    counter.send(Tick("t", until=4), key="first tick")
    for n in range(3):
        counter.send(Ask(f"c-{n % 2}", f"call {n}"), key=f"ask {n}")
    counter.run_until_idle(wait=10)
    assert counter.state("t").n == 4
    counter.run_until_idle(wait=301)
    assert {key: len(set(keys)) for key, keys in handled.items()} == {f"call {n}": 1 for n in range(3)}


SCRIPTS = {
    each.__name__: each for each in (a_sold_order, a_refused_order, an_expired_order, a_heartbeat_and_several_effects)
}


def died(script: Script, journal: Journal, durability: Durability, clock: SimClock, at: int, moment: str) -> bool:
    """Run the script until the process dies, then again in others until it ends; return whether it died at all."""
    handled: Handled = defaultdict(list)
    dying = DyingJournal(journal, at_commit=at, moment=moment)
    with process_on(dying, durability, clock) as engine:
        with contextlib.suppress(Died):
            script(handled)
        owner = engine.owner
        abandon(engine)
    with process_on(journal, durability, clock) as engine:
        engine.journal.release(owner)  # its process is this one, which lives; without a lease it counts as dead
        if dying.is_dead:
            script(handled)
        with engine.reading() as reader:
            sound(reader)
    for what, keys in handled.items():
        assert len(set(keys)) == 1, f"{what} has several keys"
    return dying.is_dead


def sound(reader: Reader) -> None:
    """Check what holds of every journal when all is done."""
    assert reader.work(QueueSelect()) == []
    events = reader.events(Select())
    assert [row.position for row in events] == [*range(1, len(events) + 1)]
    for run in reader.runs(Select()):
        mine = [row for row in events if row.run_id == run.run_id]
        assert [row.version for row in mine] == [*range(1, len(mine) + 1)]
        assert folded(events, run.run_id).run == run
        kinds = Counter(row.type for row in mine)
        assert kinds["EffectRequested"] <= kinds["EffectSettled"]
    accepted = [each for each in deciders_of(reader).observations() if each.outcome == "accepted"]
    domain = [row for row in events if "." in row.type]
    assert sum(each.n_events for each in accepted) == len(domain)
    keyed = [each.command_key for each in deciders_of(reader).observations() if each.command_key is not None]
    assert len(keyed) == len(set(keyed))


def places(kind: str, folder: Path) -> Iterator[Journal]:
    number = 0
    while True:
        number += 1
        yield MemoryJournal() if kind == "memory" else SqliteJournal(folder / str(number) / "journal.db")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("kind", "durability"), [("sqlite", "power"), ("sqlite", "process"), ("memory", "process")])
@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_lost_or_half_there_wherever_a_process_dies(
    tmp_path: Path, name: str, kind: str, durability: str
) -> None:
    journals = places(kind, tmp_path)
    for moment in MOMENTS:
        n_commits = 1
        while died(SCRIPTS[name], next(journals), Durability(durability), SimClock(), n_commits, moment):
            n_commits += 1
        assert n_commits > 3
