"""What the engine has to know of a step, whichever style defined it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.core.ids import Digest
from ironflow_nb.errors import DefinitionError, DuplicateName
from ironflow_nb.execution.parameters import CLOSURE, Parameters
from ironflow_nb.tracking.parts import Tracked
from ironflow_nb.tracking.tracker import Tracker

KeyFunction = Callable[..., object]


class StepSpec:
    """A function with the name, key and code under which its calls are recorded."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        key: str | KeyFunction | None,
        retries: int = 0,
        depends: Iterable[Any] = (),
    ) -> None:
        """Read what can be read of the function now; its code is read at the first call.

        Raises:
            DefinitionError: it is no function, or `depends` is no list.
            DuplicateName: it is a lambda without a name.
            ValueError: `retries` is no whole number from 0.
        """
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries is how often a failed step is tried again, 0 or more, not {retries!r}")
        if isinstance(depends, str | bytes) or not isinstance(depends, Iterable):
            raise DefinitionError(
                f"depends is a list of what the step depends on, not {depends!r}; write [...] around it"
            )
        if not callable(function) or inspect.isclass(function):
            raise DefinitionError(f"a step is made of a function, not of {function!r}")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise DefinitionError(
                f"{function.__qualname__} is a generator, and what it yields can't be recorded; return a list instead"
            )
        own_name = getattr(function, "__qualname__", type(function).__qualname__)
        if name is None and "<lambda>" in own_name:
            raise DuplicateName('every lambda has the same name; give the step its own: step(lambda ..., name="...")')
        self.function = function
        self.name = name or step_name(getattr(function, "__module__", None), own_name)
        self.qualname = own_name
        self.key = key
        self.retries = retries
        self.depends = tuple(depends)
        self.is_async = inspect.iscoroutinefunction(function)
        self.parameters = Parameters(function)
        self._tracker = Tracker(function, self.depends)

    @property
    def code(self) -> Digest:
        """The identity of the code as it is now: of the function, and of the user's code that it refers to."""
        return self._tracker.current().digest

    @property
    def tracked(self) -> Tracked:
        """What counts as the code now, piece by piece, and what does not."""
        return self._tracker.current()

    def code_among(self, recorded: Collection[Digest]) -> Digest:
        """Return the identity of the code; by the recipe of the function alone, if only under that it was recorded.

        Journals of before the code that a function refers to was tracked go on with that.
        """
        tracked = self._tracker.current()
        is_older = tracked.digest not in recorded and tracked.own in recorded
        return tracked.own if is_older else tracked.digest

    def key_of(self, arguments: dict[str, Any]) -> object | None:
        """Return the semantic identity of a call, if the step has one."""
        if self.key is None:
            return None
        if isinstance(self.key, str):
            return self.key.format(**arguments)
        own = {name: value for name, value in arguments.items() if not name.startswith(CLOSURE)}
        args, kwargs = self.parameters.positional(own)
        return self.key(*args, **kwargs)
