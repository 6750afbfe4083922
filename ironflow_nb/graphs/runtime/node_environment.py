"""What a node gets from its run and from the process: the context of its work, functions, variables and answers.

A function of Python is looked up by name: among the functions that were given to the graph, then among steps, then in
the notebook or in a module that is granted.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from itertools import count
from typing import Any, Final

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError, ExpressionFailed
from ironflow_nb.execution import (
    DEFAULTS,
    REGISTRY,
    SCOPE,
    Clock,
    Parameters,
    StepOptions,
    StepSpec,
    closure_of,
    deterministic,
    random_uuid,
    shell,
)
from ironflow_nb.graphs.compiled_graph import CompiledGraph
from ironflow_nb.graphs.grants import Grants, Need, UrlOrigin
from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.expression import ExpressionSyntaxError, compile_expression
from ironflow_nb.graphs.language.templates import OPENING, Template, Whole, compile_template, fill
from ironflow_nb.graphs.secrets import Secrets, variable_of
from ironflow_nb.handles.runnable import Runnable

Functions = Mapping[str, Callable[..., Any]]

_LOGGER: Final = "ironflow_nb.graph"
_NOTEBOOK: Final = "__main__"

_PUBLIC_NAMES: Final = {_NOTEBOOK: _NOTEBOOK, "posix": "os", "nt": "os", "posixpath": "os.path", "ntpath": "os.path"}
"""The name by which users know a module, where its own name is another. Modules in C begin with an underscore."""


# -- the context of a node ---------------------------------------------------------------------------------------


class RecordedCalls:
    """``now()`` and ``uuid()`` of expressions, recorded in the run of the calling code."""

    def now(self) -> datetime:
        """See the protocol."""
        return deterministic.now()

    def uuid(self) -> str:
        """See the protocol."""
        return str(deterministic.uuid4())


RECORDED: Final = RecordedCalls()

NOW: Final = "now()"
UUID_SEED: Final = "uuid()"
"""Keys that a secret option has beside names. No expression can write either of them without quotes."""


class FreshCalls:
    """``now()`` and ``uuid()`` of an option with a secret, whose value is made in the body of its step.

    They follow from what was recorded before the body began, so each attempt and each process makes the same.
    """

    def __init__(self, sees: Mapping[str, Any]) -> None:
        self._sees = sees
        self._n_drawn = count()

    def now(self) -> datetime:
        """See the protocol."""
        return self._sees[NOW]  # type: ignore[no-any-return]

    def uuid(self) -> str:
        """See the protocol."""
        drawn = digest_bytes(f"{self._sees[UUID_SEED]} {next(self._n_drawn)}".encode())
        return str(random_uuid(lambda n_bytes: drawn[-n_bytes:]))


class WorkContext:
    """The `NodeContext` of one node in one run."""

    def __init__(
        self,
        *,
        node: str,
        grants: Grants,
        clock: Clock,
        secrets: Secrets,
        functions: Functions | None = None,
        retry: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        auth: Callable[[UrlOrigin], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self.node = node
        self._auth = auth
        self.grants = grants
        self.retry: Mapping[str, Any] = retry or {}
        self._timeout_s = timeout_s
        self._clock = clock
        self._secrets = secrets
        self._functions = functions or {}

    @property
    def timeout_s(self) -> float | None:
        """See the protocol; what a deadline leaves may be less than the `timeout_s` of the node."""
        scope = SCOPE.get()
        limit_s = None if scope is None else scope.limit_s
        return self._timeout_s if limit_s is None else round(limit_s, 3)

    def evaluate(self, text: str, names: Mapping[str, Any]) -> Any:
        """See the protocol."""
        try:
            return fill(_compile(text), lambda expression: evaluate(expression, names, RECORDED))
        except ValueError as error:
            raise ExpressionFailed(f"{self.node}: {error}", node=self.node) from None

    def log(self, message: str, level: str = "info") -> None:
        """See the protocol."""
        number = logging.getLevelNamesMapping()[level.upper()]
        logging.getLogger(_LOGGER).log(number, "%s: %s", self.node, self._secrets.redacted(message))

    def auth(self, origin: UrlOrigin) -> Mapping[str, Any] | None:
        """See the protocol."""
        return None if self._auth is None else self._auth(origin)

    def has_secret(self, content: str | bytes) -> bool:
        """See the protocol."""
        return self._secrets.are_in(content)

    def now(self) -> datetime:
        """See the protocol."""
        return datetime.fromtimestamp(self._clock.now() / 1e6, UTC)

    def monotonic(self) -> float:
        """See the protocol."""
        return self._clock.monotonic()

    def function(self, name: str) -> Callable[..., Any] | None:
        """See the protocol."""
        return self._functions.get(name)


@functools.lru_cache(maxsize=8192)
def _compile(text: str) -> Template:
    if OPENING not in text:
        return Whole(compile_expression(text.strip()))

    def raise_error(_path: object, error: ExpressionSyntaxError) -> None:
        raise error

    return compile_template(text.strip(), raise_error)


# -- functions of Python -----------------------------------------------------------------------------------------


class OptionParameters(Parameters):
    """The options of a node as arguments by name, and the values that its function closes over."""

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        super().__init__(lambda **options: options)
        self._plain = function

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Parameters`."""
        return dict(kwargs) if self._plain is None else {**kwargs, **closure_of(self._plain)}

    def positional(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Parameters`."""
        return (), dict(arguments)


PARAMETERS: Final = OptionParameters()


@dataclass(frozen=True)
class PythonFunction:
    """A function of Python that nodes may call, without its decorator, and the options of its step."""

    plain: Callable[..., Any]
    options: StepOptions = DEFAULTS


def find_function(name: str, functions: Functions, grants: Grants) -> PythonFunction | None:
    """Return the function of that name: given, a step, of the notebook, or of a granted module; None if there is none.

    Raises:
        DefinitionError: it is a flow, a graph or a decider, or its module can't be imported.
        NotGranted: it is neither granted nor defined in the notebook.
    """
    found: Any = functions.get(name) or REGISTRY.step(name)
    is_node = isinstance(found, StepSpec) and isinstance(found.parameters, OptionParameters)
    if found is None or is_node:  # the step of a node of a graph is no function
        found = _look_up(name, grants)
    if isinstance(found, Runnable) or (
        isinstance(found, StepSpec) and REGISTRY.find(RunKind.FLOW, found.name) is not None
    ):
        kind = found.kind if isinstance(found, Runnable) else RunKind.FLOW
        raise DefinitionError(
            f"{name} is a {kind}, whose calls are runs; run it as a child: workflow: {found.name}", name=name
        )
    spec = found if isinstance(found, StepSpec) else getattr(found, "spec", None)
    if isinstance(spec, StepSpec) and (spec is found or callable(found)):
        return PythonFunction(spec.function, spec.options)
    return PythonFunction(found) if callable(found) else None


def _look_up(name: str, grants: Grants) -> Any:
    """Return the value of a name of the notebook, or of a module with the name before the last dot; None if not there.

    Raises:
        NotGranted: it is neither granted nor a function that the notebook has defined.
    """
    if "." in name:
        grants.require(Need("python", name))
        found = _import_attribute(name)
    else:
        found = vars(sys.modules[_NOTEBOOK]).get(name)
    is_decorated = isinstance(found, Runnable) or isinstance(getattr(found, "spec", None), StepSpec)
    if callable(found) and not is_decorated:
        module = _defining_module(found)
        if module != _NOTEBOOK:
            grants.require_function(name, module)
    return found


def _defining_module(found: Any) -> str:
    """Return the module that defines the code of a callable, whatever the callable is bound to and called by."""
    while True:
        if isinstance(found, functools.partial | functools.partialmethod):
            found = found.func
        elif inspect.ismethod(found):
            found = found.__func__
        else:
            break
    # Methods of C know only the object that they are bound to, or the class that has them.
    owner = getattr(found, "__objclass__", None) or getattr(found, "__self__", None)
    for each in (found, owner if isinstance(owner, type) else type(owner), type(found)):
        module = getattr(each, "__module__", None)
        if isinstance(module, str):
            return _PUBLIC_NAMES.get(module, module.removeprefix("_"))
    return ""


def _import_attribute(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise DefinitionError(f"{name} can't be imported: {error}", name=name) from error


# -- variables and answers ---------------------------------------------------------------------------------------


def environment(definition: CompiledGraph, grants: Grants) -> dict[str, str]:
    """Return the granted variables of the environment, without those that hold the graph's secrets."""
    allowed = grants.allowed.get("env", False)
    names = (list(os.environ) if allowed else []) if isinstance(allowed, bool) else allowed
    hidden = set(map(variable_of, definition.secrets.values()))
    return {name: os.environ[name] for name in names if name in os.environ and name not in hidden}


def input_of(given: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a call that gives it as a mapping, by name, or both.

    Raises:
        TypeError: it is something else.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"the input of a graph is a mapping, or values by name, not {type(given).__name__}")
    return {**(given or {}), **values}


def secret_prompt() -> Callable[[str], str] | None:
    """Return the function that asks the person at the keyboard for a secret; None if there is no person."""
    has_person = shell() is not None or (sys.stdin is not None and sys.stdin.isatty())
    return (lambda question: getpass.getpass(f"{question} ")) if has_person else None
