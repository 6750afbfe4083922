"""The graph compiler: makes a `CompiledGraph` of plain data, and reports all errors of the graph together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from ironflow_nb.core.breaker_rules import BreakerRule, a_breaker
from ironflow_nb.core.lanes import Lane, a_lane
from ironflow_nb.core.retry import NEVER, Retry
from ironflow_nb.graphs.compiled_graph import (
    CONTINUE,
    Assertion,
    Block,
    CompiledGraph,
    Condition,
    GraphNode,
    Loop,
    NodeWork,
    ParallelBlocks,
    PythonCall,
    Switch,
    Task,
    While,
    Workflow,
    ended_masks,
    find_cycle,
)
from ironflow_nb.graphs.compiler import json_schema
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFindings, DataPath, Key, format_path, value_at
from ironflow_nb.graphs.compiler.graph_auth import compiled_auth
from ironflow_nb.graphs.compiler.graph_input import INPUT, GraphInput, declared_inputs, written_out
from ironflow_nb.graphs.compiler.graph_source import GraphSource
from ironflow_nb.graphs.compiler.name_scope import MOST_SHOWN, NameScope, NestedNodes, names_read
from ironflow_nb.graphs.compiler.schema_check import has_expression, problems, suggestion
from ironflow_nb.graphs.compiler.tasks import TaskCompiler
from ironflow_nb.graphs.grants import GRANTS_SCHEMA as GRANTS
from ironflow_nb.graphs.grants import Grant, Grants, Need
from ironflow_nb.graphs.kinds import (
    COMMON_KEYS,
    CONTROL_KEYS,
    INAPPLICABLE_KEYS,
    LATER_KEYS,
    PYTHON,
    PYTHON_KEYS,
    RESERVED_NAMES,
    RETRY_KEYS,
    Kind,
)
from ironflow_nb.graphs.language.data import Tree
from ironflow_nb.graphs.language.expression import LENIENT_FUNCTIONS, field_of
from ironflow_nb.graphs.language.templates import Template, expressions_of
from ironflow_nb.graphs.secrets import variable_of

S = TypeVar("S")

_WHOLE: Final = frozenset(
    {"multi_select_list", "multi_select_dict", "key_val_pair", "function_expression", "comparator", "arithmetic"}
)
_LENIENT: Final = frozenset({"or_expression", "and_expression", "not_expression", "expref", "literal"})


def needed_inputs(block: Block) -> dict[str, str]:
    """Return the inputs that every run of the block needs, each with the id of a node that reads it."""
    needed: dict[str, str] = {}
    for node in block.nodes:
        if node.when is None and node.on_error is None:
            for template in _unconditional_templates(node):
                for expression in expressions_of(template):
                    for name, field in _required_fields(expression.tree):
                        if name == INPUT:
                            needed.setdefault(field, node.id)
    return needed


def _unconditional_templates(node: GraphNode) -> Iterator[Template]:
    match node.task:
        case NodeWork(options=template) | PythonCall(arguments=template):
            yield template
        case Condition(test=template) | Switch(value=template) | Loop(items=template) | While(test=template):
            yield template
        case Workflow(target=target, input=given):
            yield from (target, given)
        case ParallelBlocks(branches=branches):
            yield from (branch.when for branch in branches if branch.when is not None)
        case Assertion(checks=checks):
            yield from (operand for check in checks for operand in check.operands)


def _required_fields(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield pairs of a name and its field that the expression fails without."""
    pending = [tree]
    while pending:
        node = pending.pop()
        kind, children = node["type"], [each for each in node.get("children", ()) if isinstance(each, dict)]
        if kind == "subexpression":
            found = field_of(node)
            if found is not None:
                yield found
            pending.append(children[0])
        elif kind in _WHOLE:
            pending += () if _is_lenient(node, children) else children
        elif kind not in _LENIENT and children:
            pending.append(children[0])


def _is_lenient(node: Tree, children: list[Tree]) -> bool:
    if node["type"] == "function_expression":
        return node["value"] in LENIENT_FUNCTIONS
    return node["type"] == "comparator" and any(
        each["type"] == "literal" and each["value"] is None for each in children
    )


CONCURRENCY: Final = 16
"""The default number of nodes of a graph that run at once."""

_GRANTED_SOURCES: Final[tuple[Grant, ...]] = ("env", "keyring")


