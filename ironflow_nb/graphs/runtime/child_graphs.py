"""Graphs and flows that a graph runs as children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

from ironflow_nb.code_identity.code_parts import CodePart, TrackedCode
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError, FlowNotDefined, GraphInvalid, NodeFailed, NotGranted
from ironflow_nb.execution import REGISTRY, RunContext, StepOptions, StepSpec, say
from ironflow_nb.graphs.compiled_graph import Block, CompiledGraph, GraphNode, NodeWork, PythonCall, Workflow, blocks_of
from ironflow_nb.graphs.language.data import as_data
from ironflow_nb.graphs.language.templates import Fields, Literal, Template
from ironflow_nb.graphs.runtime.node_steps import PARAMETERS, NodeSteps
from ironflow_nb.graphs.secrets import Secrets
from ironflow_nb.handles.runnable import Runnable

MOST_LEVELS: Final = 16
"""So deep may children have children: a graph that calls itself without end is stopped there."""

_LEVEL: Final[ContextVar[int]] = ContextVar("ironflow_graph_level", default=0)

_READING: Final[ContextVar[frozenset[str]]] = ContextVar("ironflow_code_of_graphs", default=frozenset())


class ChildCode:
    """The code of a child, as it is now: with other code it runs again, and its own nodes are looked at one by one."""

    def __init__(self, target: Runnable | None) -> None:
        self.target = target

    def current(self) -> TrackedCode:
        """See `Code`."""
        assert self.target is not None
        return _tracked(self.target)


class _Graph(Protocol):
    """What is asked of a graph that is a child."""

    def refuse_names(self, names: Iterable[str], node: str) -> None:
        """Refuse names of inputs that it does not take, or that are missing."""

    def refuse_secrets(self, given: Any) -> None:
        """Refuse its secrets in what the journal keeps as it is."""

    def tracked(self) -> TrackedCode:
        """Return its code."""


def _tracked(target: Runnable) -> TrackedCode:
    spec = getattr(target, "spec", None)
    if isinstance(spec, StepSpec):
        return spec.tracked
    return cast("_Graph", target).tracked()


def tracked_graph(name: str, definition_id: Digest, workshop: NodeSteps, block: Block) -> TrackedCode:
    """Return the code of a graph: how it is written, and the code of what its nodes run, children of children too."""
    found = {definition_id}
    parts = [CodePart(name, "declared", definition_id, f"graph {name}")]
    outer = _READING.get()
    if name not in outer:  # else it runs itself
        token = _READING.set(outer | {name})
        try:
            for tracked in _run_by(block, workshop):
                if tracked.digest not in found:
                    found.add(tracked.digest)
                    parts += tracked.parts
        finally:
            _READING.reset(token)
    return TrackedCode(digest_bytes(b"graph " + b"".join(sorted(found))), tuple(parts), ())


def _run_by(block: Block, workshop: NodeSteps) -> Iterator[TrackedCode]:
    for node in block.nodes:
        match node.task:
            case Workflow(target=Literal(value=name)):
                child = REGISTRY.find(RunKind.GRAPH, str(name)) or REGISTRY.find(RunKind.FLOW, str(name))
                if isinstance(child, Runnable):
                    with suppress(GraphInvalid):
                        yield _tracked(child)
            case NodeWork() | PythonCall():
                with suppress(FlowNotDefined, NotGranted, DefinitionError, ValueError):
                    yield workshop.spec(node).tracked
        for inside in blocks_of(node):
            yield from _run_by(inside, workshop)


def say_undefined(definition: CompiledGraph, workshop: NodeSteps) -> None:
    """Name functions, flows and graphs that the graph needs and that are defined nowhere yet."""
    missing = list(dict.fromkeys(_undefined(definition.block, workshop)))
    if missing:
        say(f"{definition.name}: {', '.join(missing)} is defined nowhere yet; a run needs it")


def _undefined(block: Block, workshop: NodeSteps) -> Iterator[str]:
    """Yield what nodes of the block name and nothing here has defined: functions of Python, flows and graphs."""
    for node in block.nodes:
        match node.task:
            case Workflow(target=Literal(value=name)):
                if REGISTRY.find(RunKind.GRAPH, str(name)) is None and REGISTRY.find(RunKind.FLOW, str(name)) is None:
                    yield f"{node.id}: workflow {name}"
            case PythonCall(function=name):
                try:
                    workshop.spec(node)
                except FlowNotDefined:
                    yield f"{node.id}: python {name}"
                except (NotGranted, DefinitionError, ValueError):  # a run will tell
                    pass
        for inside in blocks_of(node):
            yield from _undefined(inside, workshop)


def check_inputs_of_children(block: Block) -> None:
    """Refuse names of inputs that graphs do not have which run as children, as far as they can be seen.

    Raises:
        InputInvalid: a node gives its child what that does not take, or leaves out what it needs.
    """
    for node in block.nodes:
        if isinstance(node.task, Workflow) and isinstance(node.task.target, Literal):
            child = REGISTRY.find(RunKind.GRAPH, str(node.task.target.value))
            names = _names_of(node.task.input)
            if child is not None and names is not None:
                with suppress(GraphInvalid):
                    cast("_Graph", child).refuse_names(names, node.id)
        for inside in blocks_of(node):
            check_inputs_of_children(inside)


def _names_of(given: Template) -> list[str] | None:
    """Return the names of an input, if they are written down."""
    match given:
        case Fields(fields=fields):
            return [name for name, _ in fields]
        case Literal(value=None):
            return []
        case Literal(value=Mapping() as value):
            return list(value)
        case _:
            return None


class ChildCall:
    """One call of a child."""

    def __init__(self, node: GraphNode, name: Any, given: Any, graph: str, secrets: Secrets) -> None:
        self._node = node
        self._name = name
        self._given = given
        self._secrets = secrets
        options = StepOptions(retries=node.retry, once=node.once)
        name_of_step = f"{graph}.{node.id}"
        self._code = ChildCode(None)
        self._spec = StepSpec(
            _performs_nothing,
            name=name_of_step,
            options=options,
            code=self._code,
            parameters=PARAMETERS,
            variant=str(name),
        )

    def call(self, scope: RunContext) -> Any:
        """Run the child in this thread, as a child of the run that the scope is of."""
        __tracebackhide__ = True
        target = self._code.target = self._target()
        level = _LEVEL.get() + 1
        if level > MOST_LEVELS:
            raise NodeFailed(
                f"{self._node.id}: children have children {MOST_LEVELS} levels deep by now; a graph that runs itself "
                "needs a condition that ends it",
                node=self._node.id,
                is_retryable=False,
            )
        self._refuse_secrets(target)
        token = _LEVEL.set(level)
        try:
            args, kwargs = _arguments(target, self._given)
            given = {"workflow": target.name, "input": self._given}
            return target.call_as_child(self._spec, scope, args, kwargs, recorded=given)
        finally:
            _LEVEL.reset(token)

    def _refuse_secrets(self, target: Runnable) -> None:
        given = as_data(self._given)
        self._secrets.refuse_in({"the input": given}, f"{self._name}, the child of node {self._node.id}")
        if target.kind == RunKind.GRAPH:
            cast("_Graph", target).refuse_secrets(given)

    def _target(self) -> Runnable:
        found = REGISTRY.find(RunKind.GRAPH, str(self._name)) or REGISTRY.find(RunKind.FLOW, str(self._name))
        if isinstance(found, Runnable):
            return found
        known = sorted(each.name for kind in (RunKind.GRAPH, RunKind.FLOW) for each in REGISTRY.definitions(kind))
        raise FlowNotDefined(
            f"node {self._node.id} runs {self._name!r} as its child, and no graph or flow of that name is defined here "
            f"(there are: {', '.join(known) or 'none'})",
            name=self._name,
        )


def _performs_nothing(**_options: Any) -> None:
    raise AssertionError("a child is run as a run")


def _arguments(target: Runnable, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the call that an input means: a mapping is arguments by name, a list is arguments, all else is one."""
    given = as_data(given)  # whoever gets it may change it in place
    match given:
        case None:
            return (), {}
        case dict() if target.kind == RunKind.FLOW:
            return (), given
        case list() if target.kind == RunKind.FLOW:
            return tuple(given), {}
        case _:
            return (given,), {}
