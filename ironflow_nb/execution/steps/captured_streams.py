"""What bodies and flows write to stdout, stderr and logging, copied into the logs of their attempts.

The text goes where it went before, too. While runs go on, the methods `write` of the two streams are replaced on the
objects themselves, and not the objects: so code that has kept a reference to one is heard, and nobody meets a stream of
another class. To which attempt a text belongs is told by the context of the calling thread or task.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ironflow_nb.execution.steps.context import SCOPE

if TYPE_CHECKING:
    from logging import LogRecord

_IS_LOGGING: Final[ContextVar[bool]] = ContextVar("ironflow_is_logging", default=False)
"""True while handlers print a record that is captured already."""
_OWN_LOGGER: Final = "ironflow_nb"
_MOST_REPLACED: Final = 20
"""Streams that others have put in place for a while are given back after that many later ones."""


class CapturedStreams:
    """The streams of the process, while anybody uses it."""

    def __init__(self) -> None:
        self._users: set[int] = set()
        self._replaced: list[_Replaced] = []
        self._pid = os.getpid()

    def use(self, user: object) -> None:
        """Capture the current streams, until everybody who uses this has released it."""
        self._users.add(id(user))
        self._pid = os.getpid()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not self._is_replaced(stream):
                self._replace(stream, "write", self._copying(name, stream.write))
        logging = sys.modules.get("logging")  # who logs has imported it
        if logging is not None and not self._is_replaced(logging.Logger):
            self._replace(logging.Logger, "callHandlers", self._recording(logging.Logger.callHandlers))

    def release(self, user: object) -> None:
        """Give the streams back after their last user."""
        self._users.discard(id(user))
        if not self._users:
            while self._replaced:
                self._replaced.pop().give_back()

    def _is_replaced(self, owner: Any) -> bool:
        return any(each.owner is owner for each in self._replaced)

    def _replace(self, owner: Any, name: str, function: Callable[..., Any]) -> None:
        with suppress(AttributeError, TypeError):  # a stream of the user may allow no attributes
            replaced = _Replaced(owner, name, function, vars(owner).get(name))
            setattr(owner, name, function)
            self._replaced.append(replaced)
        if len(self._replaced) > _MOST_REPLACED:
            self._replaced.pop(0).give_back()

    def _copying(self, name: str, write: Callable[[str], Any]) -> Callable[[str], Any]:
        def written(text: str) -> Any:
            scope = SCOPE.get()
            if scope is not None and not _IS_LOGGING.get() and self._is_heard(text):
                scope.session.telemetry().write(scope.attempt, name, text)
            return write(text)

        return written

    def _recording(self, call_handlers: Callable[[Any, LogRecord], None]) -> Callable[[Any, LogRecord], None]:
        def called(logger: Any, record: LogRecord) -> None:
            scope = SCOPE.get()
            if scope is None or not self._is_heard(record.name) or record.name.partition(".")[0] == _OWN_LOGGER:
                return call_handlers(logger, record)
            scope.session.telemetry().record(scope.attempt, record.levelname, _text(record))
            token = _IS_LOGGING.set(True)
            try:
                return call_handlers(logger, record)
            finally:
                _IS_LOGGING.reset(token)

        return called

    def _is_heard(self, text: object) -> bool:
        """Return False for what is no text, and in a forked child, in which another thread may seem to hold a lock."""
        return isinstance(text, str) and bool(self._users) and os.getpid() == self._pid


def _text(record: LogRecord) -> str:
    """Return the record with its logger, and the traceback that it has."""
    from logging import Formatter

    try:
        return Formatter("%(name)s: %(message)s").format(record)
    except Exception:  # noqa: BLE001 -- of the user's arguments; logging itself reports it
        return f"{record.name}: {record.msg}"


class _Replaced(NamedTuple):
    """A method in place of another one; `original` is None if that is of the class of its owner."""

    owner: Any
    name: str
    function: Callable[..., Any]
    original: Any

    def give_back(self) -> None:
        """Take it back, unless somebody has replaced it once more, and calls this one."""
        if vars(self.owner).get(self.name) is not self.function:
            return
        if self.original is None:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.original)


STREAMS: Final = CapturedStreams()
