"""The views of a slider: the changes of a history in their order, one moment of it, and what differs between two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.plain_text import counted, plain

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ORDINARY: Final = frozenset(
    {"StepStarted", "StepCompleted", "StepQueued", "StepReused", "ItemsCounted", "SessionEnded", "EffectPerformed"}
)
"""The types of events that most of a history consists of."""
_FAILURES: Final = ("Failed", "Interrupted", "RunCancelled")
MOST_MARKS: Final = 200
MOST_LINES: Final = 200


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a history, an event: its version, its instant (microseconds UTC), and what happened in words."""

    version: int
    at: int
    words: str
    is_failure: bool = False


class SliderView(msgspec.Struct, frozen=True, kw_only=True):
    """What a slider moves over: the versions `first` to `newest`, and the changes of note among them."""

    title: str
    first: int = 1
    newest: int = 0
    began_at: int = 0
    newest_at: int = 0
    is_over: bool = False
    marks: tuple[ChangeView, ...] = ()


class DifferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """What of a step, or of a field of a state, is another one at the later of two moments. A missing one is None."""

    name: str
    before: str | None
    after: str | None


def change_words(kind: str, step: str | None, attempt: int | None) -> str:
    """Return an event in words: ``fetch[3]: step completed``, ``run started``; those of deciders keep their names."""
    words = kind.partition(".")[2] if "." in kind else _WORD.sub(" ", kind).lower()
    if step is None:
        return plain(words)
    again = f", attempt {attempt}" if attempt is not None and attempt > 1 else ""
    return plain(f"{step}: {words}{again}")


def is_of_note(kind: str) -> bool:
    """Return True if an event of that type is one that a person looks for in a long history."""
    return kind not in _ORDINARY


def is_failure(kind: str) -> bool:
    """Return True if an event of that type says that something went wrong."""
    return kind.endswith(_FAILURES)


def marks_of(changes: Sequence[ChangeView]) -> tuple[ChangeView, ...]:
    """Return the marks of a slider: of many, the failures first, and of the others the first ones."""
    if len(changes) <= MOST_MARKS:
        return tuple(changes)
    failures = [each for each in changes if each.is_failure][:MOST_MARKS]
    others = [each for each in changes if not each.is_failure][: MOST_MARKS - len(failures)]
    return tuple(sorted([*failures, *others], key=lambda each: each.version))


def sequence_text(title: str, changes: Sequence[ChangeView]) -> str:
    """Return the sequence of changes as text, with the time since the first; of a long one its beginning and end."""
    lines = [f"{title}: {counted(len(changes), 'change')}"]
    if not changes:
        return lines[0]
    lines[0] += f" since {clock_text(changes[0].at)}"
    n_left_out = len(changes) - MOST_LINES
    shown = list(changes) if n_left_out <= 0 else [*changes[: MOST_LINES // 2], *changes[-MOST_LINES // 2 :]]
    width = len(str(changes[-1].version))
    for number, each in enumerate(shown):
        if n_left_out > 0 and number == MOST_LINES // 2:
            lines.append(f"  ... {counted(n_left_out, 'change')} between ...")
        since = spoken(max(each.at - changes[0].at, 0) / 1e6)
        lines.append(f"  {each.version:>{width}}  +{since:<10} {each.words}")
    return "\n".join(lines)


def differences_text(differences: Sequence[DifferenceView]) -> str:
    """Return what differs between two moments as text, one line each."""
    said = ((each.name, "not there" if each.before is None else each.before, each.after) for each in differences)
    return "\n".join(f"  {name}: {before} -> {'gone' if after is None else after}" for name, before, after in said)


def clock_text(at: int) -> str:
    """Return the instant as local time."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone().isoformat(" ", "milliseconds")
