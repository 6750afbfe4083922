"""The current code of one step, checked before each of its calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ironflow_nb.core.identity import Digest
from ironflow_nb.values.classes import CodeKnowledge

if TYPE_CHECKING:
    from ironflow_nb.code_identity.code_parts import TrackedCode
    from ironflow_nb.code_identity.guards import Guards


class _Epoch:
    """The number of cells that were executed in this process."""

    number = 0


_EPOCH: Final = _Epoch()


def start_epoch() -> None:
    """Count an executed cell, so that the files in `depends` are checked again."""
    _EPOCH.number += 1


class _Seen(NamedTuple):
    tracked: TrackedCode
    watch: Guards
    epoch: int


class Tracker:
    """The tracked code of one function, as long as the function lives.

    `current` first checks the guards: each name, code, cell and class that the last walk looked at. The check is cheap
    and runs at every call, because a cell may rebind a constant between two calls of a flow. A check of a file in
    `depends` costs a system call. It runs once per cell, or at every call if no cells are counted.

    Lock: none. Threads share one reference to an immutable `_Seen`, which they read and replace as a whole. Two threads
    may walk at once, with equal results. A late thread may store an older result, which the next check finds outdated.
    """

    def __init__(self, function: Callable[..., Any], depends: tuple[Any, ...] = (), *, is_value: bool = False) -> None:
        self._function = function
        self._is_value = is_value
        self._depends = depends
        self._seen: _Seen | None = None

    def current(self) -> TrackedCode:
        """Return the code as it is now."""
        seen = self._seen
        if seen is not None and seen.watch.holds() and (not seen.watch.has_files or self._files_hold(seen)):
            return seen.tracked
        return self._track()

    def _files_hold(self, seen: _Seen) -> bool:
        epoch = _EPOCH.number
        if epoch and epoch == seen.epoch:
            return True
        if not seen.watch.files_hold():
            return False
        self._seen = seen._replace(epoch=epoch)
        return True

    def _track(self) -> TrackedCode:
        from ironflow_nb.code_identity.dependency_walk import DependencyWalk

        epoch = _EPOCH.number
        walk = DependencyWalk(self._function, self._depends, is_value=self._is_value)
        tracked = walk.tracked()
        self._seen = _Seen(tracked, walk.watch, epoch)
        return tracked


@lru_cache(maxsize=256)
def _tracker_of(function: Callable[..., Any]) -> Tracker:
    return Tracker(function, is_value=True)


def code_identity(code: Callable[..., Any]) -> Digest:
    """Return the identity of a function or class that is an argument or a part of one."""
    return _tracker_of(code).current().digest


def _class_identity(kind: type) -> Digest | None:
    from ironflow_nb.code_identity.source import is_user_class

    return code_identity(kind) if is_user_class(kind) else None


def _note_about(code: Any) -> bytes:
    from ironflow_nb.code_identity.definitions import written_note

    return written_note(code)


CODE: Final = CodeKnowledge(code_identity, _class_identity, _note_about)
"""The knowledge of code for the values of an engine."""
