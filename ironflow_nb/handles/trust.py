"""Trust: sign the contents of a journal that another user has written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.errors import JournalError, NotAJournal
from ironflow_nb.execution import REGISTRY, Engine, is_own_start, make_engine, missing_signatures, signature_of_start
from ironflow_nb.history.lookup import skip_damaged
from ironflow_nb.journal.ports import QueueSelect, Reader, RunCommit, Select
from ironflow_nb.triggers.trigger_rows import triggers_of
from ironflow_nb.value_store.value_place import sign_place
from ironflow_nb.values.codecs import JSON, PICKLE
from ironflow_nb.values.failures import ERROR, has_pickles
from ironflow_nb.values.stored_value import RECORD

T = TypeVar("T")

_CHUNK: Final = 200


def trust(path: str | os.PathLike[str] | None = None) -> int:
    """Sign everything in a journal that can execute code as this user's own; return the number of new signatures.

    Signed are pickles (also in failures), records of durable cells, runs with their arguments, graphs, schedules,
    emitted events, pending effects and timers, and the place of large values. Any of them can make your process do what
    its author wanted: trust a journal only if you know where it comes from. Without a path it is the current journal.

    Raises:
        NotAJournal: there is no journal at that path.
    """
    chosen = REGISTRY.engine() if path is None else make_engine(path)
    try:
        if not chosen.access.journal.exists():
            raise NotAJournal(f"there is no journal at {chosen.access.journal.location}, so there is nothing to trust")
        n_signed = _sign_place(chosen)  # first: the contents of large values are read from there
        return n_signed + _sign_values(chosen) + _sign_payloads(chosen) + _sign_starts(chosen) + _sign_runs(chosen)
    finally:
        if path is not None:
            chosen.close()


def _sign_place(engine: Engine) -> int:
    n_signed = 0

    def act(reader: Reader) -> list[RunCommit]:
        nonlocal n_signed
        n_signed = reader.extension(lambda connection: int(sign_place(connection, engine.signer)))
        return []

    with suppress(JournalError):  # the memory journal of tests has no tables
        engine.access.exchange(act, engine.durability)
    return n_signed


def _sign_values(engine: Engine) -> int:
    n_signed = 0
    for codec in (PICKLE, RECORD, ERROR):
        with engine.access.current() as reader:
            ids = reader.value_ids(codec)
        n_signed += sum(_sign_contents(engine, codec, piece) for piece in _chunks(ids))
    return n_signed


def _sign_payloads(engine: Engine) -> int:
    with engine.access.current() as reader:
        ids = [work.payload_id for work in reader.work(QueueSelect()) if work.payload_id is not None]
    return sum(_sign_contents(engine, JSON, piece) for piece in _chunks(ids))


def _sign_contents(engine: Engine, codec: str, ids: Sequence[ValueId]) -> int:
    signer = engine.signer
    with engine.access.current() as reader:
        values = reader.values(ids)
    macs = {
        key: signer.sign(codec, value.content)
        for key, value in values.items()
        if value.content is not None and not signer.is_own(codec, value.content, value.mac)
        if codec != ERROR or has_pickles(value.content)
    }
    return engine.access.replace_signatures(codec, macs)


def _sign_starts(engine: Engine) -> int:
    with engine.access.current() as reader:
        triggers = triggers_of(reader)
        rows = [each.signed for each in triggers.schedules()] + [each.signed for each in triggers.events()]
        unsigned = [signed for signed in rows if not is_own_start(engine.signer, reader, signed)]
    values = tuple(signature_of_start(engine.signer, signed) for signed in unsigned)
    if values:
        engine.access.append([RunCommit(run_id=RunId(""), events=(), values=values)], engine.durability)
    return len(values)


def _sign_runs(engine: Engine) -> int:
    n_signed, access = 0, engine.access
    with access.current() as reader:
        ids = [run.run_id for run in skip_damaged(reader.runs, Select())]
    for piece in _chunks(ids):
        with access.current() as reader:
            missing = missing_signatures(access.signer, reader, reader.runs(Select(run_ids=piece)))
        if missing:
            access.append([RunCommit(run_id=RunId(""), events=(), values=tuple(missing))], engine.durability)
        n_signed += len(missing)
    return n_signed


def _chunks(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the ids in chunks, so that the values of one chunk only are in memory."""
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
