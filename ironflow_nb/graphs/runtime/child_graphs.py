"""Flows and graphs that a graph runs as children: their code, what can be checked before a run, and the call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

from ironflow_nb.code_identity.code_parts import CodePart, PartKind, TrackedCode
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError, FlowNotDefined, GraphInvalid, NodeFailed, NotGranted
from ironflow_nb.execution import REGISTRY, RunContext, StepOptions, StepSpec, say
from ironflow_nb.graphs.compiled_graph import Block, CompiledGraph, GraphNode, NodeWork, PythonCall, Workflow, nodes_in
from ironflow_nb.graphs.language.data import as_data
from ironflow_nb.graphs.language.expression import ExpressionSyntaxError, compile_expression
from ironflow_nb.graphs.language.templates import Fields, Items, Literal, Template
from ironflow_nb.graphs.runtime.node_environment import PARAMETERS
from ironflow_nb.graphs.runtime.node_steps import NodeSteps
from ironflow_nb.handles.runnable import Runnable

MOST_LEVELS: Final = 16
"""Children may have children so deep, and no deeper: this stops a graph that calls itself without end."""

_LEVEL: Final[ContextVar[int]] = ContextVar("ironflow_graph_level", default=0)

_READING: Final[ContextVar[frozenset[str]]] = ContextVar("ironflow_code_of_graphs", default=frozenset())
"""The names of the graphs whose code is being read, from the outermost one inwards."""


class ChildCode:
    """The code of a child. Changed code runs the child again; its own steps are then compared one by one."""

    def __init__(self, child: Runnable) -> None:
        self._child = child

    def current(self) -> TrackedCode:
        """See `Code`."""
        return _tracked_code(self._child)


class _Graph(Protocol):
    """The part of a graph that its parent uses."""

    def refuse_names(self, names: Iterable[str], node: str) -> None:
        """Refuse names of inputs that it does not have, and missing ones."""

    def refuse_secrets(self, given: Any) -> None:
        """Refuse its secrets in an input, which the journal keeps unredacted."""

    def tracked(self) -> TrackedCode:
        """Return its code."""


def _tracked_code(child: Runnable) -> TrackedCode:
    spec = getattr(child, "spec", None)
    if isinstance(spec, StepSpec):
        return spec.tracked
    return cast("_Graph", child).tracked()


def tracked_graph(name: str, definition_id: Digest, node_steps: NodeSteps, block: Block) -> TrackedCode:
    """Return the code of a graph: its definition, and the code of its nodes, of its children and of theirs."""
    found = {definition_id}
    parts = [CodePart(name, PartKind.DECLARED, definition_id, f"graph {name}")]
    outer = _READING.get()
    if name not in outer:  # a graph that runs itself has its code already
        token = _READING.set(outer | {name})
        try:
            for tracked in _code_of_nodes(block, node_steps):
                if tracked.digest not in found:
                    found.add(tracked.digest)
                    parts += tracked.parts
        finally:
            _READING.reset(token)
    return TrackedCode(digest_bytes(b"graph " + b"".join(sorted(found))), tuple(parts), ())


def _code_of_nodes(block: Block, node_steps: NodeSteps) -> Iterator[TrackedCode]:
    for node in nodes_in(block):
        match node.task:
            case Workflow(target=Literal(value=name)):
                child = _find_runnable(str(name))
                if child is not None:
                    with suppress(GraphInvalid):
                        yield _tracked_code(child)
            case NodeWork() | PythonCall():
                with suppress(FlowNotDefined, NotGranted, DefinitionError, ValueError):
                    yield node_steps.spec(node).tracked


def _find_runnable(name: str) -> Runnable | None:
    found = REGISTRY.find(RunKind.GRAPH, name) or REGISTRY.find(RunKind.FLOW, name)
    return found if isinstance(found, Runnable) else None


# -- before a run ------------------------------------------------------------------------------------------------


def say_doubts(definition: CompiledGraph, node_steps: NodeSteps | None) -> None:
    """Say what is no error, but may be meant otherwise: see `say_unmarked` and `_repeated_posts`.

    With `node_steps` it also says which functions, flows and graphs the graph needs and are not defined yet.
    """
    say_unmarked(definition)
    if repeated := ", ".join(_repeated_posts(definition)):
        advice = 'name on_methods, or give a header Idempotency-Key that stays the same: "{{ uuid() }}"'
        say(f"{definition.name}: retry of {repeated} sends a request again that may have arrived; {advice}")
    if node_steps is None:
        return
    missing = list(dict.fromkeys(_undefined(definition.block, node_steps)))
    if missing:
        say(f"{definition.name}: {', '.join(missing)} is defined nowhere yet; a run needs it")


def say_unmarked(definition: CompiledGraph) -> None:
    """Say which texts in outputs read like an expression of this graph, but stand without the braces of one."""
    nodes = list(nodes_in(definition.block))
    known = {"input", *(node.id for node in nodes)}
    places: list[tuple[str, Any]] = [
        (f"{node.task.kind.name} of node {node.id}", node.task.options)
        for node in nodes
        if isinstance(node.task, NodeWork) and node.task.kind.is_value_whole
    ]
    for place, template in [*places, ("output", definition.output)]:
        for text in _literal_texts(template):
            with suppress(ExpressionSyntaxError):
                names = compile_expression(text).names
                # "input-output" would be a difference, and is one only if both are there.
                if names <= known if "-" in text else known & names:
                    say(f'{definition.name}: {place} has the text {text!r}; as an expression it is "{{{{ {text} }}}}"')


def _repeated_posts(definition: CompiledGraph) -> Iterator[str]:
    """Yield the http nodes whose retry repeats a request that is not repeatable by itself."""
    for node in nodes_in(definition.block):
        if isinstance(node.task, NodeWork) and node.task.kind.name == "http" and node.retry.attempts > 1:
            options = dict(node.task.options.fields) if isinstance(node.task.options, Fields) else {}
            method = options.get("method", Literal("GET"))
            is_post = isinstance(method, Literal) and method.value in {"POST", "PATCH"}
            is_chosen = "on_methods" in node.retry_options or "on_status" in node.retry_options
            if is_post and not is_chosen and "idempotency-key" not in _header_names(options.get("headers")):
                yield node.id


def _header_names(headers: Template | None) -> set[str]:
    match headers:
        case Literal(value=Mapping() as written):
            return {str(name).lower() for name in written}
        case Fields(fields=fields):
            return {name.lower() for name, _ in fields}
        case _:
            return set()


def _literal_texts(found: Any) -> Iterator[str]:
    """Yield the texts of a template, or of a value in it, that have no expression."""
    match found:
        case Literal(value=inner):
            yield from _literal_texts(inner)
        case Fields():
            for _, inner in found.fields:
                yield from _literal_texts(inner)
        case Items(items=inner) | tuple(inner) | list(inner):
            for each in inner:
                yield from _literal_texts(each)
        case Mapping():
            yield from _literal_texts(list(found.values()))
        case str():
            yield found


def _undefined(block: Block, node_steps: NodeSteps) -> Iterator[str]:
    """Yield the nodes that name a function of Python, a flow or a graph that is not defined here, with that name."""
    for node in nodes_in(block):
        match node.task:
            case Workflow(target=Literal(value=name)):
                if _find_runnable(str(name)) is None:
                    yield f"{node.id}: workflow {name}"
            case PythonCall(function=name):
                try:
                    node_steps.spec(node)
                except FlowNotDefined:
                    yield f"{node.id}: python {name}"
                except (NotGranted, DefinitionError, ValueError):  # a run raises it
                    pass


def check_inputs_of_children(block: Block) -> None:
    """Check the names of the inputs that nodes give to graphs, where both are written in the graph.

    Raises:
        InputInvalid: a node gives its child an input that the child does not have, or leaves out one that it needs.
    """
    for node in nodes_in(block):
        if isinstance(node.task, Workflow) and isinstance(node.task.target, Literal):
            child = REGISTRY.find(RunKind.GRAPH, str(node.task.target.value))
            names = _input_names(node.task.input)
            if child is not None and names is not None:
                with suppress(GraphInvalid):
                    cast("_Graph", child).refuse_names(names, node.id)


def _input_names(given: Template) -> list[str] | None:
    """Return the names of an input; None if only a run knows them."""
    match given:
        case Fields(fields=fields):
            return [name for name, _ in fields]
        case Literal(value=None):
            return []
        case Literal(value=Mapping() as value):
            return list(value)
        case _:
            return None


# -- the call ----------------------------------------------------------------------------------------------------


def call_child(context: RunContext, node_steps: NodeSteps, node: GraphNode, name: Any, given: Any) -> Any:
    """Run the child of that name in this thread, as a child of the run, and return its result.

    Raises:
        FlowNotDefined: no flow or graph of that name is defined here.
        NodeFailed: children have children too deep, or the child failed.
    """
    __tracebackhide__ = True
    child = _require_child(node, name)
    level = _LEVEL.get() + 1
    if level > MOST_LEVELS:
        raise NodeFailed(
            f"{node.id}: children have children {MOST_LEVELS} levels deep; a graph that runs itself needs a condition "
            "that ends it",
            node=node.id,
            is_retryable=False,
        )
    _refuse_secrets(child, given, f"{name}, the child of node {node.id}", node_steps)
    token = _LEVEL.set(level)
    try:
        args, kwargs = _arguments(child, given)
        recorded = {"workflow": child.name, "input": given}
        return child.call_as_child(
            _child_spec(child, node_steps.graph, node, name), context, args, kwargs, recorded=recorded
        )
    finally:
        _LEVEL.reset(token)


def _require_child(node: GraphNode, name: Any) -> Runnable:
    found = _find_runnable(str(name))
    if found is not None:
        return found
    known = sorted(each.name for kind in (RunKind.GRAPH, RunKind.FLOW) for each in REGISTRY.definitions(kind))
    raise FlowNotDefined(
        f"node {node.id} runs {name!r} as its child, and no graph or flow of that name is defined here "
        f"(there are: {', '.join(known) or 'none'})",
        name=name,
    )


def _child_spec(child: Runnable, graph: str, node: GraphNode, name: Any) -> StepSpec:
    return StepSpec(
        _has_no_body,
        name=f"{graph}.{node.id}",
        options=StepOptions(retries=node.retry, once=node.once),
        code=ChildCode(child),
        parameters=PARAMETERS,
        variant=str(name),
    )


def _has_no_body(**_options: Any) -> None:
    raise AssertionError("a child is a run of its own")


def _refuse_secrets(child: Runnable, given: Any, place: str, node_steps: NodeSteps) -> None:
    """Refuse secrets of the graph and of the child in the input of the child."""
    given = as_data(given)
    node_steps.secrets.refuse_in({"the input": given}, place)
    if child.kind == RunKind.GRAPH:
        cast("_Graph", child).refuse_secrets(given)


def _arguments(child: Runnable, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that an input means. A flow takes a mapping by name and a list by position."""
    given = as_data(given)  # a copy, because the child may change it in place
    match given:
        case None:
            return (), {}
        case dict() if child.kind == RunKind.FLOW:
            return (), given
        case list() if child.kind == RunKind.FLOW:
            return tuple(given), {}
        case _:
            return (given,), {}
