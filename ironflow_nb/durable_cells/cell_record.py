"""The record of one execution of a cell: its values, its outputs, its code; how it is built and read back."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol

import msgspec

from ironflow_nb.code_identity.referenced_values import is_constant
from ironflow_nb.core.identity import Digest, ValueId
from ironflow_nb.durable_cells.random_state import RandomState, set_random_state
from ironflow_nb.errors import JournalError, ValueNotStorable, ValueUnreadable
from ironflow_nb.execution import Engine, JournalAccess
from ironflow_nb.values.classes import class_name
from ironflow_nb.values.codecs import PICKLE
from ironflow_nb.values.stored_value import StoredValue, ValueRecord, ValueReference, encode_record

LIMIT_BYTES: Final = 1024 * 1024
"""The limit of recorded output of one execution."""


class Output(msgspec.Struct, rename={"kind": "output_type"}, omit_defaults=True):
    """One output as in a notebook file: a stream with its text, or a MIME bundle."""

    kind: str
    name: str | None = None
    text: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    def n_bytes(self) -> int:
        """Return the approximate size; an item that is no text counts as 1000 bytes."""
        return len(self.text) + sum(len(item) if isinstance(item, str) else 1000 for item in self.data.values())


class OutputSink(Protocol):
    """Where the output of cells goes: to a notebook, or only to the streams of the process."""

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """Collect the outputs that are shown within the context; they are also shown."""

    def show_result(self, value: object) -> None:
        """Show the value of the last expression of a cell."""

    def show(self, outputs: list[Output]) -> None:
        """Show recorded outputs again."""


class NoOutputSink:
    """The sink of a script: nothing is collected and nothing is shown again."""

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """Collect nothing."""
        yield []

    def show_result(self, value: object) -> None:
        """Show nothing."""

    def show(self, outputs: list[Output]) -> None:
        """Show nothing."""


def within_limit(outputs: list[Output]) -> list[Output]:
    """Return the outputs up to `LIMIT_BYTES`, with a note about the rest if there is more."""
    kept: list[Output] = []
    left = LIMIT_BYTES
    for output in outputs:
        left -= output.n_bytes()
        if left < 0:
            n_bytes = sum(each.n_bytes() for each in outputs[len(kept) :])
            note = f"ironflow: {n_bytes / 1e6:.1f} MB of output were not recorded\n"
            return [*kept, Output("stream", "stderr", note)]
        kept.append(output)
    return kept


SHOWN: Final = "<shown>"
CODE: Final = "<code>"
RANDOM: Final = "<random>"
NO_VARIABLES: Final = frozenset({SHOWN, CODE, RANDOM})
"""Names of the parts that are not variables; no variable can have such a name."""


class CellNotes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Facts of an execution that are recorded beside the values."""

    ins: dict[str, str] = msgspec.field(default_factory=dict)
    """The digests of its inputs (hex)."""
    modules: dict[str, str] = msgspec.field(default_factory=dict)
    same: dict[str, str] = msgspec.field(default_factory=dict)
    """Further names of one object: its first name, which may be that of an input, by name."""
    gone: tuple[str, ...] = ()
    """Names that the cell deleted."""
    lost: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    """By name of a value that can't be stored: its class, and a token that identifies the object in its process."""


@dataclass(frozen=True, slots=True)
class CellRecord:
    """The record of a cell with the values that it refers to, ready to be stored."""

    record: ValueRecord
    values: list[StoredValue]
    about: CellNotes
    left_out: dict[str, str] = field(default_factory=dict)
    """Classes of values that are neither stored nor lost, by name: those that only a ``with`` bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEffects:
    """The effects of one cell execution: assigned and deleted names, outputs, code."""

    outs: Mapping[str, object]
    gone: tuple[str, ...]
    brief: frozenset[str] = frozenset()
    """Names that a ``with`` bound: such a value is left out, and not lost, if it can't be stored."""
    unchanged: Mapping[str, object] = field(default_factory=dict)
    """The objects of inputs by name: of an output that is one of them, only the name is recorded."""
    again: Mapping[str, str] = field(default_factory=dict)
    """Why values are not stored although they could be, by name: then the cell is executed again."""
    unsettled: Mapping[str, object]
    """Definitions that would differ if they were executed again after the cell."""
    ins: Mapping[str, str]
    shown: list[Output]
    code: str
    random: RandomState | None = None
    """The state of the random numbers after the cell, if it has drawn some."""


