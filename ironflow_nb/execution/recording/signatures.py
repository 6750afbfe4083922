"""Signatures of runs and definitions, by the key of the user, as pickles have them: both can lead to execution of code.

A signature is a stored value whose content is the digest of the signed row. Rows without a signature were written by
another user, or before there were signatures: they are shown, and nothing of them is executed until `trust`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import UntrustedRun
from ironflow_nb.journal.ports import CallKey, Reader, StoredDefinition
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, value_id

DEFINITION: Final = "signed definition"
RUN: Final = "signed run"
START: Final = "signed start"
FOREIGN: Final = "not written by you"
"""How messages describe a run of another user."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def signature_of_run(signer: Signer, run_id: RunId, call: CallKey, key: str | None, inputs: ValueId) -> StoredValue:
    """Return the signature of a run, which says that this user made the call."""
    return _signed(signer, _note(RUN, (run_id, call.kind, call.name, key, call.inputs_digest, inputs)))


def signature_of_definition(signer: Signer, definition: StoredDefinition) -> StoredValue:
    """Return the signature of a definition."""
    return _signed(signer, _definition_note(definition))


def signature_of_start(signer: Signer, start: tuple[Any, ...]) -> StoredValue:
    """Return the signature of what starts runs, a schedule or an event, by its fields that never change."""
    return _signed(signer, _note(START, start))


def is_own_start(signer: Signer, reader: Reader, start: tuple[Any, ...]) -> bool:
    """Return True if this user made the schedule, or emitted the event."""
    return bool(_own(signer, reader, [_note(START, start)]))


def own_runs(signer: Signer, reader: Reader, runs: Iterable[RunRow]) -> set[RunId]:
    """Return the ids of the runs that this user began."""
    notes = {run.run_id: _run_note(run) for run in runs}
    signed = _own(signer, reader, notes.values())
    return {run_id for run_id, note in notes.items() if note.value_id in signed}


def signature_id(of: RunRow | StoredDefinition) -> ValueId:
    """Return the id of the signature of a run or definition."""
    return (_run_note(of) if isinstance(of, RunRow) else _definition_note(of)).value_id


def is_own_definition(signer: Signer, reader: Reader, definition: StoredDefinition) -> bool:
    """Return True if this user wrote the definition."""
    return bool(_own(signer, reader, [_definition_note(definition)]))


def untrusted(run: RunRow, location: str) -> UntrustedRun:
    """Return the error for a run, or its definition, that this user did not write."""
    return UntrustedRun(
        f"run {run.run_id} of {run.kind} {plain(run.name)} was written by somebody else, or before runs were signed: "
        f"it can be looked at, and nothing of it is executed; {advice(location)}",
        run_id=run.run_id,
        name=run.name,
    )


def advice(location: str) -> str:
    """Return the sentence that says how to trust a journal."""
    return f"if you know where the journal comes from, run iron.trust({location!r})"


def missing_signatures(signer: Signer, reader: Reader, runs: Sequence[RunRow]) -> list[StoredValue]:
    """Return the signatures that these runs and their definitions lack."""
    definitions = map(reader.definition, {run.definition_id for run in runs})
    notes = [*map(_run_note, runs), *(_definition_note(each) for each in definitions if each is not None)]
    there = _own(signer, reader, notes)
    return [_signed(signer, note) for note in notes if note.value_id not in there]


def _run_note(run: RunRow) -> StoredValue:
    return _note(RUN, (run.run_id, run.kind, run.name, run.key, run.inputs_digest, run.inputs_id))


def _definition_note(definition: StoredDefinition) -> StoredValue:
    return _note(DEFINITION, {name: each for name, each in msgspec.structs.asdict(definition).items() if each})


def _note(codec: str, what: Any) -> StoredValue:
    content = blake2b(_ENCODER.encode(what), digest_size=32).digest()
    return StoredValue(value_id(codec, content), codec, content, len(content), codec)


def _signed(signer: Signer, note: StoredValue) -> StoredValue:
    assert note.content is not None
    return msgspec.structs.replace(note, mac=signer.sign_for_process(note.codec, note.content))


def _own(signer: Signer, reader: Reader, notes: Iterable[StoredValue]) -> set[ValueId]:
    """Return the ids of those signatures that the journal has and this user made."""
    found = reader.values([note.value_id for note in notes])
    return {key for key, each in found.items() if each.content and signer.is_own(each.codec, each.content, each.mac)}
