"""What a worker and a server send each other, as MessagePack: rows of runs, commits, leases and signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.event_codec import decode_event, encode_event
from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.errors import InputInvalid
from ironflow_nb.journal.ports import (
    Addition,
    CachedResult,
    Lease,
    QueueItem,
    RunCommit,
    Signal,
    SignalId,
    StoredDefinition,
)
from ironflow_nb.retention.exported_run import Rows
from ironflow_nb.telemetry.telemetry_rows import LogRow, MetricRow, ProgressRow
from ironflow_nb.values.stored_value import StoredValue

MEDIA_TYPE: Final = "application/vnd.msgpack"
TELEMETRY: Final[Mapping[str, type[Addition]]] = {kind.__name__: kind for kind in (LogRow, MetricRow, ProgressRow)}
"""The rows of other rooms that go with the commits of a run to its server."""

W = TypeVar("W")


class WireEvent(msgspec.Struct, frozen=True, array_like=True):
    """One event, its own data as the journal has it."""

    version: int
    at: int
    type: str
    data: str
    step: StepRef | None = None
    attempt: int | None = None

    def recorded(self) -> RecordedEvent:
        """Return the event.

        Raises:
            JournalCorrupt: there is no such event.
        """
        return RecordedEvent(self.version, self.at, decode_event(self.type, self.data), self.step, self.attempt)


class WireCommit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `RunCommit`. `taken` are ids of signals on the server, `additions` rows of telemetry by their class."""

    run_id: RunId
    events: list[WireEvent] = []
    run: RunRow | None = None
    steps: list[StepRow] = []
    values: list[StoredValue] = []
    row_values: list[StoredValue] = []
    definitions: list[StoredDefinition] = []
    taken: list[int] = []
    cached: list[CachedResult] = []
    put_work: list[QueueItem] = []
    done_work: list[tuple[str, str]] = []
    removed: list[RowKey] = []
    additions: list[tuple[str, dict[str, Any]]] = []
    n_bytes: int = 0

    def commit(self) -> RunCommit:
        """Return the commit.

        Raises:
            JournalCorrupt, MsgspecError, KeyError: it has what no worker writes.
        """
        found = {name: getattr(self, name) for name in _SHARED}
        fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in found.items()}
        return RunCommit(
            **fields,
            events=tuple(each.recorded() for each in self.events),
            additions=tuple(msgspec.convert(row, TELEMETRY[kind]) for kind, row in self.additions),
        )


_SHARED: Final = [name for name in WireCommit.__struct_fields__ if name not in {"events", "additions"}]


def wire_commit(commit: RunCommit, taken: Sequence[int]) -> WireCommit:
    """Return the commit as it is sent; `taken` are the ids that its signals have on the server."""
    found = {name: getattr(commit, name) for name in _SHARED}
    found |= {"taken": taken, "values": [_whole(each) for each in commit.values]}
    fields: dict[str, Any] = {name: list(each) if isinstance(each, tuple) else each for name, each in found.items()}
    events = []
    for each in commit.events:
        kind, data = encode_event(each.event)
        events.append(WireEvent(each.version, each.at, kind, data, each.step, each.attempt))
    return WireCommit(
        **fields,
        events=events,
        additions=[
            (type(each).__name__, msgspec.structs.asdict(each))
            for each in commit.additions
            if type(each).__name__ in TELEMETRY
        ],
    )


def _whole(value: StoredValue) -> StoredValue:
    """Return the value with its content in one piece."""
    return replace(value, content=None if value.content is None else bytes(value.content), table=None)


class CommitMessage(msgspec.Struct, frozen=True):
    """Commits of the owner of a run, with its lease."""

    lease: Lease
    commits: list[WireCommit]


class BeatMessage(msgspec.Struct, frozen=True):
    """That an owner lives, and which runs it has; signals up to the id `after` are known to it."""

    lease: Lease
    run_ids: list[RunId]
    after: int = 0
    is_beat: bool = True


class ReceivedSignals(msgspec.Struct, frozen=True):
    """Signals to the runs of an owner, with their payloads, and the runs that are its own no more."""

    signals: list[tuple[Signal, StoredValue | None]] = []
    lost: list[RunId] = []


class SignalMessage(msgspec.Struct, frozen=True):
    """A signal that a run sends."""

    signal: Signal
    payload: StoredValue | None = None
    known: SignalId | None = None


class EventMessage(msgspec.Struct, frozen=True):
    """An event that a run emits; the same key is the same event."""

    name: str
    value: StoredValue
    key: str


class ClaimMessage(msgspec.Struct, frozen=True):
    """What a worker defines, kind and name of each, how many runs it takes, and which it can't execute."""

    worker: str
    names: list[tuple[str, str]]
    n: int = 1
    wait_s: float = 0.0
    without: list[RunId] = []


class OfferedRun(msgspec.Struct, frozen=True):
    """A run that can be continued: all of its rows by table, its signals, and how durable its commits are."""

    run_id: RunId
    durability: str
    tables: dict[str, Rows]
    mail: ReceivedSignals = ReceivedSignals()


class PushMessage(msgspec.Struct, frozen=True):
    """What a server asks an endpoint: to execute a run for about `budget_s` seconds, or without one what it defines."""

    offered: OfferedRun | None = None
    budget_s: float = 0.0
    number: str = ""


class PushAnswer(msgspec.Struct, frozen=True):
    """What an endpoint defines: kind and name of each."""

    names: list[tuple[str, str]]


class FrameKind(StrEnum):
    """What a frame of an answer is."""

    COMMIT = "commit"
    BEAT = "beat"
    SIGNAL = "signal"
    EVENT = "event"
    REFUSED = "refused"
    END = "end"


class PushFrame(msgspec.Struct, frozen=True, array_like=True):
    """A part of the answer of an endpoint."""

    kind: FrameKind
    content: bytes


def packed_frame(kind: FrameKind, message: object) -> bytes:
    """Return a frame as it is sent: its size as four bytes, and the frame."""
    content = packed(PushFrame(kind, packed(message)))
    return len(content).to_bytes(4, "big") + content


def first_frame(content: bytearray) -> tuple[PushFrame, int] | None:
    """Return the first frame of the content and its size there, or None if it is not whole yet."""
    size = int.from_bytes(content[:4], "big")
    if len(content) < 4 + size or len(content) < 4:
        return None
    return unpacked(bytes(content[4 : 4 + size]), PushFrame), 4 + size


def packed(message: object) -> bytes:
    """Return the message as it is sent."""
    return msgspec.msgpack.encode(message)


def unpacked(content: bytes, kind: type[W]) -> W:
    """Return the message.

    Raises:
        InputInvalid: it is no message of that kind.
    """
    try:
        return msgspec.msgpack.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputInvalid(f"this is no {kind.__name__} as MessagePack: {error}", name=kind.__name__) from error
