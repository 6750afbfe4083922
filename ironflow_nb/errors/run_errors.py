"""Errors of finding, calling and continuing runs and steps, and how these ended."""

from __future__ import annotations

from ironflow_nb.errors.root_error import IronflowError


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
    """The run is in no state for the request: no named step can run again, no question is open, or others need it."""

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


class AsyncMismatch(IronflowError, TypeError):
    """An async function was called where only a plain one works, or the other way round."""

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
    """A step that runs once has begun, and its outcome is unknown."""

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


class AgentStopped(IronflowError, RuntimeError):
    """An agent has used all turns or tokens that it may use, and has no answer."""


class RunCancelled(IronflowError, RuntimeError):
    """The run was cancelled."""

    run_id: str


class RunFinished(IronflowError, RuntimeError):
    """A step was called after its run had ended."""

    run_id: str


class ReplayDiffers(IronflowError, AssertionError):
    """The code of now calls a step that is not recorded in the run that it is checked against."""

    run_id: str
    step: str


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
