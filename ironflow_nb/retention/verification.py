"""Verification of a journal: its history is whole, its rows are what the events say, its values have their bytes.

A seal keeps, of each run, a hash over its events up to a version; each event's hash is made from the one before it. It
is signed with the key of the user, and holds the id of the seal before it. So a later change of a sealed event, a run
that is gone without `RunDeleted`, and a seal that was taken out are found. What is newer than the last seal can be
changed by anybody who can write to the file, as can all of it by somebody who has the key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from html import escape
from itertools import chain
from typing import Final

import msgspec
import pandas as pd

from ironflow_nb.core.event_codec import decode_event
from ironflow_nb.core.events import RecordedEvent, RunDeleted
from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import are, counted, plain
from ironflow_nb.core.run_state import RunRow, StepRow, fold
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import IronflowError, JournalError
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.pictured_frame import WholeTextFrame
from ironflow_nb.history.tables import TEXT, frame_of_records
from ironflow_nb.journal.ports import Durability, EventRow, Reader, RunCommit, Select
from ironflow_nb.values.stored_value import StoredValue, value_id

SEAL: Final = "signed seal"
"""The codec of seals. Nobody refers to such values, and they are kept as other signatures are."""

COLUMNS: Final = {"what": TEXT, "run_id": TEXT, "step": TEXT, "found": TEXT}
_RUNS_AT_ONCE: Final = 100
_ENCODER: Final = msgspec.json.Encoder(order="sorted")

Finding = dict[str, str | None]


class Seal(msgspec.Struct, frozen=True):
    """What is sealed at a moment: version and hash of each run that is new or longer since the seal `before`."""

    position: int
    sealed_at: int
    before: str | None
    runs: dict[str, tuple[int, str]]


class Verification(WholeTextFrame):
    """The findings of a verification, none if nothing is wrong. `headline` sums them up.

    `seal` is the id of the newest seal. Who keeps it elsewhere can tell later that no seal was taken out since.
    """

    _metadata = ["headline", "seal"]  # noqa: RUF012 -- how pandas lets a subclass have attributes
    headline: str = ""
    seal: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.empty

    def __repr__(self) -> str:
        if self.empty:
            return self.headline
        with pd.option_context("display.max_colwidth", None, "display.width", 200):
            return f"{self.headline}\n{super().__repr__()}"

    def _repr_html_(self) -> str | None:
        shown = "" if self.empty else super()._repr_html_()
        return f"<div><b>{escape(self.headline)}</b>{shown}</div>"


def verify(seal: str | None = None, *, engine: Engine | None = None) -> Verification:
    """Check the whole journal, seal what is new in its history, and return what is wrong with it.

    Checked are: the versions of each run are without a gap; the rows of runs and steps are what the events give; each
    value is there and has the bytes of its id, in its file too; nothing that was sealed has changed or is gone, except
    for runs that were deleted with `Run.delete` or `prune`. Then the history of runs that are new or longer is sealed,
    with the key of this user. The journal is read at one moment, while others write. It takes as long as reading it.

    Columns: what (``events``, ``rows``, ``value`` or ``seal``), run_id, step, found. One row a finding, by run.

    Args:
        seal: the `seal` of an earlier verification: it must be in the journal.
        engine: the journal to check; by default the current one.

    Raises:
        JournalError: the journal can't be read.
    """
    engine = engine or REGISTRY.engine()
    engine.flush()
    check = _Check(engine)
    with engine.reading() as reader:
        check.read(reader, seal)
    made = Verification(frame_of_records(COLUMNS, check.findings))
    made.seal = _add_seal(engine, check)
    made.headline = check.headline + (f"; sealed as {made.seal}" if made.seal else "; not sealed")
    return made


class _Check:
    """What is found in one pass through the journal."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.findings: list[Finding] = []
        self.seals: dict[str, Seal] = {}
        self.new: dict[str, tuple[int, str]] = {}
        self.n_runs = self.n_events = self.n_values = 0
        self.position = 0

    @property
    def headline(self) -> str:
        """What was read, and how much of it is wrong."""
        n_read = {"run": self.n_runs, "event": self.n_events, "value": self.n_values}
        read = ", ".join(counted(n, what) for what, n in n_read.items())
        n_found = len(self.findings)
        wrong = f"{counted(n_found, 'thing')} {are(n_found)}" if n_found else "nothing is"
        return f"{read}: {wrong} wrong"

    def note(self, what: str, found: str, run_id: str | None = None, step: str | None = None) -> None:
        """Add a finding."""
        self.findings.append({"what": what, "run_id": run_id, "step": step, "found": plain(found)})

    def read(self, reader: Reader, expected: str | None) -> None:
        """Check everything."""
        self.position = reader.last_position()
        self._read_seals(reader, expected)
        sealed = {run_id: each for seal in self._in_order() for run_id, each in seal.runs.items()}
        runs = {run.run_id: run for run in reader.runs(Select())}
        ids = [*runs, *(each for each in sealed if each not in runs)]
        for start in range(0, len(ids), _RUNS_AT_ONCE):
            self._read_runs(reader, ids[start : start + _RUNS_AT_ONCE], runs, sealed)

    def _read_seals(self, reader: Reader, expected: str | None) -> None:
        for key, stored in reader.values(reader.value_ids(SEAL)).items():
            if stored.content is None or not self._engine.signer.is_own(SEAL, stored.content, stored.mac):
                self.note("seal", f"seal {key.hex()} is damaged, or was not made with your key")
                continue
            self.seals[key.hex()] = msgspec.json.decode(stored.content, type=Seal)
        named = {each.before for each in self.seals.values()} | {expected}
        for missing in sorted(each for each in named if each is not None and each not in self.seals):
            self.note("seal", f"seal {missing} is missing")

    def _in_order(self) -> list[Seal]:
        return sorted(self.seals.values(), key=lambda each: (each.position, each.sealed_at))

    def newest_seal(self) -> str | None:
        """Return the id of the seal that no other one follows."""
        followed = {each.before for each in self.seals.values()}
        open_ends = [key for key in self.seals if key not in followed]
        return max(open_ends, key=lambda key: self.seals[key].position, default=None)

    def _read_runs(
        self,
        reader: Reader,
        run_ids: Sequence[str],
        runs: Mapping[RunId, RunRow],
        sealed: Mapping[str, tuple[int, str]],
    ) -> None:
        events = defaultdict[str, list[EventRow]](list)
        for row in reader.events(Select(run_ids=run_ids)):
            events[row.run_id].append(row)
        steps = defaultdict[str, list[StepRow]](list)
        for step in reader.steps(Select(run_ids=run_ids)):
            steps[step.run_id].append(step)
        for each in run_ids:
            self._read_run(RunId(each), runs.get(RunId(each)), events[each], steps[each], sealed.get(each))
        self._read_values(reader, [runs[each] for each in map(RunId, run_ids) if each in runs], chain(*steps.values()))

    def _read_run(
        self,
        run_id: RunId,
        run: RunRow | None,
        events: list[EventRow],
        steps: list[StepRow],
        sealed: tuple[int, str] | None,
    ) -> None:
        if run is None:
            if not any(each.type == RunDeleted.__name__ for each in events):
                self.note("events", "it was sealed, and is gone without having been deleted", run_id)
            return
        self.n_runs += 1
        self.n_events += len(events)
        hashes = _hashes(events)
        if [each.version for each in events] != [*range(1, len(events) + 1)]:
            self.note("events", f"the versions of its {len(events)} events have gaps", run_id)
            return
        if sealed is not None and hashes.get(sealed[0]) != sealed[1]:
            self.note("events", f"its history until version {sealed[0]} is not the one that was sealed", run_id)
            return
        if events and sealed != (last := (events[-1].version, hashes[events[-1].version])):
            self.new[run_id] = last
        if run.kind != RunKind.DECIDER:
            self._compare(run, events, steps)

    def _compare(self, run: RunRow, events: list[EventRow], steps: list[StepRow]) -> None:
        try:
            state = fold(run.run_id, map(_recorded, events))
        except (IronflowError, msgspec.DecodeError, msgspec.ValidationError) as error:
            self.note("events", f"they can't be read: {error}", run.run_id)
            return
        if run != state.run:
            self.note("rows", "the row of the run is not what its events give", run.run_id)
        given = {(row.step, row.attempt): row for row in steps}
        differing = {key for key in given.keys() | state.steps if given.get(key) != state.steps.get(key)}
        for step, attempt in sorted(differing):
            self.note("rows", f"the row of attempt {attempt} is not what the events give", run.run_id, step)

    def _read_values(self, reader: Reader, runs: Iterable[RunRow], steps: Iterable[StepRow]) -> None:
        for row in chain[RunRow | StepRow](runs, steps):
            ids = [each for each in (row.inputs_id, row.output_id, row.error_id) if each is not None]
            found = reader.values(ids, of=[row.row_key])
            self.n_values += len(ids)
            for each in ids:
                self._look_at(row, each, found.get(each))

    def _look_at(self, row: RunRow | StepRow, key: ValueId, stored: StoredValue | None) -> None:
        what = "inputs" if key == row.inputs_id else "output" if key == row.output_id else "error"
        if stored is None or stored.content is None:
            why = "it is not in the journal" if stored is None else (stored.read_error or "its content is missing")
            step = row.step if isinstance(row, StepRow) else None
            self.note("value", f"the {what} can't be read: {why}", row.run_id, step)


def _hashes(events: Iterable[EventRow]) -> dict[int, str]:
    """Return the hash of the history at each version; each is made from the one before it."""
    found: dict[int, str] = {}
    last = ""
    for each in events:
        last = blake2b(_ENCODER.encode((last, each)), digest_size=20).hexdigest()
        found[each.version] = last
    return found


def _recorded(row: EventRow) -> RecordedEvent:
    return RecordedEvent(row.version, row.at, decode_event(row.type, row.data), row.step, row.attempt)


def _add_seal(engine: Engine, check: _Check) -> str | None:
    """Seal what is new, and return the id of the newest seal; None if there is none, and none can be made."""
    before = check.newest_seal()
    if not check.new:
        return before
    seal = Seal(position=check.position, sealed_at=engine.clock.now(), before=before, runs=check.new)
    content = _ENCODER.encode(seal)
    with suppress(JournalError):  # it can only be read, or there is no key and none can be made
        mac = engine.signer.sign(SEAL, content)
        stored = StoredValue(value_id(SEAL, content), SEAL, content, len(content), SEAL, mac=mac)
        engine.access.append([RunCommit(run_id=RunId(""), events=(), values=(stored,))], Durability.POWER)
        return stored.value_id.hex()
    return before
