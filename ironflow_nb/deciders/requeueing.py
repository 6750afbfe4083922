"""Dead letters that are to be tried again."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ironflow_nb.deciders.machine import AnyMachine
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Entry, Reader, Select, WorkSelect


def requeue(engine: Engine, machine: AnyMachine, *, instance: str | None, key: str | None) -> int:
    """Take dead work back on the queue, as if it had never been tried; return how much."""
    found: list[Entry] = []

    def act(reader: Reader) -> Sequence[Entry]:
        now = engine.ledger.clock.now()
        dead = reader.work(WorkSelect(of=[(machine.kind, machine.name)], key=key, is_dead=True))
        keys = {row.run_id: row.key for row in reader.runs(Select(run_ids={work.run_id for work in dead}))}
        found[:] = [
            Entry(
                run_id=work.run_id,
                facts=(),
                put_work=(replace(work, attempts=0, dead_at=None, error_id=None, due_at=now),),
            )
            for work in dead
            if instance in {None, keys.get(work.run_id)}
        ]
        return found

    engine.ledger.exchange(act, engine.durability)
    return len(found)
