"""Errors of values, files and arguments: what can't be stored, read or trusted."""

from __future__ import annotations

from ironflow_nb.errors.root_error import IronflowError


class ValueNotStorable(IronflowError, TypeError):
    """No codec can store the value."""


class ValueUnreadable(IronflowError, ValueError):
    """The stored value can't be decoded here: its class is gone, its file is missing, its bytes are damaged.

    `python` is the one that compiled a function in it, if that is not the one that runs.
    """

    run_id: str | None = None
    step: str | None = None
    name: str | None = None
    value_id: bytes | None = None
    codec: str | None = None
    class_name: str | None = None
    python: str | None = None


class UntrustedValue(ValueUnreadable):
    """The stored value can execute code, as a pickle can, and this user did not write it."""


class UntrustedRun(IronflowError, PermissionError):
    """The journal's record of the run can execute code, and this user did not write it."""

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


class SignatureInvalid(IronflowError, PermissionError):
    """A request is not signed with the secret of its webhook, or was signed too long ago; nothing in it was read."""
