"""Why steps run again: the explanation of recorded attempts, and advice while a run is continued."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.code_parts import diff
from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import OutputInjected, RunContinued, SessionEnded, SignalReceived
from ironflow_nb.core.identity import RunId, StepRef, ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.core.run_state import RowKey, StepRow
from ironflow_nb.core.status import FAILURES, StepReason, StepStatus
from ironflow_nb.core.wait_rules import QUESTIONS, answer_name
from ironflow_nb.execution import Engine, JournalAccess, answered_by, changes_since, parts_of, say
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.codecs import input_references
from ironflow_nb.values.stored_value import legible
from ironflow_nb.values.tagged import untag

_ARGUMENT_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step ran, attempt by attempt, oldest first; `diff` is the edit before the newest attempt with new code."""

    step: StepRef
    reasons: tuple[str, ...]
    diff: str = ""

    def __str__(self) -> str:
        lines = [f"{self.step}", *(f"  {reason}" for reason in self.reasons)]
        return plain("\n".join([*lines, self.diff] if self.diff else lines))

    __repr__ = __str__


def explain_step(engine: Engine, run_id: RunId, rows: Sequence[StepRow], step: StepRef) -> Explanation:
    """Return why the attempts of the step ran, according to the journal."""
    with engine.reading() as reader:
        history = _AttemptHistory(engine, reader, run_id, rows)
        attempts = [row for row in rows if row.step == step]
        reasons = [history.reason(row, before) for row, before in zip(attempts, [None, *attempts], strict=False)]
        last = history.afterwards(attempts[-1])
        return Explanation(step, (*reasons, *last), history.diff)


class _AttemptHistory:
    """The recorded attempts and continuations of one run, which give the reasons of its attempts."""

    def __init__(self, engine: Engine, reader: Reader, run_id: RunId, rows: Sequence[StepRow]) -> None:
        self._reader = reader
        self._rows = rows
        self._began = [row.version for row in reader.events(Select(run_ids=[run_id], name=RunContinued.__name__))]
        self._left_out = {
            row.version: msgspec.json.decode(row.data, type=SessionEnded).not_asked_for
            for row in reader.events(Select(run_ids=[run_id], name=SessionEnded.__name__))
        }
        session = engine.sessions.get(run_id)
        self._now = session.replayer.unused_steps() if session is not None and session.is_open else ()
        self.diff = ""

    def reason(self, row: StepRow, before: StepRow | None) -> str:
        """Return why the attempt ran; `before` is the attempt before it."""
        return f"attempt {row.attempt} ({row.status.value}): {self._reason_words(row, before)}"

    def _reason_words(self, row: StepRow, before: StepRow | None) -> str:
        match row.reason:
            case StepReason.NEW if row.name in QUESTIONS:
                return (
                    f"it asked {_legible_argument(self._reader, _recorded_inputs(self._reader, row).get('question'))}"
                )
            case StepReason.NEW:
                return self._why_new(row)
            case StepReason.CODE_CHANGED:
                return self._why_edited(row)
            case StepReason.FAILED_BEFORE | StepReason.RETRY if before is not None:
                return f"tried again, because attempt {before.attempt} failed{self._error_words(before)}"
            case StepReason.INTERRUPTED:
                return "begun again, because its process ended or was interrupted"
            case StepReason.ASKED_FOR:
                return "run again, because this was asked for"
            case StepReason.RESULT_LOST:
                return "run again, because its recorded result could not be read"
            case StepReason.REUSED:
                return f"taken from run {row.origin_run_id}, which had computed it"
            case StepReason.INJECTED:
                return self._why_given(row)
            case StepReason.CHILD_EDITED:
                return "gone through again, because a result in it, or below it, was edited by hand"
        return row.reason

    def _why_given(self, row: StepRow) -> str:
        chosen = Select(run_ids=[row.run_id], after_version=row.version - 1, until_version=row.version)
        given = decode_as(OutputInjected, self._reader.events(chosen)[0].data)
        return plain(f"given by hand by {given.edited_by}: {given.reason}")

    def _error_words(self, row: StepRow) -> str:
        found = None if row.error_id is None else self._reader.values([row.error_id], content_limit=0).get(row.error_id)
        return "" if found is None or found.preview is None else f": {found.preview}"

    def _why_edited(self, row: StepRow) -> str:
        earlier = [
            other
            for other in self._rows
            if other.step == row.step and other.attempt < row.attempt and other.status is StepStatus.COMPLETED
        ]
        now = parts_of(self._reader.definition, row.code)
        changes = changes_since(self._reader.definition, earlier[-1].code, now) if earlier and now else ()
        self.diff = "\n".join(diff(change) for change in changes)
        return "; ".join(change.reason for change in changes) or "its code has changed"

    def _why_new(self, row: StepRow) -> str:
        twin = self._replaced_step(row)
        if twin is None:
            return "new, it was called for the first time"
        changed = list(
            _argument_changes(self._reader, _recorded_inputs(self._reader, twin), _recorded_inputs(self._reader, row))
        )
        return "; ".join(changed) or f"new, beside {twin.step}, which was called in another branch"

    def _replaced_step(self, row: StepRow) -> StepRow | None:
        """Return the most similar earlier step of this name that the continuation no longer calls."""
        began = max((version for version in self._began if version < row.version), default=None)
        if began is None:
            return None
        left_out = self._not_asked_for_since(began)
        others = [
            other for other in self._rows if other.step in left_out and other.name == row.name and other.version < began
        ]
        mine = _recorded_inputs(self._reader, row)
        likeness = [
            (sum(mine.get(name) == tree for name, tree in _recorded_inputs(self._reader, other).items()), -other.index)
            for other in others
        ]
        return others[likeness.index(max(likeness))] if others else None

    def _not_asked_for_since(self, began: int) -> Collection[StepRef]:
        ended = [version for version in self._left_out if version > began]
        return self._left_out[min(ended)] if ended else self._now

    def afterwards(self, row: StepRow) -> Iterator[str]:
        """Yield how the step failed, and whether the newest continuation reused it or no longer called it."""
        if row.status in FAILURES:
            yield f"it {'failed' if row.status is StepStatus.FAILED else 'timed out'}{self._error_words(row)}"
        if row.status is StepStatus.COMPLETED:
            yield from self._answered(row)
        began = self._began[-1] if self._began else 0
        if row.version > began:
            return
        if row.step in self._not_asked_for_since(began):
            yield "no longer called"
        elif row.status is StepStatus.COMPLETED:
            yield "reused by the latest continuation"

    def _answered(self, row: StepRow) -> Iterator[str]:
        """Yield who has answered, and when, if the step is a question."""
        name = answer_name(row.step, row.attempt)
        for event in self._reader.events(Select(run_ids=[row.run_id], name=SignalReceived.__name__)):
            received = decode_as(SignalReceived, event.data)
            if received.name == name and not received.is_refused:
                yield f"answered {answered_by(received.sent_by, received.sent_at or event.at)}"


