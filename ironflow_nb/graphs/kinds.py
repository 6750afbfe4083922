"""Kinds of work nodes: what each does, and the schema of its options. Also the keys and names that graphs reserve."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias, get_type_hints

import msgspec

from ironflow_nb.core.wait_rules import Wanted
from ironflow_nb.errors import DefinitionError, NodeFailed
from ironflow_nb.graphs.grants import Grants, Need, UrlOrigin

COMMON_KEYS: Final = frozenset(
    {
        "id", "depends_on", "when", "retry", "timeout_s", "deadline_s", "overlap", "on_error", "once", "cache",
        "compensate", "breaker", "lane", "description",
    }
)  # fmt: skip
"""The keys that every node may have."""

CONTROL_KEYS: Final = {
    "condition": frozenset({"then", "else"}),
    "switch": frozenset({"cases", "default"}),
    "branch": frozenset(),
    "loop": frozenset({"as", "do", "concurrency"}),
    "workflow": frozenset({"input"}),
    "assert": frozenset(),
}
"""The control kinds, which decide what runs, each with its own keys."""

PYTHON: Final = "python"
PYTHON_KEYS: Final = frozenset({"with"})

_WORK_ONLY_KEYS: Final = frozenset(
    {"retry", "timeout_s", "deadline_s", "overlap", "once", "cache", "compensate", "breaker", "lane"}
)

INAPPLICABLE_KEYS: Final = {
    **dict.fromkeys(("condition", "switch", "branch", "loop", "assert", "delay"), _WORK_ONLY_KEYS),
    "workflow": _WORK_ONLY_KEYS - {"retry", "once"},
    **dict.fromkeys(("wait", "approve"), _WORK_ONLY_KEYS - {"timeout_s"}),
}
"""Common keys that a control node, a child run or a node that waits can't have."""

LATER_KEYS: Final = frozenset({"ask", "wait_for", "sleep", "sleep_until"})
"""Keys that are reserved for a later version."""

RESERVED_KEYS: Final = (
    COMMON_KEYS | CONTROL_KEYS.keys() | LATER_KEYS | PYTHON_KEYS | frozenset().union(*CONTROL_KEYS.values())
)
"""Names that a kind of a user can't have."""

RESERVED_NAMES: Final = frozenset({"input", "env", "secrets", "error", "index", "item", "taken"})
"""Ids that a node can't have, because they have another meaning in expressions."""


def failure(
    context: NodeContext,
    message: str,
    *,
    is_retryable: bool = False,
    status_code: int | None = None,
    output: object = None,
    path: str | None = None,
) -> NodeFailed:
    """Return the error of a node, which is retried only if `is_retryable`. `output` is the response it got, if any."""
    return NodeFailed(
        f"{context.node}: {message}",
        node=context.node,
        is_retryable=is_retryable,
        status_code=status_code,
        output=output,
        path=path,
    )


def missing_extra(context: NodeContext, what: str, extra: str) -> NodeFailed:
    """Return the error of a node whose library is not installed. `what` is what needs it."""
    return failure(context, f"{what} needs libraries that are not installed: pip install 'ironflow-nb[{extra}]'")


Options: TypeAlias = Mapping[str, Any]
"""The options of one node, with all expressions evaluated."""


