"""Errors as answers: the status that says whose fault it is, a code, and the message, which says what to do."""

from __future__ import annotations

import re
from typing import Final

from ironflow_nb.errors import (
    AmbiguousRun,
    CodeChanged,
    DuplicateKey,
    EngineClosed,
    FlowNotDefined,
    InputsNotStored,
    InstanceNotFound,
    IronflowError,
    JournalBusy,
    JournalConflict,
    JournalError,
    NotGranted,
    NothingToDo,
    OutcomeUnknown,
    RunFinished,
    RunNotFound,
    RunTakenOver,
    SecretMissing,
    SignatureInvalid,
    StepNotFound,
    UniqueKeyTaken,
    UntrustedRun,
    UntrustedValue,
    VersionConflict,
    VersionNotFound,
)
from ironflow_nb.execution import logger, system_entropy
from ironflow_nb.server.http_calls import Reply, refused

_STATUSES: Final[dict[type[BaseException], int]] = {
    AmbiguousRun: 409,
    CodeChanged: 409,
    DuplicateKey: 409,
    EngineClosed: 503,
    FlowNotDefined: 409,
    InputsNotStored: 409,
    InstanceNotFound: 404,
    JournalBusy: 503,
    JournalConflict: 409,
    JournalError: 503,
    NothingToDo: 409,
    NotGranted: 403,
    OutcomeUnknown: 409,
    RunFinished: 409,
    RunNotFound: 404,
    RunTakenOver: 409,
    SecretMissing: 503,
    SignatureInvalid: 401,
    StepNotFound: 404,
    UniqueKeyTaken: 409,
    UntrustedRun: 403,
    UntrustedValue: 403,
    VersionConflict: 409,
    VersionNotFound: 404,
}
"""The others are those of a request that can't be understood: 422."""
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def refusal_of(error: Exception) -> Reply:
    """Return the answer to a request that failed with that error; one that nobody foresaw is only in the log."""
    if isinstance(error, IronflowError | ValueError):
        status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 422)
        return refused(status, error_code(error), str(error))
    error_id = system_entropy(6).hex()
    logger().error("a request failed, error %s", error_id, exc_info=error)
    return refused(
        500, "internal_error", f"this is an error of the server: its log has the details under {error_id}", id=error_id
    )


def error_code(error: BaseException) -> str:
    """Return the code of an error: the name of its class in small letters, ``run_not_found``."""
    return _WORD.sub("_", type(error).__name__).lower()
