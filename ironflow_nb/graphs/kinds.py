"""Kinds of work nodes: what a node can do, with the schema of its options.

The keys that a node may have beside its kind, and the names that mean something of their own.

How nodes tell that they could not do what they were asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias, get_type_hints

import msgspec

from ironflow_nb.errors import DefinitionError, NodeFailed
from ironflow_nb.graphs.grants import Grants, Need

COMMON_KEYS: Final = frozenset(
    {"id", "depends_on", "when", "retry", "timeout_s", "on_error", "once", "cache", "description"}
)
"""What every node may have."""

CONTROL_KEYS: Final = {
    "condition": frozenset({"then", "else"}),
    "switch": frozenset({"cases", "default"}),
    "branch": frozenset(),
    "loop": frozenset({"as", "do", "concurrency"}),
    "workflow": frozenset({"input"}),
    "assert": frozenset(),
}
"""The kinds that decide what runs, each with the keys that only it has."""

PYTHON: Final = "python"
PYTHON_KEYS: Final = frozenset({"with"})

_DECIDING: Final = frozenset({"retry", "timeout_s", "once", "cache"})

INAPPLICABLE_KEYS: Final = {
    **dict.fromkeys(("condition", "switch", "branch", "loop", "assert"), _DECIDING),
    "workflow": frozenset({"timeout_s", "cache"}),
}
"""What would say nothing on a node that only decides, or that another run stands for."""

LATER_KEYS: Final = frozenset({"lane", "approve", "ask", "wait_for", "sleep", "sleep_until", "delay", "compensate"})
"""What a later version will know."""

RESERVED_KEYS: Final = (
    COMMON_KEYS | CONTROL_KEYS.keys() | LATER_KEYS | PYTHON_KEYS | frozenset().union(*CONTROL_KEYS.values())
)
"""What no kind of a user can be called."""

RESERVED_NAMES: Final = frozenset({"input", "env", "secrets", "error", "index", "item", "taken"})
"""What no node can be called, for expressions know it as something else."""


def failure(
    context: NodeContext,
    message: str,
    *,
    is_retryable: bool = False,
    status_code: int | None = None,
    output: object = None,
    path: str | None = None,
) -> NodeFailed:
    """Return the error of a node; unless it is said to be retryable, another try would come to the same."""
    return NodeFailed(
        f"{context.node}: {message}",
        node=context.node,
        is_retryable=is_retryable,
        status_code=status_code,
        output=output,
        path=path,
    )


Options: TypeAlias = Mapping[str, Any]
"""The options of one node, with every expression filled in."""


class NodeContext(Protocol):
    """What a node's work gets beside its options."""

    @property
    def node(self) -> str:
        """The id of the node."""

    @property
    def grants(self) -> Grants:
        """What the graph may touch; who touches anything outside of the graph asks it first."""

    @property
    def retry(self) -> Mapping[str, Any]:
        """The node's own ``retry``, for kinds that look at more of it than how often and after how long."""

    @property
    def timeout_s(self) -> float | None:
        """How long one attempt may take. The engine gives up waiting then; who can stops its work."""

    def evaluate(self, text: str, names: Mapping[str, Any]) -> Any:
        """Return what an expression, with or without braces, gives where only these names can be seen.

        Raises:
            ExpressionFailed: it can't be compiled, or met something else than it was written for.
        """

    def log(self, message: str, level: str = "info") -> None:
        """Tell something to whoever watches the run: secrets are redacted."""

    def has_secret(self, content: str | bytes) -> bool:
        """Tell whether a secret of the graph is in a text or in bytes, in whatever form."""

    def now(self) -> datetime:
        """Return the time by the clock of the engine."""

    def monotonic(self) -> float:
        """Return seconds that never go back, by the clock of the engine."""

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return what a name of Python stands for in this graph: what it was given, or a step; None if nothing."""


Perform: TypeAlias = Callable[[Options, NodeContext], Any]


def needs_nothing(_options: Options) -> Iterable[Need]:
    """Return no needs: the work stays inside of the graph."""
    return ()


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work node.

    `schema` is the JSON schema of its options, an object; an expression may stand wherever it wants something else
    than an object. ``kind: value`` with something else than an object means the option `shorthand`, and so does an
    object if `is_value_whole`. Options named `lazy` are expressions that the work evaluates itself, for each item of
    something; they are compiled, but not filled in. `needs` tells, of options as they are written, what will be asked
    of the grants, as far as that is known. What touches the world outside is `is_outside`: a test of a graph demands a
    mock for it. A changed meaning raises `version`, which is part of the code of every node of the kind.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    perform: Perform
    shorthand: str | None = None
    is_value_whole: bool = False
    lazy: frozenset[str] = frozenset()
    verbatim: frozenset[str] = frozenset()
    """Options in which two braces mean nothing to a graph: templates of another language."""
    lazy_names: frozenset[str] = frozenset()
    """What lazy expressions see beside nothing else: ``item``, ``index``."""
    needs: Callable[[Options], Iterable[Need]] = needs_nothing
    is_outside: bool = False
    version: int = 1
    function: Callable[..., Any] | None = None
    """The user's function, whose code is part of the code of the node."""

    def options_of(self, value: Any) -> Any:
        """Return the options that ``kind: value`` means."""
        if self.shorthand is None:
            return {} if value is None else value
        if isinstance(value, Mapping) and not self.is_value_whole:
            return value
        return {self.shorthand: value}


