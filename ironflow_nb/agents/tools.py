"""The tools of an agent: what a model is told of a function, and the durable call of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.errors import DefinitionError, RunFailed
from ironflow_nb.execution import durable_calls
from ironflow_nb.flows.flow import Flow
from ironflow_nb.flows.step import Step, step
from ironflow_nb.graphs.kinds import schema_of_function
from ironflow_nb.handles.schema_validator import schema_validator

_MOST_ERRORS: Final = 5
_LONGEST_S: Final = 86_400
"""A step with a time limit has a thread of its own, in which no loop runs yet."""


_OF_AGENT: Final = {
    "type": "object",
    "properties": {"prompt": {"type": "string"}},
    "required": ["prompt"],
    "additionalProperties": False,
}
"""The parameters of an agent that is a tool: its conversations are its own."""


class Tool(msgspec.Struct, frozen=True):
    """One tool of an agent. `call` is durable: a step, or a child run, also of another agent."""

    name: str
    description: Mapping[str, Any]
    function: Callable[..., Any]
    is_agent: bool = False

    def refusal(self, arguments: Any) -> str | None:
        """Return why these are no arguments of the tool; None if they are."""
        if not isinstance(arguments, Mapping):
            return "the arguments are no JSON object"
        try:
            errors = list(schema_validator(self.description["parameters"], arguments).iter_errors(arguments))
        except ValueError as error:
            return str(error)
        return "; ".join(error.message for error in errors[:_MOST_ERRORS]) or None

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call it, and return its result, or a text that says how it failed."""
        try:
            return self.function(**arguments)
        except Exception as error:
            if not durable_calls.is_step_failure(error) and not isinstance(error, RunFailed):
                raise
            return f"error: {type(error).__name__}: {error}"  # the model decides what that means


def _blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the async function as one that returns when it is done."""

    def call(**arguments: Any) -> Any:
        import asyncio

        return asyncio.run(function(**arguments))

    call.__name__ = call.__qualname__ = function.__name__
    return call


def tool_of(given: Callable[..., Any], agent_name: str) -> Tool:
    """Return the tool that a function, a step, a flow or an agent is.

    Raises:
        DefinitionError: it can't be called, or has no name.
    """
    plain = getattr(given, "fn", given)
    name = getattr(plain, "__name__", "")
    if not callable(given) or inspect.isclass(given) or not name.isidentifier():
        raise DefinitionError(f"a tool of {agent_name} is a function with a name, a step or a flow, not {given!r}")
    is_durable, is_async = isinstance(given, Step | Flow), inspect.iscoroutinefunction(plain)
    if is_durable and is_async:
        raise DefinitionError(f"{name} is an async step or flow, which an agent can't await; give its plain function")
    durable = step(name=f"{agent_name}.{name}", timeout_s=_LONGEST_S if is_async else None)
    function = given if is_durable else durable(_blocking(given) if is_async else given)
    documented = (inspect.getdoc(plain) or "").partition("\n\n")[0].replace("\n", " ")
    is_agent = is_durable and getattr(plain, "is_agent", False)
    parameters = _OF_AGENT if is_agent else schema_of_function(plain)
    return Tool(name, {"name": name, "description": documented, "parameters": parameters}, function, is_agent)