def build_record(access: JournalAccess, left: CellEffects) -> CellRecord:
    """Return the record of the execution; values that can't be stored are noted as lost."""
    builder = _RecordBuilder(access, left.unchanged, left.again)
    # Names of contexts come last: the object may have another name, under which it is stored.
    for name in sorted(left.outs, key=left.brief.__contains__):
        builder.add(name, left.outs[name])
    left_out = {name: builder.lost.pop(name)[0] for name in list(builder.lost) if name in left.brief}
    for name, value in left.unsettled.items():
        builder.lose(name, value)
    builder.put(SHOWN, [msgspec.to_builtins(output) for output in left.shown])
    builder.put(CODE, left.code)
    if left.random is not None:
        builder.put(RANDOM, list(left.random))
    about = CellNotes(
        ins=dict(left.ins), modules=builder.modules, same=builder.same, gone=left.gone, lost=dict(builder.lost)
    )
    record = ValueRecord(builder.parts, msgspec.to_builtins(about))
    stored = encode_record(record, builder.previews, access.signer)
    return CellRecord(record, [*builder.values, stored], about, left_out)


class _RecordBuilder:
    """Collects the values of one record."""

    def __init__(self, access: JournalAccess, unchanged: Mapping[str, object], again: Mapping[str, str]) -> None:
        self.values: list[StoredValue] = []
        self.parts: dict[str, ValueReference] = {}
        self.previews: dict[str, str | None] = {}
        self.modules: dict[str, str] = {}
        self.same: dict[str, str] = {}
        self.lost: dict[str, tuple[str, str]] = {}
        self._access = access
        self._names = {id(value): name for name, value in unchanged.items() if not is_constant(value)}
        self._again = again

    def add(self, name: str, value: object) -> None:
        if isinstance(value, types.ModuleType):
            self.modules[name] = value.__name__
            return
        first = self._names.setdefault(id(value), name)
        if first != name:
            self.same[name] = first
            return
        if name in self._again:
            self.lose(name, value, self._again[name])
            return
        try:
            digested = self._access.digester.digest(value)
            self.put(name, value, None if digested.opaque else digested.digest)
        except (ValueNotStorable, JournalError):
            self.lose(name, value)

    def lose(self, name: str, value: object, why: str = "") -> None:
        token = self._access.digester.provenance.token(value).hex()
        kind = class_name(type(value))
        self.lost[name] = (f"{kind}, {why}" if why else kind), token

    def put(self, name: str, value: object, digest: Digest | None = None) -> None:
        stored = self._access.values.encode(value)
        self.values.append(stored)
        self.parts[name] = ValueReference(stored.value_id.hex(), None if digest is None else digest.hex())
        if name not in NO_VARIABLES:
            self.previews[name] = stored.preview or stored.type_name


def digests_of(record: ValueRecord) -> dict[str, str | None]:
    """Return the digests of the recorded values by name (hex); None for one that no other process recognises."""
    return {name: part.digest for name, part in record.parts.items() if name not in NO_VARIABLES}


class Restorable:
    """A record that is read back. Each value is decoded on demand, when the classes it needs are defined."""

    def __init__(
        self, engine: Engine, record: ValueRecord, stored: Mapping[ValueId, StoredValue], there: Mapping[str, Any]
    ) -> None:
        self.about = about_of(record)
        values = [name for name in record.parts if name not in NO_VARIABLES]
        self.names = dict.fromkeys([*values, *self.about.modules, *self.about.lost, *self.about.same]).keys()
        self._engine = engine
        self._parts = record.parts
        self._stored = stored
        others = {first for first in self.about.same.values() if first not in record.parts}
        self._there = {name: there[name] for name in (*self.about.lost, *others) if name in there}
        self._decoded_values: dict[str, Any] = {}

    def shown(self) -> list[Output]:
        """Return the recorded outputs.

        Raises:
            ValueUnreadable: they are missing or damaged.
        """
        return [msgspec.convert(row, Output) for row in self._decoded(SHOWN)] if SHOWN in self._parts else []

    def outs(self) -> dict[str, Any]:
        """Return all values by name; a lost one is the object that the namespace had.

        Raises:
            ValueUnreadable: a value is missing or damaged.
        """
        return {name: self.value(name) for name in self.names}

    def value(self, name: str) -> Any:
        """Return the value of one name, the same object each time.

        Raises:
            ValueUnreadable: it is missing or damaged.
        """
        if name in self.about.same:
            return self.value(self.about.same[name])
        if name not in self._decoded_values:
            self._decoded_values[name] = self._decode_name(name)
        return self._decoded_values[name]

    def set_random_state(self) -> None:
        """Set the state of the random numbers to that after the execution, if it has drawn some."""
        if RANDOM in self._parts:
            python, numpy = self._decoded(RANDOM)
            set_random_state((python, numpy))

    def forget_changed(self) -> None:
        """Forget decoded values that have changed, so that they are decoded again.

        Repeated definitions can change them, as a decorator does that enters functions into a registry.
        """
        digester = self._engine.access.digester
        for name in self._parts.keys() & self._decoded_values.keys():
            then, now = self._parts[name].known_digest, digester.digest(self._decoded_values[name])
            if then is not None and digester.provenance.recorded(now.digest) != then:
                del self._decoded_values[name]

    def _decode_name(self, name: str) -> Any:
        if name in self.about.modules:
            return import_module(self.about.modules[name])
        if name in self.about.lost:
            if name not in self._there:
                raise ValueUnreadable(f"{name} ({self.about.lost[name][0]}) can't be stored")
            return self._there[name]
        if name not in self._parts:
            if name not in self._there:
                raise ValueUnreadable(f"{name} is not defined; run the cell that assigns it")
            return self._there[name]
        return self._decoded(name)

    def _decoded(self, name: str) -> Any:
        return _decoded(self._engine, name, self._parts[name], self._stored.get(self._parts[name].id))


