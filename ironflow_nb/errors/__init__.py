"""Every error of the package: one root, each also an error of the nearest builtin kind.

A message says what was asked and found, and what to do. Each class declares its ids, and takes them as keywords.
"""

from pathlib import Path  # noqa: F401 -- the attributes of errors have such types: `get_type_hints` looks here
from typing import Any  # noqa: F401 -- as above

from ironflow_nb.errors.decider_errors import (
    CommandRejected,
    DecisionError,
    EventUnreadable,
    InstanceCompleted,
    InstanceNotFound,
    ProjectionFailed,
    UniqueKeyTaken,
    VersionConflict,
    VersionNotFound,
)
from ironflow_nb.errors.graph_errors import (
    AssertionsFailed,
    ExpressionFailed,
    GraphFinding,
    GraphInvalid,
    GraphPosition,
    InputInvalid,
    NodeFailed,
    NodeTimeout,
    NotGranted,
    SecretMissing,
)
from ironflow_nb.errors.journal_errors import (
    ConnectionLost,
    EngineClosed,
    JournalBusy,
    JournalConflict,
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalReadOnly,
    JournalTooNew,
    NotAJournal,
    StoreUnreachable,
)
from ironflow_nb.errors.root_error import IronflowError, _rebuild  # noqa: F401 -- pickles name `_rebuild` here
from ironflow_nb.errors.run_errors import (
    AgentStopped,
    AmbiguousRun,
    AmbiguousStep,
    AsyncMismatch,
    CodeChanged,
    DefinitionError,
    DuplicateKey,
    DuplicateName,
    FlowNotDefined,
    NotAllowedInStep,
    NotebookFailed,
    NothingToDo,
    NotInRun,
    NotRetryable,
    OutcomeUnknown,
    ReplayDiffers,
    ResultTimeout,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunInterrupted,
    RunNotFound,
    RunTakenOver,
    RunTimeout,
    StepFailed,
    StepNotFound,
    StepTimeout,
    WaitTimeout,
    WorkerLost,
)
from ironflow_nb.errors.value_errors import (
    FileUnreadable,
    InputsNotStored,
    SignatureInvalid,
    UntrustedRun,
    UntrustedValue,
    ValueNotStorable,
    ValueUnreadable,
)

__all__ = [
    "AgentStopped", "AmbiguousRun", "AmbiguousStep", "AssertionsFailed", "AsyncMismatch", "CodeChanged",
    "CommandRejected", "ConnectionLost", "DecisionError", "DefinitionError", "DuplicateKey", "DuplicateName",
    "EngineClosed", "EventUnreadable", "ExpressionFailed", "FileUnreadable", "FlowNotDefined", "GraphFinding",
    "GraphInvalid", "GraphPosition", "InputInvalid", "InputsNotStored", "InstanceCompleted", "InstanceNotFound",
    "IronflowError", "JournalBusy", "JournalConflict", "JournalCorrupt", "JournalError", "JournalFull",
    "JournalReadOnly", "JournalTooNew", "NodeFailed", "NodeTimeout", "NotAJournal", "NotAllowedInStep", "NotGranted",
    "NotInRun", "NotRetryable", "NotebookFailed", "NothingToDo", "OutcomeUnknown", "ProjectionFailed", "ReplayDiffers",
    "ResultTimeout", "RunCancelled", "RunFailed", "RunFinished", "RunInterrupted", "RunNotFound", "RunTakenOver",
    "RunTimeout", "SecretMissing", "SignatureInvalid", "StepFailed", "StepNotFound", "StepTimeout",
    "StoreUnreachable", "UniqueKeyTaken",
    "UntrustedRun", "UntrustedValue", "ValueNotStorable", "ValueUnreadable", "VersionConflict", "VersionNotFound",
    "WaitTimeout", "WorkerLost",
]  # fmt: skip
