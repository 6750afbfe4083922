"""Which steps of two runs count, and which stand for each other, when the runs are compared."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import SessionEnded
from ironflow_nb.core.identity import Digest, StepRef, parse_step_ref
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import continuations
from ironflow_nb.journal.ports import Reader, Select


def steps_that_count(reader: Reader, run: RunRow, status: RunStatus) -> tuple[list[StepRow], dict[StepRef, int]]:
    """Return the steps of the run, of a completed one those that it used last, and the numbers that they have.

    A step that another one has replaced has no number.
    """
    rows = reader.steps(Select(run_ids=[run.run_id], is_latest=True))
    if run.n_sessions == 1:
        return rows, {row.step: row.index for row in rows}
    began: dict[StepRef, int] = {}
    for row in reader.steps(Select(run_ids=[run.run_id])):
        began.setdefault(row.step, row.version)
    first = min(version for version, _ in continuations(reader, run))
    ends = reader.events(Select(run_ids=[run.run_id], name=SessionEnded.__name__, after_version=first))
    left_out = [(row.version, decode_as(SessionEnded, row.data).not_asked_for) for row in ends]
    unused = {*left_out[-1][1]} if left_out else set()
    numbers = numbers_of_calls(began, [(first, ()), *left_out])
    used = {(_name(step), number) for step, number in numbers.items() if step not in unused}
    replaced = {step for step in unused & numbers.keys() if (_name(step), numbers[step]) in used}
    gone = unused if status is RunStatus.COMPLETED else set()  # else they may still be called
    return [row for row in rows if row.step not in gone], {step: numbers[step] for step in numbers.keys() - replaced}


def numbers_of_calls(
    began: Mapping[StepRef, int], ends: Iterable[tuple[int, Collection[StepRef]]]
) -> dict[StepRef, int]:
    """Return the numbers of the steps within their names: a call that was made in the place of another has its number.

    Args:
        began: the version at which each step was first recorded.
        ends: the versions at which the first execution and the continuations of the run ended, in order, with the
            steps that they did not call: the first new calls of a name stand in the place of the first of these which
            nothing has replaced yet.
    """
    numbers: dict[StepRef, int] = {}
    n_calls, replaced, waiting = defaultdict[str, int](int), set[StepRef](), deque(sorted(began, key=began.__getitem__))

    def assign(until: float, unused: set[StepRef]) -> None:
        left = defaultdict[str, deque[StepRef]](deque)
        for step in sorted(unused & numbers.keys() - replaced, key=numbers.__getitem__):
            left[_name(step)].append(step)
        while waiting and began[waiting[0]] < until:
            step = waiting.popleft()
            name = _name(step)
            if left[name]:
                old = left[name].popleft()
                replaced.add(old)
                numbers[step] = numbers[old]
            else:
                numbers[step] = n_calls[name]
                n_calls[name] += 1

    for version, unused in ends:
        assign(version, {*unused})
    assign(inf, set())
    return numbers


def step_pairs(
    steps: Sequence[StepRow],
    others: Sequence[StepRow],
    numbers: Mapping[StepRef, int],
    of_others: Mapping[StepRef, int],
) -> dict[StepRef, StepRef]:
    """Return the steps by those of the other run that stand for them; each stands for one at most.

    Where both runs made the same calls of a name, in whatever order, equal ones are paired; else those of one number.
    """
    pairs: dict[StepRef, StepRef] = {}
    theirs = _by_name(others)
    for name, rows in _by_name(steps).items():
        pairs |= _of_equal_calls(rows, theirs[name]) or _of_one_number(rows, theirs[name], numbers, of_others)
    return pairs


def _of_equal_calls(steps: Iterable[StepRow], others: Iterable[StepRow]) -> dict[StepRef, StepRef]:
    """Return the pairs if both made the same calls; else none."""
    mine, theirs = _by_call(steps), _by_call(others)
    return {step: mine[call] for call, step in theirs.items()} if mine.keys() == theirs.keys() else {}


def _of_one_number(
    steps: Iterable[StepRow],
    others: Iterable[StepRow],
    numbers: Mapping[StepRef, int],
    of_others: Mapping[StepRef, int],
) -> dict[StepRef, StepRef]:
    mine, theirs = _by_number(steps, numbers), _by_number(others, of_others)
    return {step: mine[number] for number, step in theirs.items() if number in mine}


def _name(step: StepRef) -> str:
    return parse_step_ref(step)[0]


def _by_name(steps: Iterable[StepRow]) -> dict[str, list[StepRow]]:
    found = defaultdict[str, list[StepRow]](list)
    for row in steps:
        found[row.name].append(row)
    return found


def _by_call(steps: Iterable[StepRow]) -> dict[tuple[Digest, int], StepRef]:
    """Return the steps by what they were asked to do, and how many were asked the same before."""
    n_equal, found = defaultdict[Digest, int](int), {}
    for row in steps:
        found[row.identity, n_equal[row.identity]] = row.step
        n_equal[row.identity] += 1
    return found


def _by_number(steps: Iterable[StepRow], numbers: Mapping[StepRef, int]) -> dict[int, StepRef]:
    """Return the steps by number; of two with one number, which are called beside each other now, the older."""
    found: dict[int, StepRef] = {}
    for row in steps:
        if row.step in numbers:
            found.setdefault(numbers[row.step], row.step)
    return found
