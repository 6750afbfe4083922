"""Work that was claimed: an effect to perform or a timer to fire, and what it is about."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from ironflow_nb.core.rows import RunRow
from ironflow_nb.deciders.deciding import TIMER
from ironflow_nb.deciders.machine import AnyMachine, Handler
from ironflow_nb.errors import EventUnreadable
from ironflow_nb.journal.ports import Reader, Select, Work
from ironflow_nb.values.pickles import Signer

TIMER_HANDLER: Final = Handler(
    perform=lambda: None, attempts=5, delay_s=1.0, max_delay_s=300.0, lease_s=300.0, takes_context=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectContext:
    """An effect on its way: for which instance, which attempt, and the key that all attempts share."""

    decider: str
    instance: str
    effect_id: str
    attempt: int
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """What tells a service outside that two attempts are one effect."""
        return f"{self.decider}:{self.instance}:{self.effect_id}"

    @property
    def is_retry(self) -> bool:
        """Tell whether it was tried before."""
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work that this process has taken, with what it is about."""

    machine: AnyMachine
    work: Work
    instance: str
    name: str
    data: str | None

    @property
    def source(self) -> str:
        """What observations call it."""
        return f"timer {self.work.key}" if self.work.kind == TIMER else f"effect {self.name}"

    @property
    def handler(self) -> Handler:
        """How it is performed."""
        return handler_of(self.machine, self.work)

    def decoded(self) -> Any:
        """Return the effect, or the command of the timer.

        Raises:
            EventUnreadable: it is damaged, or does not fit its class.
        """
        if self.data is None:
            raise EventUnreadable(
                f"what the {self.work.kind} {self.work.key} of {self.machine.name} {self.instance} is about is missing "
                "in the journal, or damaged; put the journal back from a copy"
            )
        codec = self.machine.command_codec if self.work.kind == TIMER else self.machine.effect_codec
        return codec.decode(self.name, self.data)


def handler_of(machine: AnyMachine, work: Work) -> Handler:
    """Return how the work is performed."""
    return TIMER_HANDLER if work.kind == TIMER else machine.handlers[work.key.partition("/")[0]]


def is_held(work: Work, alive: Collection[str], now: int) -> bool:
    """Tell whether somebody is working on it."""
    return work.owner in alive and (work.leased_until or 0) > now


def run_of(reader: Reader, work: Work) -> RunRow:
    """Return the instance that the work is of."""
    return reader.runs(Select(run_ids=[work.run_id]))[0]


def payload(reader: Reader, work: Work) -> tuple[str, str | None]:
    """Return the class and the JSON text of what the work is about; of one that is damaged, no text."""
    assert work.payload_id is not None
    found = reader.values([work.payload_id]).get(work.payload_id)
    if found is None or found.content is None:
        return work.key.partition("/")[0], None
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.type, bytes(fields.data).decode()


def is_own(reader: Reader, signer: Signer, work: Work) -> bool:
    """Tell whether this user put the work on the queue, in this very place; whose damaged work is, nobody can tell."""
    assert work.payload_id is not None
    found = reader.values([work.payload_id]).get(work.payload_id)
    if found is None or found.content is None:
        return True
    if not signer.is_own(found.codec, found.content, found.mac):
        return False
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.run in {None, work.run_id} and fields.key in {None, work.key}


class _Payload(msgspec.Struct):
    type: str
    data: msgspec.Raw
    run: str | None = None
    key: str | None = None
