"""The body of a step in a worker of an executor: what is sent there, what is done there, and what is sent back.

An executor that may run in other processes gets bytes, and gives bytes back: so every error of pickling is met here,
with a name, and none in a thread of the executor.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple, cast

import msgspec

from ironflow_nb.core.identity import StepRef
from ironflow_nb.errors import ValueNotStorable
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.system.interrupts import call_body
from ironflow_nb.execution.system.system import end_with_parent
from ironflow_nb.values.failures import contents, made_of, set_attribute

_PACKAGE: Final = __name__.partition(".")[0]
_MOST_LINKS: Final = 20
"""Of a chain of exceptions; one that contains itself would have no end."""


Body = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
"""The function of a step with the arguments of one call."""


class WorkerCall(msgspec.Struct, frozen=True):
    """A call of the body of a step, as it is sent to a worker.

    `title` is different for every attempt: Dask takes equal calls for one.
    """

    step: StepRef
    title: str
    content: bytes
    place: str | None = None

    @property
    def __name__(self) -> str:
        """What the pages of an executor call it."""
        return self.step.partition("[")[0].rpartition(".")[2]

    def __call__(self) -> bytes:
        """Perform the body in the worker; return what came of it, pickled."""
        end_with_parent()  # else the body would go on beside the one of the continued run
        scope = SCOPE.set(RunContext(cast("Session", None), step=self.step))  # steps in the body are plain calls
        try:
            outcome: Any = _Returned(perform_body(*_loads(self.content)))
        except BaseException as error:  # noqa: BLE001 -- it is raised again where it is waited for
            outcome = _raised(error)
            if not _is_picklable(outcome, _Raised.rebuilt):
                outcome = _raised(RuntimeError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__))
        finally:
            SCOPE.reset(scope)
        try:
            return _dumps(outcome, self.place)
        except Exception as error:  # noqa: BLE001 -- a foreign class may raise anything
            what = f"what {self.step} returned can't be sent back from its worker: {type(error).__name__}: {error}"
            return _dumps(_raised(ValueNotStorable(what)))


def perform_body(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what the function returns; a coroutine has an event loop of its own."""
    value = call_body(function, args, kwargs)
    if not inspect.iscoroutine(value):
        return value
    import asyncio

    return asyncio.run(value)


def pickled_call(step: StepRef, title: str, body: Body, arguments: Mapping[str, Any], place: str | None) -> WorkerCall:
    """Return the call of a body, to be sent to a worker. `arguments` names the arguments.

    Large frames and arrays go both ways by the place of the journal's values, if they have one.

    Raises:
        ValueNotStorable: one of them, or what the function refers to, can't be pickled.
    """
    try:
        return WorkerCall(step, title, _dumps(body, place), place)
    except Exception as error:
        names = [f"its argument {name}" for name, value in arguments.items() if not _is_picklable(value)]
        culprit = " and ".join(names) or "what its function refers to"
        raise ValueNotStorable(
            f"{step} can't be sent to its executor, for {culprit} can't be pickled: {type(error).__name__}: {error}; "
            "make it in the body, or let the step run without executor="
        ) from error


def result_of_worker(content: bytes) -> Any:
    """Return what a body in a worker returned, or raise what it raised, with its traceback there.

    Raises:
        BaseException: that of the body.
    """
    outcome = _loads(content)
    if isinstance(outcome, _Returned):
        return outcome.value
    raise outcome.rebuilt()


class _Returned(NamedTuple):
    value: Any


class _Frame(NamedTuple):
    """A line of the user's code that a traceback names."""

    module: str
    file: str
    function: str
    line: int

    def own_file(self) -> str:
        """Return the file of the function here; a function that was sent by value does not know it any more."""
        found: Any = sys.modules.get(self.module)
        for name in self.function.partition(".<locals>")[0].split("."):
            found = getattr(found, name, None)
        code = getattr(getattr(found, "fn", found), "__code__", None)
        return self.file if code is None else str(code.co_filename)


class _Raised(msgspec.Struct):
    """An exception in parts that can be pickled, with the lines of its traceback and the exceptions that it came of."""

    kind: type[BaseException]
    arguments: list[Any]
    state: dict[str, Any]
    frames: list[_Frame]
    cause: _Raised | None
    context: _Raised | None
    suppresses: bool

    def rebuilt(self) -> BaseException:
        """Return the exception with its chain and traceback."""
        error = made_of(self.kind, self.arguments, self.state)
        set_attribute(error, "__cause__", None if self.cause is None else self.cause.rebuilt())
        set_attribute(error, "__context__", None if self.context is None else self.context.rebuilt())
        set_attribute(error, "__suppress_context__", self.suppresses)
        traceback: TracebackType | None = None
        for frame in reversed(self.frames):
            traceback = TracebackType(traceback, stand_in := _stand_in(frame), stand_in.f_lasti, frame.line)
        return error.with_traceback(traceback)


def _raised(error: BaseException, depth: int = 0) -> _Raised:
    """Return what is sent of an exception."""

    def sent(other: BaseException | None) -> _Raised | None:
        return None if other is None or depth == _MOST_LINKS else _raised(other, depth + 1)

    arguments, state = contents(error)
    state |= {"__notes__": notes} if (notes := getattr(error, "__notes__", None)) else {}
    return _Raised(
        kind=type(error),
        arguments=[each if _is_picklable(each) else repr(each) for each in arguments],
        state={name: value for name, value in state.items() if _is_picklable(value)},
        frames=_frames(error.__traceback__),
        cause=sent(error.__cause__),
        context=sent(error.__context__),
        suppresses=error.__suppress_context__,
    )


def _frames(traceback: TracebackType | None) -> list[_Frame]:
    """Return the frames from the user's first one on."""
    frames: list[_Frame] = []
    while traceback is not None:
        module, code = str(traceback.tb_frame.f_globals.get("__name__")), traceback.tb_frame.f_code
        if frames or module.partition(".")[0] not in {_PACKAGE, "asyncio"}:
            frames.append(_Frame(module, code.co_filename, code.co_qualname, traceback.tb_lineno))
        traceback = traceback.tb_next
    return frames


def _stand_in(frame: _Frame) -> FrameType:
    """Return a frame that names the same line: those of another process can't be had."""
    code = compile("get_frame()", frame.own_file(), "eval")
    lines = b"\xe8\x00" * (len(code.co_code) // 2)  # each instruction is of the first line, and of no column
    name = frame.function.rpartition(".")[2]
    code = code.replace(co_firstlineno=frame.line, co_linetable=lines, co_name=name, co_qualname=frame.function)
    found: FrameType = eval(code, {"__name__": frame.module, "get_frame": lambda: sys._getframe(1)})  # noqa: S307
    return found


def _is_picklable(value: Any, use: Callable[[Any], object] = id) -> bool:
    try:
        use(_loads(_dumps(value)))
    except Exception:  # noqa: BLE001 -- a foreign class may raise anything
        return False
    return True


def _dumps(value: Any, place: str | None = None) -> bytes:
    if place is not None:
        from ironflow_nb.value_store.value_references import pickled_by_reference

        return pickled_by_reference(value, place)
    import cloudpickle

    return cast("bytes", cloudpickle.dumps(value))


def _loads(content: bytes) -> Any:
    import pickle

    return pickle.loads(content)  # noqa: S301 -- between a process and its workers
