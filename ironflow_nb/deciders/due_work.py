"""Due effects and timers: performed in the calling thread or in the background; and dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ironflow_nb.deciders.commands import WorkKind
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.effects import Performer
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import FOREIGN, Engine, advice, logger, say
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit, Select

POLL_S: Final = 0.1
"""Seconds between two looks of a background thread at the queue."""


def run_until_idle(engine: Engine, decider: AnyDecider, *, wait_s: float = 0.0) -> int:
    """Perform work that is due or becomes due within `wait_s`; return the number of attempts.

    An interrupt ends it before an attempt, in a handler, or while it waits; claims are released.
    """
    with engine.interrupts.taken():
        return _run_until_idle(engine, decider, wait_s)


def _run_until_idle(engine: Engine, decider: AnyDecider, wait_s: float) -> int:
    performer = Performer(engine, decider)
    clock = engine.clock
    deadline_s = clock.monotonic() + wait_s
    n_performed = performer.perform_all()
    while (due_at := performer.next_due_at()) is not None:
        pause_s, left_s = max(due_at - clock.now(), 0) / 1e6, deadline_s - clock.monotonic()
        if left_s < pause_s:
            break
        wakeup = engine.threads.wakeup()
        with engine.interrupts.waiting(wakeup):
            clock.wait(wakeup, pause_s + 0.001, is_idle=True)
        n_performed += performer.perform_all()
    _report_unperformed(engine, decider)
    if performer.foreign:
        say(foreign_work_message(engine, decider, len(performer.foreign)))
    return n_performed


def _report_unperformed(engine: Engine, decider: AnyDecider) -> None:
    with engine.reading() as reader:
        pending = reader.work(QueueSelect(of=[(decider.kind, decider.name)], kind=WorkKind.EFFECT, is_dead=False))
    names = Counter(name for work in pending if (name := work.key.partition("/")[0]) not in decider.handlers)
    for name, n_effects in names.items():
        effects = "1 effect" if n_effects == 1 else f"{n_effects} effects"
        say(f"{decider.name}: {effects} {name} can't be performed here; define @{decider.name}.perform({name})")


def foreign_work_message(engine: Engine, decider: AnyDecider, n: int) -> str:
    """Return the message about effects and timers that another user has queued."""
    things = "1 effect or timer is" if n == 1 else f"{n} effects and timers are"
    return f"{decider.name}: {things} {FOREIGN} and not performed; {advice(engine.journal.location)}"


class DueWorkThread:
    """A thread that performs the due work of one decider until it is stopped or the engine is closed."""

    def __init__(self, engine: Engine, decider: AnyDecider) -> None:
        self.engine = engine
        self._decider = decider
        self._performer = Performer(engine, decider)
        self._clock = engine.clock
        self._wakeup = engine.threads.wakeup()
        self._name = decider.name
        self.is_stopped = False
        engine.threads.spawn(f"ironflow-performer-{decider.name}", self._run)

    def wake(self) -> None:
        """Look at the queue at once."""
        self._wakeup.set()

    def stop(self) -> None:
        """Stop after the current attempt."""
        self.is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        try:
            while not self.is_stopped and not self.engine.access.is_closed:
                self._perform_due()
                self._clock.wait(self._wakeup, POLL_S)
        except BaseException as error:  # noqa: BLE001 -- an error of a thread is not shown anywhere else
            logger().error("decider %s is not performed in the background any more: %r", self._name, error)
        finally:
            self.is_stopped = True

    def _perform_due(self) -> None:
        try:
            n_known = len(self._performer.foreign)
            self._performer.perform_all(may_continue=lambda: not self.is_stopped)
            if len(self._performer.foreign) > n_known == 0:
                logger().warning("%s", foreign_work_message(self.engine, self._decider, len(self._performer.foreign)))
        except IronflowError as error:
            if not self.engine.access.is_closed:
                logger().warning("decider %s: %s", self._name, error)
        except BaseException as error:  # noqa: BLE001 -- no memory, an exit of the user's: the next look tries again
            self.engine.access.background_errors.note(f"performing what is due for {self._name}", error)


def dead_work(
    reader: Reader, decider: AnyDecider, *, instance: str | None = None, key: str | None = None
) -> list[tuple[QueueItem, str | None]]:
    """Return dead letters, each with its instance; by default of all instances and keys."""
    dead = reader.work(QueueSelect(of=[(decider.kind, decider.name)], key=key, is_dead=True))
    instances = {row.run_id: row.key for row in reader.runs(Select(run_ids={work.run_id for work in dead}))}
    found = ((work, instances.get(work.run_id)) for work in dead)
    return [(work, its_instance) for work, its_instance in found if instance in {None, its_instance}]


def requeue(engine: Engine, decider: AnyDecider, *, instance: str | None, key: str | None) -> int:
    """Put dead letters back on the queue, with all their attempts; return their number."""
    found: list[RunCommit] = []

    def act(reader: Reader) -> Sequence[RunCommit]:
        now = engine.clock.now()
        again = [
            replace(work, attempts=0, dead_at=None, error_id=None, due_at=now)
            for work, _ in dead_work(reader, decider, instance=instance, key=key)
        ]
        found[:] = [RunCommit(run_id=work.run_id, events=(), put_work=(work,)) for work in again]
        return found

    engine.access.exchange(act, engine.durability)
    return len(found)
