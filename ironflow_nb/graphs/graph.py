"""Graphs: workflows as data, read from a text or built in Python."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import TrackedCode
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import Planned
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError, UntrustedRun
from ironflow_nb.execution import REGISTRY, SCOPE, Engine, FlowCall, RunPolicy, RunRequest, RunStorage, StepSpec
from ironflow_nb.graphs.catalog import kinds, registered
from ironflow_nb.graphs.compiled_graph import CompiledGraph
from ironflow_nb.graphs.compiler.compiler import compile_graph, valid_grants
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding, DataPath, invalid_graph
from ironflow_nb.graphs.compiler.graph_source import (
    GraphSource,
    keys_as_data,
    read_source,
    read_yaml,
    source_from_data,
    with_value,
    write_yaml,
)
from ironflow_nb.graphs.compiler.json_schema import GRAPH_NAME, graph_schema
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.graph_diagram import GraphDiagramMixin
from ironflow_nb.graphs.kinds import COMMON_KEYS, Kind
from ironflow_nb.graphs.mock_run import MockRun, check_mocks, run_with_mocks, without_retry_delays
from ironflow_nb.graphs.readers.graph_files import GraphFilesMixin
from ironflow_nb.graphs.runtime.child_graphs import ChildCode, check_inputs_of_children, say_doubts, tracked_graph
from ironflow_nb.graphs.runtime.interpreter import run_graph
from ironflow_nb.graphs.runtime.node_environment import PARAMETERS, Functions, input_of
from ironflow_nb.graphs.runtime.node_steps import NodeSteps
from ironflow_nb.graphs.runtime.searched_storage import SearchedStorage
from ironflow_nb.graphs.stored_graph import load_graph, plan_after_edit, stored_id, text_to_store
from ironflow_nb.handles.explanation import VolatileArguments
from ironflow_nb.handles.run import Run, get_run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.journal.ports import Select, StoredDefinition

if TYPE_CHECKING:
    from ironflow_nb.history.pictured_frame import Plan

_INTERNAL: Final = frozenset({
    "define_steps", "define_undos", "definition", "definition_id", "diagram_model", "grants", "refuse_names",
    "refuse_secrets", "replanned", "searched", "tracked",
})  # fmt: skip
"""Attributes of a graph that the package uses; completion does not offer them."""


class Graph(GraphDiagramMixin, GraphFilesMixin, Runnable):
    """A flow of nodes that pass data by JMESPath: ``iron.Graph("triage")``, then `node` for each of them.

    `data` is the definition as plain data.
    """

    __ironflow_definition__: Final = "graph"

    def __init__(
        self,
        name: str,
        *,
        allow: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        auth: Mapping[str, Mapping[str, Any]] | None = None,
        concurrency: int | None = None,
        functions: Functions | None = None,
        input: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a graph without nodes.

        Args:
            name: the name of its runs.
            allow: its grants, as in the text of a graph; by default everything.
            secrets: the source of each secret by name: ``{"env": ...}``, ``{"keyring": ...}`` or ``{"prompt": ...}``.
            auth: a credential for each of some hosts, by name: ``{"host": ..., "bearer": "{{ secrets.token }}"}``.
            concurrency: how many nodes run at once; 16 by default.
            functions: those of ``python`` nodes by name; other names mean steps and functions of the notebook.
            input: the declared inputs by name: a type, or ``{"type": "list", "default": []}``.

        Raises:
            DefinitionError: the name is not allowed.
        """
        if not isinstance(name, str) or re.fullmatch(GRAPH_NAME, name) is None:
            raise DefinitionError(
                f"a graph has a name of letters, digits, underscores, dots and dashes, not {name!r}: "
                'iron.Graph("triage"); read an existing graph with iron.Graph.from_yaml(text or path) or '
                "iron.Graph.from_dict(data)"
            )
        given = {"input": input, "secrets": secrets, "auth": auth, "concurrency": concurrency}
        data: dict[str, Any] = {"graph": name, **{key: each for key, each in given.items() if each is not None}}
        self._set(
            source_from_data(data | {"allow": True if allow is None else allow, "nodes": []}), functions or {}, None
        )
        REGISTRY.define(self)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INTERNAL]

    def _set(self, source: GraphSource, functions: Functions, grants: Grants | None) -> None:
        self._source = source
        self._functions = dict(functions)
        self._grants = grants
        self._foreign: UntrustedRun | None = None
        self._compiled: tuple[CompiledGraph, list[CompilerFinding]] | None = None
        self._node_steps: NodeSteps | None = None
        self._written: str | None = None
        self._registered: dict[str, Kind] = {}
        self.policy = RunPolicy()
        name = self.data.get("graph")
        self.name = name if isinstance(name, str) else "?"

    @classmethod
    def from_yaml(
        cls, text_or_path: str | FilePath, *, allow: Mapping[str, Any] | None = None, functions: Functions | None = None
    ) -> Graph:
        """Read a graph from a YAML text or from a file. Nothing runs; `validate` reports errors of the graph.

        Args:
            text_or_path: a text with several lines, or with a colon followed by a blank, is YAML; others are paths.
            allow: bounds of the graph's own ``allow``: only what both grant is granted.
            functions: those of ``python`` nodes by name; other names mean steps and functions of the notebook.

        Raises:
            GraphInvalid: the text is not valid YAML, or too large.
            FileNotFoundError: the file does not exist.
        """
        graph = cls._from_source(read_source(text_or_path), allow, functions)
        REGISTRY.define(graph)
        return graph

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, allow: Mapping[str, Any] | None = None, functions: Functions | None = None
    ) -> Graph:
        """Make a graph of plain data, for example of JSON; see `from_yaml`.

        Raises:
            GraphInvalid: the data is not a mapping.
        """
        graph = cls._from_source(source_from_data(data), allow, functions)
        REGISTRY.define(graph)
        return graph

    @classmethod
    def _from_source(cls, source: GraphSource, allow: Mapping[str, Any] | None, functions: Functions | None) -> Self:
        graph = cls.__new__(cls)
        grants = None
        if allow is not None:
            own = source.data.get("allow") if isinstance(source.data, Mapping) else None
            grants = valid_grants(own, source.base).within(Grants.of(allow, base=source.base))
        graph._set(source, functions or {}, grants)  # noqa: SLF001 -- its own
        return graph

    @classmethod
    def from_run(cls, run: Run[Any] | str, *, functions: Functions | None = None) -> Graph:
        """Return the graph of a run as the journal stores it: to inspect it, or to continue the run.

        A graph of the same name that is defined in this process stays the one that calls and runs use. A graph that
        another user wrote can be inspected, and does not run before `iron.trust`.

        Raises:
            RunNotFound: the run does not exist.
            FlowNotDefined: the run is not a run of a graph.
        """
        handle = get_run(run) if isinstance(run, str) else run
        engine = REGISTRY.engine()
        with engine.reading() as reader:
            row = reader.runs(Select(run_ids=[handle.id]))[0]
        graph = _load_graph(engine, row, functions)
        if graph._foreign is None and REGISTRY.find(graph.kind, graph.name) is None:  # noqa: SLF001 -- its own
            REGISTRY.define(graph)
        return graph

    # -- building ------------------------------------------------------------------------------------------------

    def node(self, id: str, /, **keys: Any) -> Graph:
        """Add a node and return the graph: ``graph.node("alert", http={...}, retry={"attempts": 3})``.

        The keys are those of the format. Write ``as_``, ``with_``, ``lambda_``, ``assert_`` and ``else_`` for the
        keywords of Python. Nested nodes are mappings with an ``id``. ``python`` also accepts a function. A common
        key, such as ``retry``, that is None is left out.
        """
        given = {key: value for key, value in keys.items() if value is not None or key not in COMMON_KEYS}
        data = keys_as_data(given, self._functions)
        nodes = self.data.get("nodes")
        if not isinstance(nodes, list):
            raise invalid_graph(self.name, self.findings())
        self._change(("nodes", len(nodes)), {"id": id, **data})
        return self

    def output(self, value: Any) -> Graph:
        """Set the output of the graph, a template, and return the graph."""
        self._change(("output",), value)
        return self

    def _change(self, path: DataPath, value: Any) -> None:
        self._source = with_value(self._source, path, value)
        self._compiled = self._node_steps = self._written = None

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The kind of its runs."""
        return RunKind.GRAPH

    @property
    def data(self) -> Mapping[str, Any]:
        """The definition as plain data; empty for a text that is not a mapping."""
        return self._source.data if isinstance(self._source.data, Mapping) else {}

    def findings(self) -> list[CompilerFinding]:
        """Return all errors of the graph, each with its path, and with line and column if it was read from a text."""
        return self._compile()[1]

    def validate(self) -> Graph:
        """Check everything that can be checked before a run, and return the graph.

        Printed lines name what is no error: what is not defined yet, and a text that reads like an expression.

        Raises:
            GraphInvalid: the graph has errors; the message lists all, each with its path and line.
        """
        # Functions of a graph of another user are not looked up.
        say_doubts(self.definition, None if self._foreign is not None else self._steps())
        return self

    def _compile(self) -> tuple[CompiledGraph, list[CompilerFinding]]:
        if self._compiled is None or self._registered != registered():
            self._node_steps, self._registered = None, dict(registered())
            definition, findings = compile_graph(self._source, kinds(), grants=self._grants)
            self._compiled = definition, list(findings.all)
        return self._compiled

    @property
    def definition(self) -> CompiledGraph:
        """The compiled graph.

        Raises:
            GraphInvalid: see `validate`.
        """
        definition, findings = self._compile()
        if findings:
            raise invalid_graph(self.name, findings)
        return definition

    @property
    def grants(self) -> Grants:
        """The grants of the graph."""
        return self._grants or valid_grants(self.data.get("allow"), self._source.base)

    def to_yaml(self) -> str:
        """Return the graph as YAML: the text it was read from, or its data.

        Raises:
            GraphInvalid: its data has a value without a YAML form, such as infinity or an object.
        """
        if self._source.text is not None:
            return self._source.text
        if self._source.findings:
            raise invalid_graph(self.name, self._source.findings)
        if self._written is None:  # each run asks for it, to look for secrets in it and to store it
            self._written = write_yaml(self.data)
        return self._written

    @property
    def definition_id(self) -> Digest:
        """The identity of the definition: the digest of its name and data, so without comments and layout."""
        content = msgspec.json.encode(self.data, order="sorted", enc_hook=repr)
        return digest_bytes(f"graph {self.name}\0".encode() + content)

    def _stored_id(self) -> Digest:
        return stored_id(self.definition_id, self.grants, is_bounded=self._grants is not None)

    def _stored_definition(self) -> StoredDefinition:
        from ironflow_nb.diagram.model import encode_diagram

        return StoredDefinition(
            definition_id=self._stored_id(),
            kind=RunKind.GRAPH,
            name=self.name,
            source=text_to_store(self.to_yaml(), self.grants, is_bounded=self._grants is not None),
            diagram=encode_diagram(self.diagram_model()),
        )

    # -- running -------------------------------------------------------------------------------------------------

    def __call__(self, input: Mapping[str, Any] | None = None, /, **values: Any) -> Any:
        """Run the graph with this input and return its output; a call with the same input continues an unfinished run.

        Give the input as a mapping or by name: ``triage({"id": 7})`` and ``triage(id=7)`` are the same. A call inside a
        flow is a child of that run.

        Raises:
            GraphInvalid, InputInvalid: the graph has errors, or the input does not fit; nothing has run.
            NotAllowedInStep: the graph was called inside a step.
        """
        __tracebackhide__ = True
        args = (self._input(input, values),)
        scope = SCOPE.get()
        if scope is not None and scope.step is None and self.policy.key is None:
            self.refuse_secrets(args[0])
            return self.call_as_child(self._child_spec(), scope, args, {}, recorded={"input": args[0]})
        self._prepare(args[0])
        return self.run_call(args, {})

    def start(self, input: Mapping[str, Any] | None = None, /, *, detach: bool = False, **values: Any) -> Run[Any]:
        """Run the graph in the background, or with `detach` on a worker, and return its `Run` at once; see `Flow`.

        Raises:
            GraphInvalid, InputInvalid: the graph has errors, or the input does not fit; nothing has run.
            NotAllowedInStep: the graph was called inside a step.
        """
        given = self._input(input, values)
        self._prepare(given)
        return self.start_call((given,), {}, detach=detach)

    def plan(self, input: Mapping[str, Any] | None = None, /, **values: Any) -> Plan:
        """Return which recorded steps a call would reuse or run again; see `Flow.plan`."""
        return self.plan_call((self._input(input, values),), {})

    def define_undos(self) -> None:
        """Register what undoes its nodes."""
        self._steps().define_undos(self.definition.block)

    def define_steps(self) -> None:
        """See `PlannedDefinition`."""
        definition, findings = self._compile()
        if not findings:
            self._steps().define_steps(definition.block)

    def replanned(self, engine: Engine, run: RunRow, planned: list[Planned]) -> list[Planned]:
        """See `PlannedDefinition`: adapt the plan to the edits since the run."""
        with engine.reading() as reader:
            stored = reader.definition(run.definition_id)
        if stored is None or stored.definition_id == self._stored_id():
            return planned
        return plan_after_edit(self.name, read_yaml(stored.source).data, self.data, planned)

    def test(
        self, input: Mapping[str, Any] | None = None, /, *, mocks: Mapping[str, Any] | None = None, **values: Any
    ) -> MockRun:
        """Run the graph in memory with mocks and return the result: ``graph.test(id=7, mocks={"alert": {...}})``.

        `mocks` has by node id the output of the node, a function of its options, or an exception. A node that uses
        something outside of the graph (http, shell, files, children) needs a mock. Expressions, control nodes and
        functions of Python run as they are. Retries have no delay. Nothing is written to the journal.

        Raises:
            GraphInvalid: the graph has errors.
            DefinitionError: a node needs a mock and has none, or a mock has no node.
        """
        definition = self.definition
        check_mocks(definition.block, mocks or {})
        without_delays = replace(definition, block=without_retry_delays(definition.block))
        request, made = self.request((input_of(input, values),), {})
        body = functools.partial(run_graph, without_delays, self._make_node_steps(mocks or {}), self.grants)
        return run_with_mocks(replace(request, policy=RunPolicy(fresh=True)), FlowCall(body, made.args, {}))

    @staticmethod
    def schema() -> dict[str, Any]:
        """Return the JSON schema of graphs with all kinds of nodes of this process, for editors."""
        return graph_schema(kinds())

    def request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """See `Runnable`."""
        given = self._input(args[0] if args else None, {})
        definition, steps = self.definition, self._steps()
        request = RunRequest(
            kind=self.kind,
            name=self.name,
            definition_id=self._stored_id(),
            define=self._stored_definition,
            is_text=True,
            arguments={"input": given},
            policy=self.policy,
            define_steps=self.define_steps,
            new_adviser=VolatileArguments,
            call_key=lambda function: function(given),
        )
        body = functools.partial(run_graph, definition, steps, self.grants)
        return request, FlowCall(body, (given,), {})

    def call_by_name(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Runnable`."""
        return (dict(values),), {}

    def recorded_call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Runnable`."""
        return (arguments.get("input"),), {}

    def scheduled_call(
        self, args: Sequence[Any], inputs: Mapping[str, Any] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Startable`."""
        if args:
            raise TypeError(f"graph {self.name} takes one input: inputs={{...}}, not args={args!r}")
        return (self._input(inputs, {}),), {}

    def prepared_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """See `Startable`."""
        self._prepare(args[0])
        return self.request(args, kwargs)

    def refuse_names(self, names: Iterable[str], node: str) -> None:
        """Check the input names that a node passes to the graph as its child; see `GraphInput.refuse_names`."""
        self.definition.inputs.refuse_names(names, self.name, node)

    def refuse_secrets(self, given: Any, what: str = "the input") -> None:
        """Check that input, key and text have no secrets, because the journal stores them without redaction."""
        self._steps().secrets.refuse_in(
            {what: given, "the key": self.policy.key, "the text": self.to_yaml()}, f"graph {self.name}"
        )

    def searched(self, storage: RunStorage) -> RunStorage:
        """Return a storage around that one which also searches for the secrets of the graph."""
        secrets = self._steps().secrets
        secrets.look_up_all()
        return SearchedStorage.around(storage, secrets)

    def _prepare(self, given: Any = None) -> None:
        """Check in the thread of the caller that everything which the run needs is available.

        Raises:
            GraphInvalid, SecretMissing, NotGranted, FlowNotDefined: something is not.
            ValueNotStorable: input, key or text has a secret.
        """
        definition, steps = self.definition, self._steps()
        for name in definition.secrets:
            steps.secrets.require(name)
        self.refuse_secrets(given)
        steps.require_functions(definition.block)
        check_inputs_of_children(definition.block)

    def _input(self, given: Mapping[str, Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the input of a call completed by its defaults.

        Raises:
            InputInvalid: the input does not fit the declaration, or an input that nodes read is missing.
        """
        return self.definition.inputs.with_defaults(input_of(given, values), self.name)

    def _steps(self) -> NodeSteps:
        if self._node_steps is None:
            self._node_steps = self._make_node_steps({})
        return self._node_steps

    def _make_node_steps(self, mocks: Mapping[str, Any]) -> NodeSteps:
        if self._foreign is not None:
            raise self._foreign
        return NodeSteps(self._compile()[0], self.grants, self._functions, mocks=mocks)

    def tracked(self) -> TrackedCode:
        """Return the code identity of the graph: its definition, and the code of its functions and children."""
        return tracked_graph(self.name, self.definition_id, self._steps(), self.definition.block)

    def __ironflow_digest__(self) -> bytes:
        return bytes(self.definition_id)

    def _child_spec(self) -> StepSpec:
        return StepSpec(run_graph, name=self.name, code=ChildCode(self), parameters=PARAMETERS)

    def __repr__(self) -> str:
        nodes = self.data.get("nodes")
        return f"<graph {plain(self.name)}: {len(nodes) if isinstance(nodes, list) else 0} nodes>"


def stored_graph_of_run(engine: Engine, run: RunRow) -> Graph:
    """Return the stored graph of a run, to continue the run.

    Raises:
        FlowNotDefined: the run has none.
        UntrustedRun: another user wrote the graph.
    """
    graph = _load_graph(engine, run, None)
    if graph._foreign is not None:  # noqa: SLF001 -- its own
        raise graph._foreign  # noqa: SLF001
    return graph


def _load_graph(engine: Engine, run: RunRow, functions: Functions | None) -> Graph:
    stored = load_graph(engine, run)
    graph = Graph.__new__(Graph)
    graph._set(stored.source, functions or {}, stored.grants)  # noqa: SLF001 -- its own
    graph._foreign = stored.foreign  # noqa: SLF001
    return graph
