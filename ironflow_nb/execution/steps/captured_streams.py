"""What bodies and flows write to stdout, stderr and logging, copied into the logs of their attempts.

The text goes where it went before, too. While runs go on, `sys.stdout` and `sys.stderr` are streams that copy what is
written to them. To which attempt a text belongs is told by the context of the calling thread or task.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakValueDictionary

from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.system.interrupts import INTERRUPTS

if TYPE_CHECKING:
    from logging import LogRecord

    CallHandlers = Callable[[Any, LogRecord], None]

_HEARD: Final[ContextVar[RunContext | None]] = ContextVar("ironflow_heard", default=None)
"""The place of which a text is being kept: what is written there meanwhile was heard already, or is no text of it.

That is so below another copying stream, and in handlers of logging. An interrupt may leave it behind, but that ends the
code of this place, too.
"""
_OWN_LOGGER: Final = "ironflow_nb"
_OF_KERNELS: Final = "ipykernel.iostream"
"""The module of the streams of a kernel."""


class CopyingStream:
    """A stream in place of another one, which gets all that is written; `hear` is told it first."""

    def __init__(self, stream: Any, hear: Callable[..., object]) -> None:
        self.copied = stream
        self.hear = hear

    def write(self, text: str) -> Any:
        """Write the text."""
        self.hear(text)
        return self.copied.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.copied, name)


class HeardStream(CopyingStream):
    """A stream whose texts are copied into logs. Another one of its kind may be below it, which hears nothing then."""

    def write(self, text: str) -> Any:
        """Write the text, and keep it if it is one of a run."""
        scope = SCOPE.get()
        if scope is None or _HEARD.get() is scope:
            return self.copied.write(text)
        token = _HEARD.set(scope)  # from here on: a collected object may write while this text is being kept
        try:
            self.hear(scope, text)
            INTERRUPTS.check_in_body()
            return self.copied.write(text)
        finally:
            _HEARD.reset(token)


class Hearer(Protocol):
    """Whose runs are heard."""

    @property
    def has_runs(self) -> bool:
        """Whether runs go on that may write something."""
        ...


class CapturedStreams:
    """The streams of the process, which are copied while any of its users has runs.

    Each is asked for that, and need not tell: its last run may end in its background thread, and it may be left in the
    middle of runs.

    They are put in place by the thread that begins a run, and taken away by the main thread only: a redirection that
    it is about to make would be lost otherwise.
    """

    def __init__(self) -> None:
        self._users: WeakValueDictionary[int, Hearer] = WeakValueDictionary()
        self._pid = os.getpid()
        self._handlers: tuple[CallHandlers, CallHandlers] | None = None

    def use(self, user: Hearer) -> None:
        """Copy what is written to the current streams, until no user has runs."""
        self._users[id(user)] = user
        self._pid = os.getpid()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and type(stream) is not HeardStream:
                self._copy(name, stream)
        logging = sys.modules.get("logging")  # code that logs has imported it
        if logging is not None and self._handlers is None:
            plain = logging.Logger.callHandlers
            self._handlers = plain, self._recording(plain)
            logging.Logger.callHandlers = self._handlers[1]

    def renew(self) -> None:
        """Copy the process's own streams again, where a redirection that has ended has put them back.

        What somebody has redirected meanwhile is not copied.
        """
        for name in ("stdout", "stderr") if self._is_used() else ():
            stream = getattr(sys, name)
            is_own = stream is getattr(sys, f"__{name}__") or type(stream).__module__ == _OF_KERNELS
            if stream is not None and is_own:
                self._copy(name, stream)

    def _copy(self, name: str, stream: Any) -> None:
        setattr(sys, name, HeardStream(stream, partial(self._hear, name)))

    def forget(self, user: Hearer) -> None:
        """Ask that user no longer, which has no runs now."""
        self._users.pop(id(user), None)
        if user.has_runs:  # another thread has begun one, perhaps before the line above
            self._users[id(user)] = user

    def release(self, *, is_main: bool) -> None:
        """Give the streams back if no user has runs, and that is the main thread."""
        if self._is_used() or not is_main:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if type(stream) is HeardStream:
                setattr(sys, name, stream.copied)
        logger = sys.modules["logging"].Logger if self._handlers is not None else None
        if self._handlers is not None and logger is not None and logger.callHandlers is self._handlers[1]:
            logger.callHandlers, self._handlers = self._handlers[0], None

    def _hear(self, name: str, scope: RunContext, text: str) -> None:
        if isinstance(text, str) and self._is_listening():
            try:
                scope.session.telemetry().write(scope.attempt, name, text)
            except Exception as error:  # noqa: BLE001
                _note(scope, error)

    def _recording(self, call_handlers: CallHandlers) -> CallHandlers:
        def called(logger: Any, record: LogRecord) -> None:
            scope = SCOPE.get()
            is_heard = _HEARD.get() is scope or not self._is_listening()
            if scope is None or is_heard or record.name.partition(".")[0] == _OWN_LOGGER:
                return call_handlers(logger, record)
            token = _HEARD.set(scope)
            try:
                try:
                    scope.session.telemetry().record(scope.attempt, record.levelname, _text(record))
                except Exception as error:  # noqa: BLE001
                    _note(scope, error)
                INTERRUPTS.check_in_body()
                return call_handlers(logger, record)
            finally:
                _HEARD.reset(token)

        return called

    def _is_listening(self) -> bool:
        """Return False in a forked child, in which a thread that does not exist may seem to hold a lock."""
        return os.getpid() == self._pid and self._is_used()

    def _is_used(self) -> bool:
        users = [reference() for reference in self._users.valuerefs()]  # a copy: other threads may add some
        return any(user is not None and user.has_runs for user in users)


def _note(scope: RunContext, error: Exception) -> None:
    """Note that a text could not be kept: a body does not fail because it prints."""
    scope.access.background_errors.note("keeping what an attempt writes", error)


def _text(record: LogRecord) -> str:
    """Return the record with its logger, and the traceback that it has."""
    from logging import Formatter

    try:
        return Formatter("%(name)s: %(message)s").format(record)
    except Exception:  # noqa: BLE001 -- of the user's arguments; logging itself reports it
        return f"{record.name}: {record.msg}"


STREAMS: Final = CapturedStreams()
