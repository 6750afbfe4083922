"""Advice on arguments that differ each time a flow runs: times and ids, which make steps run again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.execution import JournalAccess, say
from ironflow_nb.values.codecs import input_references
from ironflow_nb.values.stored_value import legible
from ironflow_nb.values.tagged import untag

_EPOCH_S: Final = (1_000_000_000, 10_000_000_000)
_ID: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
_SHOWN: Final = 40


class VolatileArguments:
    """Compares the first new call of each step of a continued run with a recorded one that is no longer called."""

    def __init__(self, access: JournalAccess, run_id: RunId, memo: RecordedSteps) -> None:
        self._access = access
        self._run_id = run_id
        self._memo = memo
        self._seen: set[str] = set()

    def __call__(self, name: str, arguments: Mapping[str, Any], is_first: bool) -> None:  # noqa: FBT001 -- a callback
        """Say so if the call differs from the recorded one only by values that are others each time.

        `is_first` says that everything before it was reused: a list that differs was changed in place by that, perhaps.
        """
        if name in self._seen:
            return
        self._seen.add(name)  # whatever is found: the search goes through all that is recorded
        record = self._memo.next_unused(name)
        if record is None or record.latest.inputs_id is None:
            return
        before = self._recorded(record.latest.inputs_id)
        differing = [each for each in arguments if each not in before or before[each] != arguments[each]]
        if differing and all(each in before and _varies(before[each], arguments[each]) for each in differing):
            first = differing[0]
            say(
                f"step {name}: argument {first} was {_shown(before[first])} when run {self._run_id} began and is "
                f"{_shown(arguments[first])} now, so the step runs again; if it differs each time, take it from "
                "iron.now(), iron.uuid4() or iron.random(), which are recorded"
            )
        elif is_first and (changed := [it for it in differing if _is_changeable(before.get(it), arguments[it])]):
            say(
                f"step {name}: argument {changed[0]} is not what it was when run {self._run_id} began, and all before "
                "it is reused: what a step changes in place is not changed again, so return it; the step runs again"
            )

    def _recorded(self, inputs_id: Any) -> Mapping[str, Any]:
        stored = self._access.value(inputs_id)
        try:
            here = {} if stored is None else input_references(stored)[0]
            return {name: untag(tree) for name, tree in here.items()}
        except Exception:  # noqa: BLE001 -- a class that is gone; then there is nothing to say
            return {}


def _is_changeable(then: Any, now: Any) -> bool:
    return type(then) is type(now) and (type(now) in {list, dict, set, bytearray} or hasattr(now, "__dict__"))


def _varies(then: Any, now: Any) -> bool:
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


def _shown(value: Any) -> str:
    return legible(str(value), _SHOWN)
