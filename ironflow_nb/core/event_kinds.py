"""The kinds of events, by what they change."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The base of all events: immutable, written without its defaults."""


class RunChange(Event, frozen=True):
    """An event that changes the row of its run."""


class StepChange(Event, frozen=True):
    """An event that changes the row of one attempt of a step."""


class NoteEvent(Event, frozen=True):
    """An event that changes no row."""