class NodeContext(Protocol):
    """The context of one attempt of a node, which its work gets in addition to the options."""

    @property
    def node(self) -> str:
        """The id of the node."""

    @property
    def grants(self) -> Grants:
        """The grants of the graph; a node must check them before it uses anything outside of the graph."""

    @property
    def retry(self) -> Mapping[str, Any]:
        """The ``retry`` of the node as in the definition, for kinds with keys of their own in it (``on_status``)."""

    @property
    def timeout_s(self) -> float | None:
        """The time limit of one attempt in seconds. The engine stops waiting then; the work should stop by itself."""

    def evaluate(self, text: str, names: Mapping[str, Any]) -> Any:
        """Return the result of an expression, with or without braces, that sees only these names.

        Raises:
            ExpressionFailed: the expression is invalid, or fails.
        """

    def log(self, message: str, level: str = "info") -> None:
        """Log a message of the run; secrets in it are redacted."""

    def auth(self, origin: UrlOrigin) -> Mapping[str, Any] | None:
        """Return the credential that the graph has for the host, as the ``auth`` of a node; None if it has none.

        Raises:
            SecretMissing, NotGranted: its secret is not there.
        """

    def has_secret(self, content: str | bytes) -> bool:
        """Return True if the content has a secret of the graph in any form."""

    def now(self) -> datetime:
        """Return the current time of the engine's clock, in UTC."""

    def monotonic(self) -> float:
        """Return the engine's monotonic time in seconds."""

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return the function that the graph knows by that name: one it was given, or a step; else None."""


Perform: TypeAlias = Callable[[Options, NodeContext], Any]


def needs_nothing(_options: Options) -> Iterable[Need]:
    """Return no needs, for kinds that use nothing outside of the graph."""
    return ()


WaitCall: TypeAlias = tuple[Mapping[str, Any], Callable[[int], Wanted]]
"""The arguments that a wait is recorded with, and what it is for, given the instant at which it begins."""
Wait: TypeAlias = Callable[[Options, float | None], WaitCall]
"""Returns what a node waits for, from its options and its time limit. It may raise a `ValueError`."""


RETRY_KEYS: Final = frozenset({"on_status", "on_methods"})
"""Keys of ``retry`` that are about requests."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work node.

    `schema` is the JSON schema of its options, an object. An expression may stand in place of any value in it that is
    not an object. ``kind: value`` is short for the option `shorthand` if the value is not an object, or in any case if
    `is_value_whole`. The `lazy` options are expressions that the work evaluates itself for each item; they are
    compiled, not filled in. `needs` returns the needs that the options of the definition already tell. `is_outside`
    says that it uses something outside of the graph, so `Graph.test` demands a mock. `version` is part of the code
    identity of every node of the kind; increase it when the meaning changes.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    perform: Perform
    shorthand: str | None = None
    is_value_whole: bool = False
    lazy: frozenset[str] = frozenset()
    verbatim: frozenset[str] = frozenset()
    """Options whose braces are not expressions: templates of another language."""
    lazy_names: frozenset[str] = frozenset()
    """The only names that lazy expressions see: ``item``, ``index``."""
    needs: Callable[[Options], Iterable[Need]] = needs_nothing
    is_outside: bool = False
    version: int = 1
    retry_keys: frozenset[str] = frozenset()
    """Those of `RETRY_KEYS` that the work reads."""
    wait: Wait | None = None
    """What the node waits for, if it waits in place of work."""
    function: Callable[..., Any] | None = None
    """The function of a user's kind; its code is part of the code identity of the node."""

    def options_of(self, value: Any) -> Any:
        """Return the options of ``kind: value``, with a short form expanded."""
        if self.shorthand is None:
            return {} if value is None else value
        if isinstance(value, Mapping) and not self.is_value_whole:
            return value
        return {self.shorthand: value}


def options_schema(properties: Mapping[str, Any], *, required: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    """Return the schema of an object with only these options; `more` are further keywords of the schema."""
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
        DefinitionError: it is not a function, or the name is not allowed.
    """
    if not name.isidentifier() or name in RESERVED_KEYS | {PYTHON}:
        raise DefinitionError(
            f"a kind of node can't be called {name!r}; choose another name of letters and underscores"
        )
    if not callable(function) or inspect.isclass(function):
        raise DefinitionError(f"a kind of node needs a function, not {function!r}")
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
        schema=schema or schema_of_function(plain),
        perform=perform,
        shorthand=_shorthand(parameters),
        is_outside=True,
        retry_keys=RETRY_KEYS,
        function=plain,
    )


def _shorthand(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the only parameter, or the only one without a default; None if there is no such."""
    open_ones = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    named = [name for name, each in parameters.items() if name != "context" and each.kind not in open_ones]
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty]
    return named[0] if len(named) == 1 else needed[0] if len(needed) == 1 else None


def schema_of_function(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the schema of the arguments that a function takes by name, but for `context`, by its annotations."""
    parameters = inspect.signature(function).parameters
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
    """Return the schema of an annotation; one that accepts everything if there is none."""
    if hint is None:
        return {}
    try:
        schema: dict[str, Any] = msgspec.json.schema(hint)
    except TypeError:
        return {}
    return {} if "$ref" in schema or "$defs" in schema else schema
