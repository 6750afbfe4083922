"""Errors of deciders and projections."""

from __future__ import annotations

from typing import Any

from ironflow_nb.errors.root_error import IronflowError


class DecisionError(IronflowError, ValueError):
    """A decision, or the definition of a decider, is invalid."""


class CommandRejected(IronflowError, RuntimeError):
    """The command was rejected; `unwrap` of its outcome raises this."""

    reason: Any


class InstanceNotFound(IronflowError, LookupError):
    """No instance of the decider has that id."""

    name: str
    instance: str


class InstanceCompleted(IronflowError, RuntimeError):
    """The instance was completed before the command came; `unwrap` of its outcome raises this."""

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
    """The run, or the instance of a decider, has no such version, or did not exist at that moment."""

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