def about_of(record: ValueRecord) -> CellNotes:
    """Return the notes of the record.

    Raises:
        ValueUnreadable: they can't be read here.
    """
    try:
        return msgspec.convert(record.about, CellNotes)
    except msgspec.ValidationError as error:
        raise ValueUnreadable(f"the notes of a cell can't be read: {error}") from error


def record_of(engine: Engine, stored: StoredValue | None) -> ValueRecord:
    """Return the record that was stored for an execution.

    Raises:
        ValueUnreadable: it is missing, damaged, or no record.
    """
    if stored is None:
        raise ValueUnreadable("its record is missing in the journal")
    record = engine.codecs.decode(stored)
    if not isinstance(record, ValueRecord):
        raise ValueUnreadable(f"its record is a {stored.type_name}")
    return record


def code_of(engine: Engine, record: ValueRecord) -> str:
    """Return the recorded code, or an empty text if it can't be read."""
    part = record.parts.get(CODE)
    stored = None if part is None else engine.access.value(part.id)
    try:
        return "" if stored is None else str(engine.codecs.decode(stored))
    except ValueUnreadable:
        return ""


def refuse_unstorable(engine: Engine, about: CellNotes, namespace: Mapping[str, Any]) -> None:
    """Refuse to restore lost values, unless the namespace still has the same objects.

    Raises:
        ValueUnreadable: it has not.
    """
    for name, (kind, token) in about.lost.items():
        if name not in namespace or engine.digester.provenance.token(namespace[name]).hex() != token:
            raise ValueUnreadable(f"{name} ({kind}) can't be stored")


def read_restorable(engine: Engine, record: ValueRecord, namespace: Mapping[str, Any]) -> Restorable:
    """Return the record with its stored values; lost values are taken from the namespace.

    Raises:
        ValueUnreadable: the notes of the record can't be read.
    """
    with engine.access.current() as reader:
        stored = reader.values([part.id for name, part in record.parts.items() if name != CODE])
    return Restorable(engine, record, stored, namespace)


def _decoded(engine: Engine, name: str, part: ValueReference, stored: StoredValue | None) -> Any:
    if stored is None:
        raise ValueUnreadable(f"{name} is missing in the journal")
    try:
        value = engine.codecs.decode(stored)
    except ValueUnreadable as error:
        raise ValueUnreadable(f"{name}: {error}") from error
    if stored.codec == PICKLE:
        _identify_as_recorded(engine, part, value)
    return value


def _identify_as_recorded(engine: Engine, part: ValueReference, value: object) -> None:
    """Give an unpickled object the identity that it was recorded with."""
    then = part.known_digest
    if then is not None:
        now = engine.digester.digest(value)
        if not now.opaque:
            engine.digester.provenance.add_recorded(now.digest, then)


def is_closed_resource(value: object) -> bool:
    """Return True if the value is closed, as a file, a connection or a pool is after its ``with``."""
    closed = None
    with suppress(Exception):  # a property may do anything
        closed = getattr(value, "closed", None) or getattr(value, "_shutdown", None)
    return isinstance(closed, int) and bool(closed)


def rebind_names(namespace: MutableMapping[str, Any], outs: Mapping[str, Any], gone: tuple[str, ...]) -> None:
    """Bind the recorded names in the namespace, and delete those that the cell deleted."""
    namespace.update(outs)
    for name in gone:
        namespace.pop(name, None)
