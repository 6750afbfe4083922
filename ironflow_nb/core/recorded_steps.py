"""The recorded steps of one run: which of them answers a call, and which index a new step gets.

A recorded step answers the n-th call of its identity in its own branch, if it was the n-th there. If the identity was
recorded only once in the whole run, it also answers a call from an ancestor or descendant of its branch, never from a
sibling: otherwise two gathered branches that make equal calls would swap their results on replay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import msgspec

from ironflow_nb.core.identity import BranchId, Digest, StepRef, is_same_line, step_ref
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import StepStatus


class RecordedStep(msgspec.Struct):
    """A recorded step with all its attempts, oldest first.

    Attempts that began before version `discarded_before` of the run answer nothing. With `is_kept` an attempt of any
    code answers. `older` are attempts that earlier runs completed, newest first; they answer for code that this run did
    not have. A result that was given by hand has no code, and answers for any. What a child did that was edited at the
    version `child_edited_at` is gone through again.
    """

    attempts: list[StepRow]
    older: Sequence[StepRow] = ()
    asked_for: bool = False
    discarded_before: int = 0
    is_kept: bool = False
    child_edited_at: int = 0

    @property
    def latest(self) -> StepRow:
        """The newest attempt."""
        return self.attempts[-1]

    def completed(self, code: Digest) -> StepRow | None:
        """Return the newest completed attempt of that code, or without one, or None."""
        for row in reversed(self.attempts):
            is_done = row.status is StepStatus.COMPLETED and (row.code == code or not row.code)
            if is_done and row.version >= self.discarded_before:
                return row
        if self.is_kept:
            return self.completed_with_any_code()
        return next((row for row in self.older if row.code == code or not row.code), None)

    def completed_with_any_code(self) -> StepRow | None:
        """Return the newest completed attempt, or None."""
        for row in reversed(self.attempts):
            if row.status is StepStatus.COMPLETED and row.version >= self.discarded_before:
                return row
        return None

    @property
    def is_discarded(self) -> bool:
        """Return True if the step is to run again, whatever is recorded."""
        return self.latest.version < self.discarded_before

    @property
    def is_child_edited(self) -> bool:
        """Return True if a result in its child was edited, and no attempt that began since has completed."""
        done = self.completed_with_any_code()
        began_at = self.latest.version if done is None else done.version
        return self.child_edited_at > began_at and self.latest.child_run_id is not None

    @property
    def is_owed(self) -> bool:
        """Return True if the step is to run again by request, and has not completed since."""
        return self.discarded_before > 0 and self.completed_with_any_code() is None


class RecordedSteps:
    """The recorded steps of one run, and the counters that number its calls.

    Lock: session.
    """

    def __init__(
        self,
        rows: Iterable[StepRow] = (),
        *,
        discarded: Mapping[StepRef, int] | None = None,
        kept: Collection[StepRef] = (),
        children_edited: Mapping[StepRef, int] | None = None,
    ) -> None:
        """Index `rows`, which are all attempts of all steps, by step and attempt.

        `discarded` are the steps that run again, with the version before which their attempts answer nothing. `kept`
        are the steps of which an attempt of any code answers, `children_edited` those whose child was edited, with the
        version at which it was.
        """
        self._records: dict[StepRef, RecordedStep] = {}
        self._skipped: dict[tuple[str, BranchId], StepRow] = {}
        for row in rows:
            if row.status is StepStatus.SKIPPED:
                self._skipped[row.name, row.branch] = row
            else:
                self._records.setdefault(row.step, RecordedStep([])).attempts.append(row)
        self._by_place: dict[tuple[Digest, BranchId, int], RecordedStep] = {}
        self._by_identity: dict[Digest, list[RecordedStep]] | None = None
        self._by_name: dict[str, list[RecordedStep]] | None = None
        self._taken: defaultdict[str, set[int]] = defaultdict(set)
        self._next_index: dict[str, int] = {}
        self._places: set[tuple[str, BranchId]] | None = None
        self._n_calls: dict[tuple[Digest, BranchId], int] = {}
        for record in self._records.values():
            first = record.attempts[0]
            self._by_place[first.identity, first.branch, first.nth] = record
            self._taken[first.name].add(first.index)
        self._skipped = {place: row for place, row in self._skipped.items() if row.step not in self._records}
        for row in self._skipped.values():
            self._taken[row.name].add(row.index)
        for step, version in (discarded or {}).items():
            if step in self._records:
                self._records[step].discarded_before = version
        for step in kept:
            if step in self._records:
                self._records[step].is_kept = True
        for step, version in (children_edited or {}).items():
            if step in self._records:
                self._records[step].child_edited_at = version

    def __len__(self) -> int:
        """Return the number of recorded steps."""
        return len(self._records)

    @cached_property
    def has_given_results(self) -> bool:
        """Whether a result was given by hand."""
        return any(not row.code for record in self._records.values() for row in record.attempts)

    def records(self) -> Iterable[RecordedStep]:
        """Return all recorded steps."""
        return self._records.values()

    def learn(self, row: StepRow) -> None:
        """Replace the row of an attempt that had only begun when the rows were indexed."""
        attempts = self._records[row.step].attempts
        attempts[next(place for place, each in enumerate(attempts) if each.attempt == row.attempt)] = row

    def learn_older(self, rows: Iterable[StepRow]) -> None:
        """Add attempts that earlier runs of the same call completed, newest first. This run's own attempts go first."""
        for row in rows:
            place = row.identity, row.branch, row.nth
            record = self._by_place.get(place)
            if record is None:
                self._by_place[place] = RecordedStep([row])
            else:
                record.older = (*record.older, row)

    def first_version(self, step: StepRef) -> int:
        """Return the version of the first event of the recorded step."""
        return self._records[step].attempts[0].version

    def latest(self, step: StepRef) -> StepRow | None:
        """Return the newest recorded attempt of the step, or None."""
        record = self._records.get(step)
        return None if record is None else record.latest

    def count_call(self, identity: Digest, branch: BranchId) -> int:
        """Return how many calls of the identity the branch has made before this one, and count this one."""
        place = identity, branch
        nth = self._n_calls.get(place, 0)
        self._n_calls[place] = nth + 1
        return nth

    def find(self, identity: Digest, branch: BranchId, nth: int) -> RecordedStep | None:
        """Return the recorded step for this call and mark it used, or None."""
        if not self._records:
            return None
        record = self._by_place.get((identity, branch, nth))
        if record is None or record.asked_for:
            record = self._only_relative(identity, branch)
        if record is not None:
            record.asked_for = True
        return record

    def _only_relative(self, identity: Digest, branch: BranchId) -> RecordedStep | None:
        records = self._of_identity(identity)
        if len(records) != 1 or records[0].asked_for:
            return None
        recorded_in = records[0].attempts[0].branch
        return records[0] if recorded_in != branch and is_same_line(branch, recorded_in) else None

    def _of_identity(self, identity: Digest) -> Sequence[RecordedStep]:
        """Return the recorded steps of that identity. A replay without changes never needs them."""
        if self._by_identity is None:
            self._by_identity = {}
            for record in self._records.values():
                self._by_identity.setdefault(record.attempts[0].identity, []).append(record)
        return self._by_identity.get(identity, ())

    def skip(self, name: str, branch: BranchId, reason: str) -> bool:
        """Return True if the skip is not recorded yet, or was recorded with another reason; note that it is."""
        if self._places is None:
            firsts = (record.attempts[0] for record in self._records.values())
            self._places = {(first.name, first.branch) for first in firsts} | self._skipped.keys()
        before = self._skipped.get((name, branch))
        is_new = (name, branch) not in self._places or (before is not None and before.reason != reason)
        self._places.add((name, branch))
        return is_new

    def new_ref(self, name: str, branch: BranchId) -> tuple[StepRef, int, int]:
        """Return the reference, index and attempt of a step that begins for the first time, or after a skip."""
        skipped = self._skipped.pop((name, branch), None) if self._skipped else None
        if skipped is not None:
            return skipped.step, skipped.index, skipped.attempt + 1
        index = self.take_index(name)
        return step_ref(name, index), index, 1

    def take_index(self, name: str) -> int:
        """Return the lowest free index of that name, and take it."""
        index = self._next_index.get(name, 0)
        taken = self._taken.get(name)
        if taken:
            while index in taken:
                index += 1
        self._next_index[name] = index + 1
        return index

    def work_at_stake(self, name: str, code: Digest) -> tuple[int, float]:
        """Return the number of completed steps of that name that have no result of this code, and their seconds."""
        stake = [
            done.duration_s or 0.0
            for record in self._of_name(name)
            if record.completed(code) is None and (done := record.completed_with_any_code()) is not None
        ]
        return len(stake), sum(stake)

    def _of_name(self, name: str) -> Iterable[RecordedStep]:
        """Return the recorded steps of that name. The first call makes an index for all names."""
        if self._by_name is None:
            self._by_name = {}
            for record in self._records.values():
                self._by_name.setdefault(record.latest.name, []).append(record)
        return self._by_name.get(name, ())

    def next_unused(self, name: str) -> RecordedStep | None:
        """Return the first recorded step of that name, by first call, that no call has used yet, or None."""
        waiting = (record for record in self._of_name(name) if not record.asked_for)
        return min(waiting, key=lambda record: record.attempts[0].version, default=None)

    def unused_steps(self) -> tuple[StepRef, ...]:
        """Return the recorded steps that no call has used yet."""
        return tuple(ref for ref, record in self._records.items() if not record.asked_for)
