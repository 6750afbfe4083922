"""Every error of the package: one root, each also an error of the nearest builtin kind.

A message says what was asked and found, and what to do. Each class declares its ids, and takes them as keywords.
"""

from __future__ import annotations

import errno as _errno
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, dataclass_transform


def _field(*, kw_only: bool = True) -> Any:  # noqa: ARG001 -- type checkers read it
    return None


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(_field,))
class _TypedAttributes:
    """Type checkers read the constructor of each error from the attributes that its class declares."""


class IronflowError(_TypedAttributes, Exception):
    """The root of every error that ironflow_nb raises."""

    if TYPE_CHECKING:
        message: str = _field(kw_only=False)
    else:

        def __init__(self, message: str, **attributes: object) -> None:
            super().__init__(message)
            kind = type(self)
            vars(self).update(
                {name: value for name, value in attributes.items() if value is not getattr(kind, name, kind)}
            )

        @property
        def message(self) -> str:
            """What was asked, what was found and what to do."""
            return str(self.args[0]) if self.args else ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # An attribute without a default can always be read, also of an error that was rebuilt from an older record.
        for name in vars(cls).get("__annotations__", ()):
            if name not in vars(cls):
                setattr(cls, name, None)

    @property
    def ids(self) -> dict[str, Any]:
        """The attributes of this error that have other values than its class gives them, by name."""
        # Older records of failures hold a copy under the name `ids`.
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "ids"}

    # OSError with one argument would hide the message behind errno.
    def __str__(self) -> str:
        return self.message

    # The constructor of a subclass may ask for something else than what the error consists of.
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, vars(self))


def _rebuild(kind: type[IronflowError], message: str, attributes: dict[str, Any]) -> IronflowError:
    # `kind.__new__` is refused where RuntimeError stands before OSError among the bases, whose objects are larger.
    error = OSError.__new__(kind, message) if issubclass(kind, OSError) else Exception.__new__(kind, message)
    IronflowError.__init__(error, message, **attributes)
    return error


# -- the journal -------------------------------------------------------------------------------------------------


class JournalError(IronflowError, OSError):
    """The journal could not be opened, read or written."""

    path: Path | None = None
    errno: int | None = None


class NotAJournal(JournalError):
    """The path is something else than a journal: a folder, another kind of file, another application's database."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of ironflow_nb."""

    schema: int


class JournalReadOnly(JournalError, PermissionError):
    """A write was asked of a journal that can only be read."""


class JournalBusy(JournalError, TimeoutError):
    """Another process held the write lock of the journal for too long."""

    pids: list[int]


class JournalFull(JournalError):
    """There is no space left for the journal: the disk is full, or a quota or limit is reached."""

    errno: int | None = _errno.ENOSPC


class JournalConflict(JournalError):
    """The next version of a run was already taken: somebody else appends to it."""

    run_id: str | None = None
    name: str | None = None


class JournalCorrupt(JournalError):
    """A row of the journal can't be what the package wrote; `damaged` has a message for each run with such rows."""

    run_id: str | None = None
    event_type: str | None = None
    damaged: dict[str, str] | None = None


class EngineClosed(IronflowError, RuntimeError):
    """The engine was closed, or belongs to the process that this one was forked from."""


# -- finding, calling, and how a run ended -----------------------------------------------------------------------------


class RunNotFound(IronflowError, LookupError):
    """No run has that id or prefix."""

    run_id: str | None = None
    prefix: str | None = None
    name: str | None = None


class AmbiguousRun(IronflowError, LookupError):
    """Several runs begin with that prefix."""

    prefix: str


class StepNotFound(IronflowError, LookupError):
    """The run has no such step."""

    run_id: str | None = None
    step: str | None = None
    name: str | None = None


class AmbiguousStep(IronflowError, LookupError):
    """The name fits several steps of the run."""

    run_id: str
    step: str


class NothingToDo(IronflowError, ValueError):
    """What was asked of a run can't be now: no step of those named can run again, it asks nothing, or is needed."""

    run_id: str


