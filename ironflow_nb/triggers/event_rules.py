"""Which emitted events start a run of a flow, when, and which ones cancel its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import jmespath
import msgspec

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.plain_text import plain

UNHEARD_S: Final = 86400.0
"""The maximal age of an event without a subscriber at which it still starts the first flow that subscribes."""


class EventTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """The events that start a run of a flow, `on`, and those that cancel its runs, with a JMESPath expression or None.

    `where` is a JMESPath expression. Of events that follow each other within `debounce` (microseconds) the newest
    starts a run, after `max_wait` at the latest.
    """

    on: str | None = None
    where: str | None = None
    debounce: int | None = None
    max_wait: int | None = None
    cancel_on: Mapping[str, str | None] = msgspec.field(default_factory=dict)

    @property
    def events(self) -> frozenset[str]:
        """The names of all these events."""
        return frozenset([*self.cancel_on, *([] if self.on is None else [self.on])])

    def starts(self, name: str, data: Any) -> bool:
        """Return True if such an event starts a run.

        Raises:
            ValueError: its expression can't be evaluated for the data.
        """
        if name != self.on:
            return False
        return self.where is None or is_truthy(search("where", self.where, data))

    def cancels(self, name: str, data: Any, given: Any) -> bool:
        """Return True if such an event cancels a run that was `given` that argument.

        With an expression, if both have the same value there. Without one, if they agree in every field that both
        have, are equal, or the event has no data.

        Raises:
            ValueError: its expression can't be evaluated for the data.
        """
        path = self.cancel_on[name]
        if path is not None:
            wanted = search("cancel_on", path, data)
            return wanted is not None and bool(wanted == search("cancel_on", path, given))
        if data is None:
            return True
        if isinstance(data, Mapping) and isinstance(given, Mapping):
            both = data.keys() & given.keys()
            return bool(both) and all(data[name] == given[name] for name in both)
        return bool(data == given)


class Window(NamedTuple):
    """The events of a flow since `first_at` that wait for the newest of them; its run begins at `due_at`."""

    first_at: int
    due_at: int


def window(trigger: EventTrigger, open_window: Window | None, at: int) -> Window:
    """Return the window after an event at that instant; it opens one if there is none, or that one is over."""
    assert trigger.debounce is not None
    first_at = at if open_window is None or at >= open_window.due_at else open_window.first_at
    due_at = at + trigger.debounce
    return Window(first_at, due_at if trigger.max_wait is None else min(due_at, first_at + trigger.max_wait))


def is_before(at: int, other_at: int, now: int) -> bool:
    """Return True if one instant was recorded before another one, by a clock that may have been set back.

    An instant in the future was recorded before the clock was set back, and so before every instant in the past.
    """
    return (at <= now, at) < (other_at <= now, other_at)


def search(option: str, expression: str, data: Any) -> Any:
    """Return the value of a JMESPath expression.

    Raises:
        ValueError: it is not a JMESPath expression, or can't be evaluated for the data.
    """
    try:
        return jmespath.search(expression, data)
    except Exception as error:
        raise ValueError(f"{option}={expression!r} failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return plain(str(error).partition("\n")[0])


def is_truthy(value: Any) -> bool:
    """Return what JMESPath takes for true: everything but null, false, and an empty text, list or object."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))


# -- triggers that people write ----------------------------------------------------------------------------------------


def event_name(name: object, option: str = "the name of an event") -> str:
    """Return the name of an event.

    Raises:
        ValueError: it is not a text of one line.
    """
    if not isinstance(name, str) or not name or plain(name) != name or not name.isprintable():
        raise ValueError(f'{option} is a text of one line such as "order.placed", not {name!r}')
    return name


def event_trigger(
    *,
    on: str | None,
    where: str | None,
    debounce_s: Duration | None,
    max_wait_s: Duration | None,
    cancel_on: str | Mapping[str, str] | None,
) -> EventTrigger | None:
    """Return the trigger that the options of a flow make; None without any.

    Raises:
        ValueError, TypeError: an option has a value that it does not know, or needs another one.
    """
    for option, given in (("where", where), ("debounce_s", debounce_s)):
        if given is not None and on is None:
            raise ValueError(f'{option}= says which events start the flow, so it needs on="NAME OF THE EVENT"')
    if max_wait_s is not None and debounce_s is None:
        raise ValueError("max_wait_s= is how long debounce_s= may put a run off, so it needs debounce_s=")
    if on is None and cancel_on is None:
        return None
    debounce, max_wait = _duration("debounce_s", debounce_s), _duration("max_wait_s", max_wait_s)
    if debounce is not None and max_wait is not None and max_wait < debounce:
        raise ValueError(f"max_wait_s={max_wait_s!r} is shorter than debounce_s={debounce_s!r}")
    return EventTrigger(
        on=None if on is None else event_name(on, "on"),
        where=None if where is None else expression_of_event("where", where),
        debounce=debounce,
        max_wait=max_wait,
        cancel_on=_cancel_on(cancel_on),
    )


def _cancel_on(given: str | Mapping[str, str] | None) -> dict[str, str | None]:
    if isinstance(given, Mapping):
        return {event_name(name, "cancel_on"): expression_of_event("cancel_on", path) for name, path in given.items()}
    return {} if given is None else {event_name(given, "cancel_on"): None}


def expression_of_event(option: str, text: object) -> str:
    """Return a JMESPath expression.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{option} is a JMESPath expression such as "total > `100`", not {text!r}')
    try:
        jmespath.compile(text)
        _refuse_unknown_function(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{option}={text!r} is no JMESPath expression: {_first_line(error)}") from None
    return text


def _refuse_unknown_function(text: str) -> None:
    try:
        jmespath.search(text, None)
    except jmespath.exceptions.UnknownFunctionError:
        raise
    except Exception:  # noqa: BLE001, S110 -- nothing is no event; what the expression says of one is seen then
        pass


def _duration(option: str, given: Duration | None) -> int | None:
    if given is None:
        return None
    duration_s = seconds(given)
    if not 0 < duration_s < 1e9:
        raise ValueError(f"{option} is more than no time, and at most 1e9 seconds, not {given!r}")
    return round(duration_s * 1e6)
