"""The view of a decider: its instances, and of the chosen one the state, its commands as forms, and its open work."""

from __future__ import annotations

import msgspec


class FieldForm(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a command, and how a person gives it; `form`, `choices` and `fits` are those of an answer."""

    name: str
    form: str
    fits: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = True
    default: str = ""


class CommandForm(msgspec.Struct, frozen=True, kw_only=True):
    """A command with its fields. `targets` are the statuses to which it is known to lead from that of the instance."""

    name: str
    fields: tuple[FieldForm, ...] = ()
    targets: tuple[str, ...] = ()


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance to choose."""

    instance: str
    is_completed: bool
    updated_at: int


class OpenWork(msgspec.Struct, frozen=True, kw_only=True):
    """An effect to do, a timer that is set, or a dead letter, which has `dead_at`. Instants are microseconds UTC."""

    instance: str
    kind: str
    name: str
    key: str
    due_at: int
    attempts: int
    dead_at: int | None = None
    data: str = ""
    error: str = ""


class DeciderView(msgspec.Struct, frozen=True, kw_only=True):
    """A decider at one moment. Without a chosen instance the commands are those that begin one."""

    name: str
    instances: tuple[InstanceRow, ...] = ()
    n_more: int = 0
    chosen: str | None = None
    status: str = ""
    state: tuple[tuple[str, str], ...] = ()
    commands: tuple[CommandForm, ...] = ()
    work: tuple[OpenWork, ...] = ()
