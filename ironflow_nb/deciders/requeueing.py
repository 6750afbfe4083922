"""Dead letters: which there are, and how they are tried again."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Entry, Reader, Select, Work, WorkSelect


def dead_work(
    reader: Reader, machine: AnyMachine, *, instance: str | None = None, key: str | None = None
) -> list[tuple[Work, str | None]]:
    """Return what is not tried any more, each with its instance; by default of all instances."""
    dead = reader.work(WorkSelect(of=[(machine.kind, machine.name)], key=key, is_dead=True))
    instances = {row.run_id: row.key for row in reader.runs(Select(run_ids={work.run_id for work in dead}))}
    found = ((work, instances.get(work.run_id)) for work in dead)
    return [(work, its_instance) for work, its_instance in found if instance in {None, its_instance}]


def requeue(engine: Engine, machine: AnyMachine, *, instance: str | None, key: str | None) -> int:
    """Take dead work back on the queue, as if it had never been tried; return how much."""
    found: list[Entry] = []

    def act(reader: Reader) -> Sequence[Entry]:
        now = engine.ledger.clock.now()
        again = [
            replace(work, attempts=0, dead_at=None, error_id=None, due_at=now)
            for work, _ in dead_work(reader, machine, instance=instance, key=key)
        ]
        found[:] = [Entry(run_id=work.run_id, facts=(), put_work=(work,)) for work in again]
        return found

    engine.ledger.exchange(act, engine.durability)
    return len(found)
