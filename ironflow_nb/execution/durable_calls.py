"""The calls by which styles act in a run: steps, submissions, records, branches and waits of the calling code.

Flows, graphs and durable cells perform steps through this module, and never through `Session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn

from msgspec.structs import replace

from ironflow_nb.core.identity import OWN_PREFIX, RunId
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.execution.definitions.step_spec import StepOptions, StepSpec
from ironflow_nb.execution.recording.journal_access import RunStorage
from ironflow_nb.execution.session.attempts import FAILED_STEP, Attempt, Promise, RecordedAnswer, steps_behind
from ironflow_nb.execution.steps import drivers
from ironflow_nb.execution.steps.branches import Branch
from ironflow_nb.execution.steps.context import SCOPE, RunContext
from ironflow_nb.execution.steps.fan_out import Submission
from ironflow_nb.execution.steps.step_runner import call, call_async, deliver, raised, returned
from ironflow_nb.execution.steps.wait_runner import pause, pause_async

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "call", "call_async", "commit_seen", "count_items", "deliver", "encode_with", "entered", "is_step_failure",
    "is_stopping", "note", "note_failure", "open_branch", "pause", "pause_async", "recall", "record",
    "recorded_run_id", "refuse_secrets", "register_undo", "run_beside", "skip", "submit", "unobserve", "wait_for",
    "wait_for_async", "wait_for_future", "wake",
]  # fmt: skip


# A new version of the package may start runs in another way; those that were started stay.
_START: Final = StepSpec(
    lambda kind, name, arguments: (kind, name, arguments),
    name=f"{OWN_PREFIX}start",
    options=StepOptions(on_change=OnChange.KEEP),
)


def submit(
    context: RunContext, spec: StepSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_limited: bool = True
) -> Submission:
    """Begin a call beside the flow. A limited call waits while many others run."""
    return Submission(context, context.resolve(spec, args, kwargs), is_limited=is_limited)


def record(
    context: RunContext, spec: StepSpec, arguments: Mapping[str, Any], make: Callable[[], Any], *, is_seen: bool
) -> Any:
    """Return the recorded result of the call. Without one, call `make` and add its result to the next commit.

    It is committed before the next body begins, if it `is_seen` by the flow and can't be made again.
    """
    asked = recall(context, spec, arguments)
    return asked.value if isinstance(asked, RecordedAnswer) else note(context, asked, make, is_seen=is_seen)


def recall(context: RunContext, spec: StepSpec, arguments: Mapping[str, Any]) -> RecordedAnswer | Attempt:
    """Return what is recorded of a call that has no body, or the attempt for which something can be noted."""
    asked = context.resolve(spec, (), arguments, site="")
    assert not isinstance(asked, Promise)
    return asked


def note(context: RunContext, attempt: Attempt, make: Callable[[], Any], *, is_seen: bool) -> Any:
    """Add to the next commit what `make` gives; return it as a replay will."""
    session = context.session
    session.start(attempt, is_beside=False, has_body=False)
    result = returned(session, attempt, make())
    session.record_later(result, is_seen=is_seen)
    if result.error is not None:
        raise result.error
    return result.value


def register_undo(
    context: RunContext, call: StepSpec, undo: StepSpec, arguments: Mapping[str, Any], *, function: object
) -> None:
    """Record a call that is undone by that step, with those arguments, if the run fails; see `Undos`."""
    session = context.session
    asked = recall(context, call, {"undo": undo.name, "arguments": arguments})
    if isinstance(asked, RecordedAnswer):
        return
    session.start(asked, is_beside=False, has_body=False)
    assert asked.row is not None
    event = session.undos.register(session.storage, asked.row, undo, arguments, function=function)
    session.record_later(replace(returned(session, asked, None), besides=(event,)), is_seen=True)


def note_failure(context: RunContext, attempt: Attempt, error: Exception) -> NoReturn:
    """Add to the next commit that the call failed, and raise that as a replay will."""
    session = context.session
    session.start(attempt, is_beside=False, has_body=False)
    result = raised(session, attempt, error)
    session.record_later(result, is_seen=True)
    session.observe(attempt)
    assert result.error is not None
    raise result.error


def recorded_run_id(context: RunContext, kind: str, name: str, arguments: Mapping[str, Any]) -> RunId:
    """Return the id of a run that the flow starts beside itself: the same one whenever the flow gets there again.

    It is committed before this returns, so that no death between the two makes two runs of one.
    """
    access = context.session.access
    context.session.storage.refuse_secrets(f"the arguments of {name}", arguments)
    called = {"kind": kind, "name": name, "arguments": dict(arguments)}
    run_id = record(context, _START, called, access.new_run_id, is_seen=True)
    context.session.flush()
    return RunId(run_id)


def refuse_secrets(what: str, value: object) -> None:
    """Check that a value has no secret of the run; the calling code stores it outside of its run.

    Raises:
        ValueNotStorable: it has one.
    """
    scope = SCOPE.get()
    if scope is not None and not scope.is_in_worker:
        scope.session.storage.refuse_secrets(what, value)


def open_branch(context: RunContext, name: str, arguments: Mapping[str, Any] | None = None) -> RunContext:
    """Return the place of a new branch that does `name` with those arguments."""
    return context.branched(name, arguments)


@contextmanager
def entered(context: RunContext) -> Iterator[None]:
    """Make that place the context of the calling code."""
    token = SCOPE.set(context)
    try:
        yield
    finally:
        SCOPE.reset(token)


def wait_for(context: RunContext, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
    """Drive the run in the calling thread until `is_done`; return False after `timeout_s`.

    Anything but an attempt or a branch that changes `is_done` has to call `wake`. The run is not parked before the time
    is up.
    """
    session = context.session
    with nullcontext() if timeout_s is None else session.beside.timed():
        return drivers.wait(session, is_done, timeout_s)


async def wait_for_async(context: RunContext, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
    """Drive the run in the calling task until `is_done`; see `wait_for`."""
    from asyncio import current_task

    session = context.session
    with (
        session.beside.at_rest(current_task(), is_done),
        nullcontext() if timeout_s is None else session.beside.timed(),
    ):
        return await drivers.ON_LOOP.wait(session, is_done, timeout_s)


def is_stopping(context: RunContext) -> bool:
    """Return True if the run was asked to stop: its tasks are to end."""
    return context.session.stop_request is not None


def wake(context: RunContext) -> None:
    """Wake all who wait for the run, so that they look again; called in any thread."""
    context.session.wakeups.wake()


def wait_for_future(context: RunContext, future: Future[Any]) -> Any:
    """Drive the run in the calling thread until the future is done; return its result."""
    future.add_done_callback(lambda _: context.session.wakeups.wake())
    wait_for(context, future.done)
    return future.result()


def run_beside(
    context: RunContext, function: Callable[[], Any], when_done: Callable[[Any, BaseException | None], None]
) -> None:
    """Run a function at that place on a thread of its own; `when_done` gets its value and error there.

    Lock: `when_done` is called under that of the session.
    """
    branch = Branch(context, function)
    branch.when_done(lambda: when_done(branch.promise.value, branch.promise.error))
    branch.begin()


def skip(context: RunContext, name: str, reason: str) -> None:
    """Add to the next commit that the step is left out at that place, unless something is recorded of it."""
    context.session.skip(name, context.branch, reason)


def count_items(context: RunContext, name: str, n_items: int) -> None:
    """Add to the next commit how often a loop will call the step at that place."""
    series = context.session.begin_series(name, context.branch, "", continuation=context.continuation)
    context.session.count_items(series, n_items)


def commit_seen() -> None:
    """Commit recorded results that the flow has seen, before something that outlives the process depends on them."""
    scope = SCOPE.get()
    if scope is not None and scope.step is None and scope.session.writer.is_seen:
        scope.session.flush()


def encode_with(context: RunContext, around: Callable[[RunStorage], RunStorage]) -> None:
    """Encode all further records of the run by a storage that is made around its own."""
    context.session.encode_with(around)


def unobserve(context: RunContext, error: BaseException) -> None:
    """Take back that the flow lived with the failures behind the error: a later continuation tries them again."""
    session = context.session
    session.disown(steps_behind(session.run_id, error))


def is_step_failure(error: BaseException) -> bool:
    """Return True if the error is the failure of a step."""
    return hasattr(error, FAILED_STEP)
