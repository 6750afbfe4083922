"""What the nodes of a graph are given from the process that they run in: functions, variables, somebody to ask."""

from __future__ import annotations

import functools
import getpass
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import DEFAULTS, REGISTRY, StepSpec, shell
from ironflow_nb.graphs.compiled_graph import CompiledGraph, GraphNode
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.language.data import as_data
from ironflow_nb.graphs.runtime.interpreter import Interpreter
from ironflow_nb.graphs.runtime.node_context import WorkContext
from ironflow_nb.graphs.runtime.node_steps import NodeSteps, OptionParameters, PythonFunction
from ironflow_nb.graphs.secrets import Secrets, variable_of
from ironflow_nb.handles.runnable import Runnable

Functions = Mapping[str, Callable[..., Any]]

_NOTEBOOK: Final = "__main__"

_PUBLIC: Final = {_NOTEBOOK: _NOTEBOOK, "posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path"}
"""By which name a module is known that has another one of its own; those in C begin with an underscore."""


def equipped(definition: CompiledGraph, grants: Grants, functions: Functions, mocks: Mapping[str, Any]) -> NodeSteps:
    """Return what the nodes of the graph work with here."""
    secrets = Secrets(definition.secrets, grants, ask=_asking())

    def context(node: GraphNode) -> WorkContext:
        return WorkContext(
            node=node.id,
            grants=grants,
            clock=REGISTRY.engine().clock,
            secrets=secrets,
            functions=functions,
            retry=node.retry_options,
            timeout_s=node.timeout_s,
        )

    def python(name: str) -> PythonFunction | None:
        return _known(name, functions, grants)

    return NodeSteps(definition.name, context=context, secrets=secrets, python=python, mocks=mocks)


def environment(definition: CompiledGraph, grants: Grants) -> dict[str, str]:
    """Return the variables of the environment that are granted, without those that secrets come from."""
    allowed = grants.allowed.get("env", False)
    names = (list(os.environ) if allowed else []) if isinstance(allowed, bool) else allowed
    hidden = set(map(variable_of, definition.secrets.values()))
    return {name: os.environ[name] for name in names if name in os.environ and name not in hidden}


def performed(definition: CompiledGraph, workshop: NodeSteps, grants: Grants, given: Any) -> Any:
    """Run a graph in the run that the caller stands in, and return its output."""
    __tracebackhide__ = True
    names = {"input": as_data(given), "env": environment(definition, grants)}
    return Interpreter(definition, workshop, names).run()


def input_of(given: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a call that gives it as a mapping, by name, or both.

    Raises:
        TypeError: it is something else.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"the input of a graph is a mapping, or values by name, not {type(given).__name__}")
    return {**(given or {}), **values}


def _known(name: str, functions: Functions, grants: Grants) -> PythonFunction | None:
    """Return the function of that name: given, a step, of the notebook, or of a module that is granted."""
    found: Any = functions.get(name) or REGISTRY.step(name)
    is_node = isinstance(found, StepSpec) and isinstance(found.parameters, OptionParameters)
    if is_node:  # of a graph, and no function
        found = None
    if found is None:
        found = _looked_up(name, grants)
    if isinstance(found, Runnable) or (
        isinstance(found, StepSpec) and REGISTRY.find(RunKind.FLOW, found.name) is not None
    ):
        kind = found.kind if isinstance(found, Runnable) else RunKind.FLOW
        raise DefinitionError(
            f"{name} is a {kind}, whose calls are runs; run it as a child: workflow: {found.name}", name=name
        )
    if isinstance(found, StepSpec):
        return PythonFunction(found.function, found.options)
    if not callable(found):
        return None
    spec = getattr(found, "spec", None)
    return (
        PythonFunction(spec.function, spec.options) if isinstance(spec, StepSpec) else PythonFunction(found, DEFAULTS)
    )


def _looked_up(name: str, grants: Grants) -> Any:
    """Return what a name of the notebook, or of a module, stands for; None if nothing.

    Raises:
        NotGranted: it is neither granted nor a function that the notebook has defined.
    """
    if "." in name:
        grants.require(Need("python", name))
        found = _imported(name)
    else:
        found = vars(sys.modules[_NOTEBOOK]).get(name)
    is_decorated = isinstance(found, Runnable) or isinstance(getattr(found, "spec", None), StepSpec)
    if callable(found) and not is_decorated:
        home = _home_of(found)
        if home != _NOTEBOOK:
            grants.require_function(name, home)
    return found


def _home_of(found: Any) -> str:
    """Return the module that has defined what a callable does, whatever it is bound to and called by."""
    while True:
        if isinstance(found, functools.partial | functools.partialmethod):
            found = found.func
        elif inspect.ismethod(found):
            found = found.__func__
        else:
            break
    # Methods of C know only what they are bound to, or which class has them.
    owner = getattr(found, "__objclass__", None) or getattr(found, "__self__", None)
    for each in (found, owner if isinstance(owner, type) else type(owner), type(found)):
        module = getattr(each, "__module__", None)
        if isinstance(module, str):
            return _PUBLIC.get(module, module.removeprefix("_"))
    return ""


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise DefinitionError(f"{name} can't be imported: {error}", name=name) from error


def _asking() -> Callable[[str], str] | None:
    """Return what asks the person at the keyboard for a secret, if there is one."""
    has_person = shell() is not None or (sys.stdin is not None and sys.stdin.isatty())
    return (lambda question: getpass.getpass(f"{question} ")) if has_person else None