class FlowNotDefined(IronflowError, LookupError):
    """The flow of a run is not defined in this process; run the cell that defines it."""

    name: str
    run_id: str | None = None


class DefinitionError(IronflowError, TypeError):
    """A decorator was given something that can't be a flow or a step."""

    name: str | None = None


class NotInRun(IronflowError, RuntimeError):
    """A step was called from a thread that belongs to no run while a run of this process is active."""

    name: str


class WrongColour(IronflowError, TypeError):
    """An async thing was called where only a plain one works, or the other way round."""

    name: str | None = None


class NotAllowedInStep(IronflowError, RuntimeError):
    """Something that must be recorded by the flow itself was called inside a step."""

    name: str


class DuplicateName(IronflowError, ValueError):
    """Two different functions act under one step name in one run."""

    name: str
    run_id: str | None = None


class DuplicateKey(IronflowError, ValueError):
    """One key was used for two different sets of arguments."""

    run_id: str | None = None
    name: str | None = None
    key: str | None = None


class CodeChanged(IronflowError, RuntimeError):
    """Finished steps have other code now, and redoing them would cost more than the guard lets pass."""

    run_id: str
    name: str
    n_steps: int
    at_stake_s: float


class NotebookFailed(IronflowError, RuntimeError):
    """A cell of a notebook that was run as a whole failed, or its process ended; the message says where and how."""

    path: str
    number: int | None = None
    name: str | None = None


class OutcomeUnknown(IronflowError, RuntimeError):
    """A step that runs once was begun, and nobody knows what came of it."""

    run_id: str
    step: str


class WorkerLost(IronflowError, RuntimeError):
    """The worker that performed the body of a step died, or the executor of the step takes no more work."""

    step: str
    is_retryable: bool = True


class NotRetryable(IronflowError, RuntimeError):
    """Raised by the body of a step, it fails the step at once, whatever `retries` says; subclasses do, too."""


class StepTimeout(IronflowError, TimeoutError):
    """An attempt of a step took longer than its `timeout_s`, or all of them longer than their `deadline_s`."""

    run_id: str | None = None
    step: str | None = None
    is_retryable: bool = True


class RunFailed(IronflowError, RuntimeError):
    """The run failed, and its own exception can't be rebuilt here."""

    run_id: str
    kind: str | None = None


class StepFailed(IronflowError, RuntimeError):
    """A recorded failure of a step whose exception class does not exist in this process."""

    kind: str
    text: str


class RunInterrupted(IronflowError, RuntimeError):
    """The run was interrupted and can be continued."""

    run_id: str
    status: str


class RunCancelled(IronflowError, RuntimeError):
    """The run was cancelled."""

    run_id: str


class RunFinished(IronflowError, RuntimeError):
    """A step was called after its run had ended."""

    run_id: str


class RunTakenOver(IronflowError, RuntimeError):
    """Another process continues this run; what this one still does is not recorded."""

    run_id: str


class RunTimeout(IronflowError, TimeoutError):
    """The flow took longer than its `timeout_s` or `deadline_s`."""

    run_id: str


class ResultTimeout(IronflowError, TimeoutError):
    """The run or step did not finish within the time that the caller gave it."""

    run_id: str | None = None
    name: str | None = None
    position: int | None = None


class WaitTimeout(IronflowError, TimeoutError):
    """The signals that a flow waited for did not come in the time that it gave them."""

    run_id: str
    step: str


class ValueNotStorable(IronflowError, TypeError):
    """No codec can store the value."""


class ValueUnreadable(IronflowError, ValueError):
    """The stored value can't be decoded here: its class is gone, its file is missing, its bytes are damaged."""

    run_id: str | None = None
    step: str | None = None
    name: str | None = None
    value_id: bytes | None = None
    codec: str | None = None
    class_name: str | None = None


class UntrustedValue(ValueUnreadable):
    """The stored value leads to code, as a pickle does, and this user did not write it."""