def _recorded_inputs(reader: Reader, row: StepRow) -> Mapping[str, Any]:
    """Return the arguments of the attempt by name: as trees, or as ids of values."""
    ids = [] if row.inputs_id is None else [row.inputs_id]
    record = next(iter(reader.values(ids, of=[row.row_key]).values()), None)
    if record is None or record.content is None:
        return {}
    here, elsewhere, _ = input_references(record)
    return here | {name: ValueId(bytes.fromhex(text)) for name, text in elsewhere.items()}


def _argument_changes(reader: Reader, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in {**then, **now}:
        if name not in then or name not in now:
            yield f"argument `{name}` is {'new' if name in now else 'gone'}"
        elif then[name] != now[name]:
            before, after = _legible_argument(reader, then[name]), _legible_argument(reader, now[name])
            # The previews of a file or a long value can be equal although the contents differ.
            what = f"the content of {after}" if before == after else f"{before} -> {after}"
            yield f"argument `{name}` changed: {what}"


def _legible_argument(reader: Reader, tree: Any) -> str:
    if type(tree) is bytes:
        found = reader.values([ValueId(tree)], content_limit=0).get(ValueId(tree))
        return "?" if found is None else legible(found.preview or found.type_name, _ARGUMENT_LENGTH)
    try:
        return legible(repr(untag(tree)), _ARGUMENT_LENGTH)
    except Exception:  # noqa: BLE001 -- the class is gone, or its repr raises
        return legible(repr(tree), _ARGUMENT_LENGTH)


_EPOCH_S: Final = (1_000_000_000, 10_000_000_000)
_ID: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_ADVICE_LENGTH: Final = 40


class VolatileArguments:
    """Compares the first new call of each step of a continued run with a recorded one that is no longer called."""

    def __init__(self, access: JournalAccess, run_id: RunId, memo: RecordedSteps) -> None:
        self._access = access
        self._run_id = run_id
        self._memo = memo
        self._seen: set[str] = set()

    def __call__(self, name: str, arguments: Mapping[str, Any], is_first: bool) -> None:  # noqa: FBT001 -- a callback
        """Print advice if the call differs from the recorded one only by values that are different each time.

        `is_first` means that all steps before it were reused, so one of them may have changed a list in place.
        """
        if name in self._seen:
            return
        self._seen.add(name)  # once a name: the search goes through all recorded steps
        record = self._memo.next_unused(name)
        if record is None or record.latest.inputs_id is None:
            return
        before = self._inline_inputs(record.latest.inputs_id, record.latest.row_key)
        differing = [each for each in arguments if each not in before or before[each] != arguments[each]]
        if differing and all(each in before and _is_volatile(before[each], arguments[each]) for each in differing):
            first = differing[0]
            say(
                f"step {name}: argument {first} was {_legible(before[first])} when run {self._run_id} began and is "
                f"{_legible(arguments[first])} now, so the step runs again; if it differs each time, take it from "
                "iron.now(), iron.uuid4() or iron.random(), which are recorded"
            )
        elif is_first and (changed := [it for it in differing if _is_mutable(before.get(it), arguments[it])]):
            say(
                f"step {name}: argument {changed[0]} is not what it was when run {self._run_id} began, and all steps "
                "before it were reused: they do not repeat a change in place, so return the changed value; the step "
                "runs again"
            )

    def _inline_inputs(self, inputs_id: ValueId, of: RowKey) -> Mapping[str, Any]:
        stored = self._access.value(inputs_id, of)
        try:
            here = {} if stored is None else input_references(stored)[0]
            return {name: untag(tree) for name, tree in here.items()}
        except Exception:  # noqa: BLE001 -- a class that is gone; then there is no advice
            return {}


def _is_mutable(then: Any, now: Any) -> bool:
    return type(then) is type(now) and (type(now) in {list, dict, set, bytearray} or hasattr(now, "__dict__"))


def _is_volatile(then: Any, now: Any) -> bool:
    if type(then) is not type(now):
        return False
    if isinstance(now, datetime | date) or type(now).__qualname__ == "UUID":
        return True
    if type(now) in {int, float}:
        return all(_EPOCH_S[0] < value < _EPOCH_S[1] for value in (then, now))
    return type(now) is str and all(map(_is_id_or_time, (then, now)))


def _is_id_or_time(text: str) -> bool:
    if _ID.fullmatch(text):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _legible(value: Any) -> str:
    return legible(str(value), _ADVICE_LENGTH)