def compile_graph(
    source: GraphSource, kinds: Mapping[str, Kind], *, grants: Grants | None = None
) -> tuple[CompiledGraph, CompilerFindings]:
    """Return the compiled graph and its findings. A graph with findings must not run.

    `grants` replace those of its own ``allow``, unless None.
    """
    compiler = _GraphCompiler(source, kinds, grants)
    return compiler.definition(), compiler.findings


def valid_grants(allow: Any, base: str | None) -> Grants:
    """Return the grants of an ``allow``: none if it is missing or does not fit its schema."""
    if allow is True:
        return Grants.of(None, base=base)
    is_valid = isinstance(allow, Mapping) and not list(problems(GRANTS, allow, allows_expressions=False))
    return Grants.of(allow if is_valid else {}, base=base)


class _GraphCompiler:
    """Compiles one graph."""

    def __init__(self, source: GraphSource, kinds: Mapping[str, Kind], grants: Grants | None) -> None:
        self.findings = CompilerFindings(source.data, source.spans, source.findings)
        self._data: Mapping[str, Any] = source.data if isinstance(source.data, Mapping) else {}
        self._kinds = kinds
        self._paths: dict[str, DataPath] = {}
        if not isinstance(source.data, Mapping) or not source.data:
            self.findings.add((), "a graph is a mapping with graph: and nodes:")
        self.grants = grants or valid_grants(self._data.get("allow"), source.base)
        secrets = self._data.get("secrets")
        self._secrets: Mapping[str, Any] = secrets if isinstance(secrets, Mapping) else {}
        self._nested = NestedNodes(self._data)
        self._tasks = TaskCompiler(kinds, self.findings, self.grants, self._nested, self.block)

    def definition(self) -> CompiledGraph:
        data = self._data
        declared = {INPUT: written_out(data[INPUT])} if INPUT in data else {}
        top = {"type": "object", "properties": dict(json_schema.TOP), "additionalProperties": False}
        self._check((), top, {**data, **declared})
        for key in ("graph", "nodes"):
            if data and key not in data:
                self.findings.add((), f"{key}: is missing")
        self._check_secret_sources()
        inputs = declared_inputs(declared.get(INPUT), self.findings)
        scope = self._top_scope(inputs)
        block = self.block(data.get("nodes"), ("nodes",), scope)
        output = None
        if "output" in data:
            whole = scope.with_names(node.id for node in block.nodes).without_secrets("output")
            output = self._tasks.template(data["output"], ("output",), whole)
        name = data.get("graph")
        concurrency = data.get("concurrency", CONCURRENCY)
        return CompiledGraph(
            name=name if isinstance(name, str) else "",
            inputs=inputs if inputs.declared is not None else replace(inputs, needed=needed_inputs(block)),
            block=block,
            output=output,
            concurrency=concurrency if type(concurrency) is int else CONCURRENCY,
            secrets=self._secrets,
            auths=compiled_auth(
                data.get("auth"), self.findings, self._tasks.template, frozenset(self._secrets), self.grants
            ),
            data=data,
        )

    def _top_scope(self, inputs: GraphInput) -> NameScope:
        sources = ((variable_of(source), name) for name, source in self._secrets.items())
        hidden = {variable: name for variable, name in sources if variable is not None}
        names = frozenset({"input", "env"})
        return NameScope(names, secrets=frozenset(self._secrets), hidden=hidden, inputs=inputs.names)

    def _check_secret_sources(self) -> None:
        for name, source in self._secrets.items():
            for grant in _GRANTED_SOURCES:
                if isinstance(source, Mapping) and isinstance(source.get(grant), str):
                    self._require(("secrets", name), Need(grant, source[grant]))

    def _check(self, path: DataPath, part: Mapping[str, Any], data: Any) -> None:
        for inner, message in problems(part, data, allows_expressions=False):
            if not self.findings.is_unreadable((*path, *inner)):
                hint = "; an expression can't stand here" if has_expression(value_at(data, inner)) else ""
                self.findings.add((*path, *inner), message + hint)

    def _require(self, path: DataPath, need: Need) -> None:
        refusal = self.grants.refusal(need)
        if refusal is not None:
            self.findings.add(path, refusal)

    # -- blocks --------------------------------------------------------------------------------------------------

    def block(self, data: Any, path: DataPath, scope: NameScope) -> Block:
        """Compile a list of nodes. They see `scope` and the nodes of their block that end before them."""
        if not isinstance(data, list):
            return Block(())  # reported by the schema
        valid = [(number, each) for number, each in enumerate(data) if self._check_node(each, (*path, number), scope)]
        numbers: dict[str, int] = {}
        for index, (_, each) in enumerate(valid):
            numbers.setdefault(each["id"], index)
        paths = [(*path, number) for number, _ in valid]
        after = self._dependencies([each for _, each in valid], paths, numbers)
        all_ended = [(1 << len(valid)) - 1] * len(valid)
        before = all_ended if after is None else ended_masks(after)
        nodes: list[GraphNode] = []
        for index, (number, each) in enumerate(valid):
            node_scope = scope.with_nodes(before[index], numbers)
            nodes.append(self._node(each, (*path, number), after[index] if after else (), node_scope))
        return Block(tuple(nodes))

    def _check_node(self, data: Any, path: DataPath, scope: NameScope) -> bool:
        if not isinstance(data, Mapping):
            self.findings.add(path, "a node is a mapping with id: and its kind")
            return False
        name = data.get("id")
        if not isinstance(name, str):
            self.findings.add(
                (*path, "id"),
                "id: is missing" if "id" not in data else "an id is a text of letters, digits, underscores and dashes",
            )
            return False
        self._check_id(name, (*path, "id"), scope)
        return True

    def _check_id(self, name: str, path: DataPath, scope: NameScope) -> None:
        if re.fullmatch(json_schema.NODE_ID, name) is None:
            rule = "an id has letters, digits, underscores and dashes, no digit first"
            self.findings.add(path, f"{rule}; {name!r} could be {_similar_id(name)}")
        elif name in RESERVED_NAMES or name in scope.names:
            self.findings.add(path, f"{name!r} has another meaning in expressions; choose another id")
        if name in self._paths:
            first = self.findings.line_of(self._paths[name]) or f" by {format_path(self._paths[name][:-1])}"
            self.findings.add(path, f"the id {name!r} is taken{first}; ids are unique in the whole graph")
        else:
            self._paths[name] = path

    def _dependencies(
        self, nodes: Sequence[Mapping[str, Any]], paths: Sequence[DataPath], numbers: Mapping[str, int]
    ) -> list[tuple[int, ...]] | None:
        """Return for each node the numbers of its dependencies; None if there is a cycle."""
        after: list[tuple[int, ...]] = []
        for number, (node, path) in enumerate(zip(nodes, paths, strict=True)):
            wanted = node.get("depends_on")
            if not isinstance(wanted, list):
                after.append(self._implied(node, number, numbers))
                continue
            found = [self._dependency(name, numbers, (*path, "depends_on", at)) for at, name in enumerate(wanted)]
            after.append(tuple(sorted({each for each in found if each is not None})))
        cycle = find_cycle(after)
        if cycle is None:
            return after
        message = _cycle_message([nodes[each] for each in cycle], is_parallel=self._data.get("parallel") is True)
        self.findings.add((*paths[cycle[0]], "depends_on"), message)
        return None

    def _implied(self, node: Mapping[str, Any], number: int, numbers: Mapping[str, int]) -> tuple[int, ...]:
        """Return what a node without ``depends_on`` waits for: the node above, or the nodes that it reads."""
        if self._data.get("parallel") is not True:
            return (number - 1,) if number else ()
        read = {numbers[name] for name in names_read(node, self._kinds) if name in numbers}
        return tuple(sorted(read - {number}))

    def _dependency(self, name: Any, numbers: Mapping[str, int], path: DataPath) -> int | None:
        if not isinstance(name, str):
            return None  # reported by the schema
        if name in numbers:
            return numbers[name]
        other = self._nested.find(name)
        if other is None:
            self.findings.add(path, f"there is no node {name!r}{suggestion(name, list(numbers)[:MOST_SHOWN])}")
        elif other.is_in_outer_list_of(path):
            self.findings.add(path, f"{name} is in an outer list; make the node that contains this one depend on it")
        else:
            here = next((f"; depend on {each.id}" for each in other.enclosing if each.id in numbers), "")
            self.findings.add(path, f"{name} is in another list of nodes, inside {other.enclosing[-1].id}{here}")
        return None

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _node(self, data: Mapping[str, Any], path: DataPath, after: tuple[int, ...], scope: NameScope) -> GraphNode:
        name = self._kind_of(data, path)
        self._check_keys(data, path, name)
        task = self._tasks.task(name, data, path, scope)
        if data.get("once") is True and data.get("cache") and "cache" not in INAPPLICABLE_KEYS.get(name or "", ()):
            message = "cache may take a result of another run, and a node with once: true must run; choose one"
            self.findings.add((*path, Key("cache")), message)
        retry_options = data.get("retry") if isinstance(data.get("retry"), Mapping) else {}
        timeout_s, deadline_s = (_number(data.get(key)) for key in ("timeout_s", "deadline_s"))
        if timeout_s is not None and deadline_s is not None and timeout_s > deadline_s:
            message = "one attempt, timeout_s, can't take longer than all of them together, deadline_s"
            self.findings.add((*path, Key("timeout_s")), message)
        when = data.get("when")
        on_error = data.get("on_error")
        handler: Any = on_error if on_error == CONTINUE else None
        if isinstance(on_error, list):
            handler = self.block(on_error, (*path, "on_error"), scope.with_names({"error"}))
        return GraphNode(
            id=data["id"],
            task=task,
            compensate=self._undo(data, path, scope),
            breaker=self._shared(BreakerRule, a_breaker, data.get("breaker"), (*path, "breaker")),
            lane=self._shared(Lane, a_lane, data.get("lane"), (*path, "lane")),
            after=after,
            path=path,
            when=None if when is None else self._tasks.test(when, (*path, "when"), scope.without_secrets("when")),
            retry=self._retry(retry_options or {}, data, path, name),
            retry_options=retry_options or {},
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            on_error=handler,
            overlap=data.get("overlap") is True,
            once=data.get("once") is True,
            cache=data.get("cache"),
            description=str(data.get("description", "")),
        )

    def _undo(self, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> GraphNode | None:
        """Return the node that undoes another one, and sees its output, too."""
        given, inside = data.get("compensate"), (*path, "compensate")
        if not isinstance(given, Mapping):
            return None
        refused = [key for key in given if key in _NOT_OF_UNDO]
        for key in refused:
            self.findings.add((*inside, Key(key)), f"what undoes a node has no {key!r}: {_NOT_OF_UNDO[key]}")
        undo = self._node({**given, "id": f"undo_{data['id']}"}, inside, (), scope.with_names({data["id"]}))
        if not refused and not _does_work(undo.task):
            self.findings.add(inside, "what undoes a node does work itself: a python node, or one of a kind")
        return undo

    def _shared(
        self, kind: Callable[..., S], of_name: Callable[[Any], S | None], given: Any, path: DataPath
    ) -> S | None:
        """Return what all steps and nodes share that name it: a breaker, or a lane."""
        try:
            return kind(**given) if isinstance(given, Mapping) else of_name(given)
        except (TypeError, ValueError) as error:
            if isinstance(given, str | Mapping):  # all else is reported by the schema
                self.findings.add(path, str(error))
            return None

    def _kind_of(self, data: Mapping[str, Any], path: DataPath) -> str | None:
        known = {*CONTROL_KEYS, PYTHON, *self._kinds}
        found = [key for key in data if key in known]
        if len(found) == 1:
            return str(found[0])
        if found:
            self.findings.add(path, f"a node has one kind, and this one has {' and '.join(map(str, found))}")
            return None
        if self.findings.is_unreadable(path):
            return None
        later = [key for key in data if key in LATER_KEYS]
        others = [str(key) for key in data if key not in COMMON_KEYS and key not in LATER_KEYS]
        if later:
            self._refuse_later(later[0], path)
        elif others:
            self.findings.add((*path, Key(others[0])), self._unknown_key(others[0], known))
        else:
            self.findings.add(path, f"the node has no kind (there are: {', '.join(sorted(known))})")
        return None

    def _unknown_key(self, key: str, known: set[str]) -> str:
        owners = [name for name, keys in CONTROL_KEYS.items() if key in keys] + [PYTHON] * (key in PYTHON_KEYS)
        if owners:
            return f"{key} belongs to a {' or '.join(owners)} node, and this node has no kind"
        if not suggestion(key, sorted(COMMON_KEYS)).startswith(" "):
            return f"{key!r} is not known here{suggestion(key, sorted(COMMON_KEYS | known))}"
        return f"there is no kind of node {key!r}{suggestion(key, sorted(known))}"

    def _refuse_later(self, key: str, path: DataPath) -> None:
        self.findings.add((*path, Key(key)), f"{key} is reserved for a later version")

    def _check_keys(self, data: Mapping[str, Any], path: DataPath, name: str | None) -> None:
        common = {key: value for key, value in data.items() if key in COMMON_KEYS and key != "id"}
        self._check(path, {"type": "object", "properties": dict(json_schema.COMMON)}, common)
        if name is None:
            return
        own = {name} | CONTROL_KEYS.get(name, frozenset()) | (PYTHON_KEYS if name == PYTHON else frozenset())
        for key in data:
            if key in LATER_KEYS:
                self._refuse_later(key, path)
            elif key not in COMMON_KEYS and key not in own:
                known = sorted(COMMON_KEYS - INAPPLICABLE_KEYS.get(name, frozenset()) | own)
                self.findings.add((*path, Key(key)), f"a {name} node has no {key!r}{suggestion(key, known)}")
            elif key in INAPPLICABLE_KEYS.get(name, ()):
                self.findings.add((*path, Key(key)), _inapplicable_message(key, name))
        if name in json_schema.CONTROL:
            own_data = {key: data[key] for key in own if key in data}
            part = {"type": "object", "properties": json_schema.CONTROL[name], "required": json_schema.REQUIRED[name]}
            self._check(path, part, own_data)

    def _retry(self, options: Mapping[str, Any], data: Mapping[str, Any], path: DataPath, name: str | None) -> Retry:
        read = self._kinds[name].retry_keys if name and name in self._kinds else frozenset()
        for key in sorted(RETRY_KEYS.intersection(options) - read) if name else ():
            self.findings.add((*path, "retry", Key(key)), f"{key} is about requests, and a {name} node sends none")
        known = {
            key: options[key] for key in ("attempts", "delay_s", "factor", "max_delay_s", "jitter") if key in options
        }
        if not options:
            return NEVER
        try:
            retry = Retry(**known)
        except (TypeError, ValueError):
            return NEVER  # reported by the schema
        if data.get("once") is True and retry.attempts > 1:
            self.findings.add((*path, Key("retry")), "a node with once: true is not retried")
        return retry


_NOT_OF_UNDO: Final = {
    "id": "it is that of the node, with undo_ before it",
    "depends_on": "it runs after the run has failed",
    "when": "let its kind decide",
    "on_error": "what can't be undone shows in the run",
    "compensate": "it is not undone itself",
    "cache": "it has to be done each time",
}


def _does_work(task: Task) -> bool:
    """Return True if a node can undo another one; one of no known kind is an assertion without checks."""
    match task:
        case NodeWork(kind=kind):
            return kind.wait is None
        case Assertion(checks=checks):
            return not checks
        case _:
            return isinstance(task, PythonCall)


def _number(given: Any) -> float | None:
    return given if isinstance(given, int | float) and not isinstance(given, bool) else None


def _inapplicable_message(key: str, name: str) -> str:
    if name == "workflow":
        return f"a workflow node has no {key!r}: its child is a run of its own; set it on the nodes of the child"
    if name in {"delay", "wait", "approve"}:
        return f"a {name} node has no {key!r}: it waits, and does no work"
    return f"a {name} node has no {key!r}: it does no work itself; set it on the nodes that do"


def _similar_id(name: str) -> str:
    """Return a valid id that is similar to the name."""
    better = "".join(each if each.isalnum() and each.isascii() else "_" for each in name).strip("_")
    return better if better.isidentifier() else f"node_{better}".rstrip("_")


def _cycle_message(nodes: Sequence[Mapping[str, Any]], *, is_parallel: bool) -> str:
    ids = [node["id"] for node in nodes]
    if len(ids) == 2:
        return f"{ids[0]} waits for itself"
    message = f"the nodes wait for each other: {' -> '.join(ids)}"
    implicit = next((node["id"] for node in nodes if "depends_on" not in node), None)
    if implicit is None:
        return message
    what = "the nodes that it reads" if is_parallel else "the node above it; depends_on: [] would not"
    return f"{message} ({implicit} has no depends_on, so it waits for {what})"