def options_schema(properties: Mapping[str, Any], *, required: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    """Return the schema of an object with these options and no others."""
    closed = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    return closed | more


# -- kinds of users ----------------------------------------------------------------------------------------------


def kind_from_function(
    name: str, function: Callable[..., Any], *, description: str | None = None, schema: Mapping[str, Any] | None = None
) -> Kind:
    """Return the kind of node that calls the function.

    Raises:
        DefinitionError: it is no function, or the name can't be one.
    """
    if not name.isidentifier() or name in RESERVED_KEYS | {PYTHON}:
        raise DefinitionError(
            f"a kind of node can't be called {name!r}; choose another name of letters and underscores"
        )
    if not callable(function) or inspect.isclass(function):
        raise DefinitionError(f"a kind of node is made of a function, not of {function!r}")
    plain = getattr(function, "fn", function)
    parameters = inspect.signature(plain).parameters
    takes_context = "context" in parameters

    def perform(options: Options, context: NodeContext) -> Any:
        given = {"context": context} if takes_context else {}
        return plain(**options, **given)

    first_line = (inspect.getdoc(plain) or "").partition("\n")[0]
    return Kind(
        name=name,
        description=description or first_line or f"calls {plain.__qualname__}",
        schema=schema or _schema_of(plain, parameters),
        perform=perform,
        shorthand=_shorthand(parameters),
        is_outside=True,
        function=plain,
    )


def _shorthand(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the one option, or the one that has to be given."""
    open_ones = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    named = [name for name, each in parameters.items() if name != "context" and each.kind not in open_ones]
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty]
    return named[0] if len(named) == 1 else needed[0] if len(needed) == 1 else None


def _schema_of(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> Mapping[str, Any]:
    try:
        hints = get_type_hints(function)
    except Exception:  # noqa: BLE001 -- an annotation may name anything
        hints = {}
    named = {name: each for name, each in parameters.items() if name != "context"}
    is_open = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in named.values())
    listed = {
        name: each for name, each in named.items()
        if each.kind in {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    }  # fmt: skip
    properties = {name: _schema_of_type(hints.get(name)) for name in listed}
    required = [name for name, each in listed.items() if each.default is inspect.Parameter.empty]
    return options_schema(properties, required=required, **({"additionalProperties": True} if is_open else {}))


def _schema_of_type(hint: Any) -> Mapping[str, Any]:
    """Return the schema of an annotation; of what has none, one that takes everything."""
    if hint is None:
        return {}
    try:
        schema: dict[str, Any] = msgspec.json.schema(hint)
    except TypeError:
        return {}
    return {} if "$ref" in schema or "$defs" in schema else schema