class UntrustedRun(IronflowError, PermissionError):
    """What the journal keeps of the run leads to code, and this user did not write it."""

    run_id: str
    name: str


class FileUnreadable(IronflowError, OSError):
    """A file that identifies a call by its content does not exist, or can't be read."""

    path: str


class InputsNotStored(IronflowError, LookupError):
    """The arguments of the run were too large to be stored, so it can only be continued by calling it again."""

    run_id: str
    step: str | None = None
    arguments: list[str] | None = None


# -- deciders ----------------------------------------------------------------------------------------------------


class DecisionError(IronflowError, ValueError):
    """A decision, or what a decider is made of, can't be."""


class CommandRejected(IronflowError, RuntimeError):
    """The command was rejected, and its outcome unwrapped."""

    reason: Any


class InstanceNotFound(IronflowError, LookupError):
    """No instance of the decider has that id."""

    name: str
    instance: str


class InstanceCompleted(IronflowError, RuntimeError):
    """The instance was completed before the command came, and its outcome unwrapped."""

    instance: str


class EventUnreadable(IronflowError, ValueError):
    """A stored event, command or effect does not fit the classes that are defined now."""

    name: str | None = None
    instance: str | None = None
    sequence: int | None = None
    version: int | None = None


class VersionConflict(IronflowError, RuntimeError):
    """The instance has another version than the command expects."""

    version: int


class VersionNotFound(IronflowError, LookupError):
    """The run, or the instance of a decider, has no such version, or none at such a moment."""

    run_id: str | None = None
    instance: str | None = None
    version: int | None = None
    newest: int


class UniqueKeyTaken(IronflowError, ValueError):
    """Another instance that is not completed has the unique key."""

    key: str
    run_id: str


class ProjectionFailed(IronflowError, RuntimeError):
    """A projection could not fold an event."""

    projection: str
    position: int
    decider: str
    instance: str
    sequence: int


# -- graphs ------------------------------------------------------------------------------------------------------


class GraphPosition(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


class GraphFinding(Protocol):
    """A mistake in the definition of a graph, and where it is."""

    @property
    def path(self) -> tuple[str | int, ...]:
        """The keys and indexes that lead to the value."""

    @property
    def message(self) -> str:
        """What is wrong with it."""

    @property
    def position(self) -> GraphPosition | None:
        """Where it stands in the text; None if the definition was not read from one."""


class GraphInvalid(IronflowError, ValueError):
    """The definition of a graph has mistakes; `findings` are all of them, each with its path, line and column."""

    name: str | None = None
    findings: tuple[GraphFinding, ...] = ()


class InputInvalid(IronflowError, TypeError, ValueError):
    """The input of a call does not fit the graph, or an answer its question; nothing has come of it."""

    name: str


class NotGranted(IronflowError, PermissionError):
    """A node asked for a host, file, program or variable that its graph is not granted."""

    grant: str
    what: str


class SecretMissing(IronflowError, LookupError):
    """A secret that a graph names is not in its environment, keyring or prompt."""

    secret: str | None = None


class NodeFailed(IronflowError, RuntimeError):
    """A node of a graph could not do what it was asked; it is tried again if its `retry` says so.

    `is_retryable` is False where another try would come to the same; `retry_after_s` is how long its other side asks
    to be left alone. `fallback` is the result of the step where it is not tried again: then nothing has failed.
    """

    node: str | None = None
    is_retryable: bool = True
    retry_after_s: float | None = None
    fallback: object = None
    output: object = None
    status_code: int | None = None
    path: str | None = None


class ExpressionFailed(NodeFailed, ValueError):
    """An expression of a node met something else than it was written for."""

    is_retryable: bool = False


class AssertionsFailed(NodeFailed, AssertionError):
    """An `assert` node found what must not be; its message lists every mismatch."""

    is_retryable: bool = False


class NodeTimeout(NodeFailed, StepTimeout):
    """A node took longer than its `timeout_s`."""
