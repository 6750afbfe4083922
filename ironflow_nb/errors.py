"""Every error of the package: one root, each also an error of the nearest builtin kind.

A message says what was asked, what was found and what to do; the ids it speaks of are attributes too.
"""

from __future__ import annotations


class IronflowError(Exception):
    """The root of every error that ironflow_nb raises."""

    def __init__(self, message: str, **ids: object) -> None:
        super().__init__(message)
        self.ids = ids
        for name, value in ids.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.ids)


def _rebuild(kind: type[IronflowError], message: str, ids: dict[str, object]) -> IronflowError:
    return kind(message, **ids)


# -- the journal -------------------------------------------------------------------------------------------------


class JournalError(IronflowError, OSError):
    """The journal could not be opened, read or written."""

    # OSError with one argument would hide the message behind errno in str().
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotAJournal(JournalError):
    """The path is something else than a journal: a folder, another kind of file, another application's database."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of ironflow_nb."""


class JournalReadOnly(JournalError, PermissionError):
    """A write was asked of a journal that can only be read."""


class JournalBusy(JournalError, TimeoutError):
    """Another process held the write lock of the journal for too long."""


class JournalFull(JournalError):
    """There is no space left for the journal: the disk is full, or a quota or limit is reached."""


class JournalConflict(JournalError):
    """The next version of a run was already taken: somebody else appends to it."""


class JournalCorrupt(JournalError):
    """A row of the journal can't be what the package wrote."""


class EngineClosed(IronflowError, RuntimeError):
    """The engine was closed, or belongs to the process that this one was forked from."""


# -- finding things ----------------------------------------------------------------------------------------------


class RunNotFound(IronflowError, LookupError):
    """No run has that id or prefix."""


class AmbiguousRun(IronflowError, LookupError):
    """Several runs begin with that prefix."""


class StepNotFound(IronflowError, LookupError):
    """The run has no such step."""


class AmbiguousStep(IronflowError, LookupError):
    """The name fits several steps of the run."""


class NothingToDo(IronflowError, ValueError):
    """A run was told to do steps again, and none of those named can be."""


class FlowNotDefined(IronflowError, LookupError):
    """The flow of a run is not defined in this process; run the cell that defines it."""


# -- calling -----------------------------------------------------------------------------------------------------


class DefinitionError(IronflowError, TypeError):
    """A decorator was given something that can't be a flow or a step."""


class NotInRun(IronflowError, RuntimeError):
    """A step was called from a thread that belongs to no run while a run of this process is active."""


class WrongColour(IronflowError, TypeError):
    """An async thing was called where only a plain one works, or the other way round."""


class NotAllowedInStep(IronflowError, RuntimeError):
    """Something that must be recorded by the flow itself was called inside a step."""


class DuplicateName(IronflowError, ValueError):
    """Two different functions act under one step name in one run."""


class DuplicateKey(IronflowError, ValueError):
    """One key was used for two different sets of arguments."""


class CodeChanged(IronflowError, RuntimeError):
    """Finished steps have other code now, and redoing them would cost more than the guard lets pass."""


class NotebookFailed(IronflowError, RuntimeError):
    """A cell of a notebook that was run as a whole failed, or its process ended; the message says where and how."""


class OutcomeUnknown(IronflowError, RuntimeError):
    """A step that runs once was begun, and nobody knows what came of it."""


# -- how a run ended ---------------------------------------------------------------------------------------------


class RunFailed(IronflowError, RuntimeError):
    """The run failed, and its own exception can't be rebuilt here."""


class StepFailed(IronflowError, RuntimeError):
    """A recorded failure of a step whose exception class does not exist in this process."""


class RunInterrupted(IronflowError, RuntimeError):
    """The run was interrupted and can be continued."""


class RunCancelled(IronflowError, RuntimeError):
    """The run was cancelled."""


class RunFinished(IronflowError, RuntimeError):
    """A step was called after its run had ended."""


class RunTakenOver(IronflowError, RuntimeError):
    """Another process continues this run; what this one still does is not recorded."""


class ResultTimeout(IronflowError, TimeoutError):
    """The run or step did not finish within the time that the caller gave it."""


# -- values ------------------------------------------------------------------------------------------------------


class ValueNotStorable(IronflowError, TypeError):
    """No codec can store the value."""


class ValueUnreadable(IronflowError, ValueError):
    """The stored value can't be decoded here: its class is gone, its file is missing, its bytes are damaged."""


class UntrustedValue(ValueUnreadable):
    """The stored value leads to code, as a pickle does, and this user did not write it."""


class UntrustedRun(IronflowError, PermissionError):
    """What the journal keeps of the run leads to code, and this user did not write it."""

    # See `JournalError`.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FileUnreadable(IronflowError, OSError):
    """A file that identifies a call by its content does not exist, or can't be read."""

    # See `JournalError`.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class InputsNotStored(IronflowError, LookupError):
    """The arguments of the run were too large to be stored, so it can only be continued by calling it again."""


# -- deciders ----------------------------------------------------------------------------------------------------


class DecisionError(IronflowError, ValueError):
    """A decision, or what a decider is made of, can't be."""


class CommandRejected(IronflowError, RuntimeError):
    """The command was rejected, and its outcome unwrapped."""


class InstanceNotFound(IronflowError, LookupError):
    """No instance of the decider has that id."""


class InstanceCompleted(IronflowError, RuntimeError):
    """The instance was completed before the command came, and its outcome unwrapped."""


class EventUnreadable(IronflowError, ValueError):
    """A stored event, command or effect does not fit the classes that are defined now."""


class VersionConflict(IronflowError, RuntimeError):
    """The instance has another version than the command expects."""


class VersionNotFound(IronflowError, LookupError):
    """The instance has no such version."""


class UniqueKeyTaken(IronflowError, ValueError):
    """Another instance that is not completed has the unique key."""


class ProjectionFailed(IronflowError, RuntimeError):
    """A projection could not fold an event; `projection`, `position`, `decider`, `instance`, `sequence` say which."""


# -- graphs ------------------------------------------------------------------------------------------------------


class GraphInvalid(IronflowError, ValueError):
    """The definition of a graph has mistakes; `findings` are all of them, each with its path, line and column."""


class InputInvalid(IronflowError, TypeError, ValueError):
    """The input of a call does not fit the graph; nothing of it has run."""


class NotGranted(IronflowError, PermissionError):
    """A node asked for a host, file, program or variable that its graph is not granted."""

    # OSError with one argument would hide the message behind errno in str().
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SecretMissing(IronflowError, LookupError):
    """A secret that a graph names is not in its environment, keyring or prompt."""


class NodeFailed(IronflowError, RuntimeError):
    """A node of a graph could not do what it was asked; it is tried again if its `retry` says so.

    `is_retryable` is False where another try would come to the same; `retry_after_s` is how long its other side asks
    to be left alone. `fallback` is the result of the step where it is not tried again: then nothing has failed.
    """

    is_retryable = True
    retry_after_s: float | None = None
    fallback: object = None


class ExpressionFailed(NodeFailed, ValueError):
    """An expression of a node met something else than it was written for."""

    is_retryable = False


class AssertionsFailed(NodeFailed, AssertionError):
    """An `assert` node found what must not be; its message lists every mismatch."""

    is_retryable = False


class NodeTimeout(NodeFailed, TimeoutError):
    """A node took longer than its `timeout_s`."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
