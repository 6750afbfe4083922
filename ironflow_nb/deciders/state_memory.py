"""States that a process still knows, so that a decision does not fold the events of its instance again.

A state counts only with the version that the transaction finds, and with the code of `evolve` that made it. Only what
nobody can change is remembered: a `decide` that changes its state would change what the next one is given.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from ironflow_nb.core.identity import Digest, RunId
from ironflow_nb.execution import JournalAccess

REMEMBERED: Final = 1024
_PLAIN: Final = (int, float, str, bytes, bool, tuple, frozenset)


class KnownState(NamedTuple):
    """The state after the event of that version, by that code; `kept_version` is that of the one in the journal."""

    version: int
    code: Digest
    state: Any
    kept_version: int


_Shelf = tuple[AbstractContextManager[object], OrderedDict[RunId, KnownState]]


class StateMemory:
    """The newest states of the instances of one decider, for each engine."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[JournalAccess, _Shelf] = WeakKeyDictionary()

    def find(self, access: JournalAccess, run_id: RunId, version: int, code: Digest) -> tuple[Any, int] | None:
        """Return the state of that version, and the version of the one that is kept, if it is still known."""
        _, known = self._of(access)
        found = known.get(run_id)
        return found[2:] if found is not None and found[:2] == (version, code) else None

    def keep(self, access: JournalAccess, run_id: RunId, committed: KnownState) -> None:
        """Remember what was committed."""
        if not is_immutable(committed.state):
            return
        lock, known = self._of(access)
        with lock:
            known[run_id] = committed
            known.move_to_end(run_id)
            while len(known) > REMEMBERED:
                known.popitem(last=False)

    def move(self, access: JournalAccess, run_id: RunId, before: int, after: int) -> None:
        """Remember that the events from one version to the other, which were committed, have not changed the state."""
        lock, known = self._of(access)
        with lock:
            found = known.get(run_id)
            if found is not None and found.version == before:
                known[run_id] = found._replace(version=after)

    def _of(self, access: JournalAccess) -> _Shelf:
        if access not in self._known:
            self._known.setdefault(access, (access.threads.lock(), OrderedDict()))
        return self._known[access]


def is_immutable(state: Any) -> bool:
    """Tell whether nobody can change the state, as far as its class and the hash of its fields tell."""
    parameters = getattr(type(state), "__dataclass_params__", None)
    if parameters is not None:
        is_frozen = parameters.frozen
    elif isinstance(state, msgspec.Struct):
        is_frozen = state.__struct_config__.frozen
    else:
        is_frozen = type(state) in _PLAIN
    if not is_frozen:
        return False
    try:
        hash(state)
    except TypeError:
        return False
    return True
