"""What the engine has to know of a step, whichever style defined it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

from ironflow_nb.core.identity import step_name
from ironflow_nb.core.ids import Digest
from ironflow_nb.errors import DefinitionError, DuplicateName
from ironflow_nb.execution.code import code_identity
from ironflow_nb.execution.parameters import CLOSURE, Parameters

KeyFunction = Callable[..., object]


class StepSpec:
    """A function with the name, key and code under which its calls are recorded."""

    def __init__(
        self, function: Callable[..., Any], *, name: str | None, key: str | KeyFunction | None, retries: int = 0
    ) -> None:
        """Read what can be read of the function now; its code is hashed at the first call.

        Raises:
            DefinitionError: it is no function.
            DuplicateName: it is a lambda without a name.
            ValueError: `retries` is no whole number from 0.
        """
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries is how often a failed step is tried again, 0 or more, not {retries!r}")
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
        self.is_async = inspect.iscoroutinefunction(function)
        self.parameters = Parameters(function)

    @cached_property
    def code(self) -> Digest:
        """The identity of the function's code."""
        return code_identity(self.function)

    def key_of(self, arguments: dict[str, Any]) -> object | None:
        """Return the semantic identity of a call, if the step has one."""
        if self.key is None:
            return None
        if isinstance(self.key, str):
            return self.key.format(**arguments)
        own = {name: value for name, value in arguments.items() if not name.startswith(CLOSURE)}
        args, kwargs = self.parameters.positional(own)
        return self.key(*args, **kwargs)
