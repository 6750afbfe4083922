"""The steps that the nodes of one graph run as: their recorded arguments, the code that identifies them, their body.

An option with a secret is recorded as its text and the other values in it. The body makes its value.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import CodePart, PartKind, TrackedCode
from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.retry import NEVER
from ironflow_nb.errors import DefinitionError, FlowNotDefined, NodeTimeout, NotGranted
from ironflow_nb.execution import REGISTRY, SCOPE, RunContext, StepOptions, StepSpec, Undo, durable_calls
from ironflow_nb.graphs.compiled_graph import Assertion, Block, CompiledGraph, GraphNode, NodeWork, PythonCall, nodes_in
from ironflow_nb.graphs.grants import Grants, UrlOrigin, matches_host
from ironflow_nb.graphs.language.data import as_data
from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.templates import Literal, Template, expressions_of, fill, template_text
from ironflow_nb.graphs.runtime.node_bodies import NodeBody, call_mock, call_python, check_assertions, kind_body
from ironflow_nb.graphs.runtime.node_environment import (
    NOW,
    PARAMETERS,
    UUID_SEED,
    FreshCalls,
    Functions,
    OptionParameters,
    PythonFunction,
    WorkContext,
    find_function,
    secret_prompt,
)
from ironflow_nb.graphs.runtime.searched_storage import SearchedStorage
from ironflow_nb.graphs.secrets import Secrets

KIND_GRACE_S: Final = 5.0
"""The time after its limit that a kind has to end its work itself, with a better message, before it is abandoned.

A program that does not end by SIGTERM is killed after two seconds.
"""


@dataclass(frozen=True)
class SecretOption:
    """An option with a secret in it: its text and the other values that it is made of. The body makes its value."""

    text: str
    sees: dict[str, Any]

    @classmethod
    def of(cls, template: Template, sees: dict[str, Any]) -> SecretOption:
        """Return the option as it is recorded, with the template that makes its value in this process."""
        option = cls(template_text(template), sees)
        object.__setattr__(option, "_template", template)  # no field: neither identity nor record have it
        return option

    @property
    def template(self) -> Template:
        """The template that makes the value."""
        return self._template  # type: ignore[attr-defined, no-any-return]


class KindCode:
    """The code of a node whose work is in this package: its kind and the version of the kind."""

    def __init__(self, name: str, version: int) -> None:
        source = f"{name} {version}"
        digest = digest_bytes(f"kind {source}".encode())
        self._tracked = TrackedCode(digest, (CodePart(name, PartKind.DECLARED, digest, source),), ())

    def current(self) -> TrackedCode:
        """See `Code`."""
        return self._tracked


class NodeSteps:
    """The steps of the nodes of one graph, with its secrets, functions and mocks; all its runs share them."""

    def __init__(
        self, definition: CompiledGraph, grants: Grants, functions: Functions, *, mocks: Mapping[str, Any] | None = None
    ) -> None:
        self.graph = definition.name
        self.secrets = Secrets(definition.secrets, grants, ask=secret_prompt())
        self.mocks = mocks or {}
        self._auths = definition.auths
        self._grants = grants
        self._functions = functions
        self._specs: dict[str, tuple[PythonFunction | None, StepSpec]] = {}
        self._shared: dict[tuple[int, int], tuple[PythonFunction, OptionParameters, Tracker]] = {}

    def spec(self, node: GraphNode) -> StepSpec:
        """Return the step that the node runs as. After its function was defined again, there is a new one.

        Raises:
            FlowNotDefined: the node calls a function of Python that is not known here.
        """
        function = self._function(node)
        known = self._specs.get(node.id)
        if known is None or known[0] != function:
            known = function, self._make_spec(node, function)
            self._specs[node.id] = known
        return known[1]

    def undone_with(self, spec: StepSpec, node: GraphNode, frame: Mapping[str, Any]) -> StepSpec:
        """Return the step of the node in that frame, which the step of another node undoes."""
        assert node.compensate is not None
        names = {name for each in expressions_of(_options_of(node.compensate)) for name in each.names}
        sees = {name: frame[name] for name in sorted(names - {"secrets", node.id})}
        other = copy.copy(spec)
        other.compensate = Undo(self._undo_spec(node.compensate), _SeenByUndo(node.id, sees))
        return other

    def _undo_spec(self, node: GraphNode) -> StepSpec:
        """Return the step of a node that undoes another one. Its options are made when it is performed."""
        spec = copy.copy(self.spec(node))
        perform, template = spec.function, _options_of(node)

        def undo(sees: dict[str, Any]) -> Any:
            __tracebackhide__ = True
            scope = SCOPE.get()
            assert scope is not None
            self.hide_secrets(scope)  # the run may be that of a parent, or one that goes on with its undos alone
            now = scope.access.instant(scope.access.clock.now())
            seeded = {**sees, NOW: now, UUID_SEED: f"{scope.run_id} {scope.step}"}
            calls = FreshCalls(seeded)
            options = fill(template, lambda expression: evaluate(expression, sees, calls), partial(_sealed, seeded))
            return perform(**({"with": options} if isinstance(node.task, PythonCall) else options))

        async def undo_async(sees: dict[str, Any]) -> Any:
            return await undo(sees)

        spec.function = undo_async if spec.is_async else undo
        REGISTRY.registered["undo"][spec.name] = spec
        return spec

    def is_mocked(self, node: GraphNode) -> bool:
        """Return True if a test gives the output of the node."""
        return node.id in self.mocks

    def hide_secrets(self, context: RunContext) -> None:
        """Search everything that the run stores for the secrets, also for those that no node of it has used yet."""
        durable_calls.encode_with(context, lambda storage: SearchedStorage.around(storage, self.secrets))
        self.secrets.look_up_all()

    def require_functions(self, block: Block) -> None:
        """Check that every function of Python that nodes of the block call is known here.

        Raises:
            FlowNotDefined: one is not.
        """
        for node in nodes_in(block):
            self._function(node)
            if node.compensate is not None:
                self._function(node.compensate)

    def define_undos(self, block: Block) -> None:
        """Register what undoes nodes of the block, for a process that goes on with a compensation.

        Raises:
            FlowNotDefined: a function of Python that does so is not known here.
        """
        for node in nodes_in(block):
            if node.compensate is not None:
                self._undo_spec(node.compensate)

    def define_steps(self, block: Block) -> None:
        """Register the steps of the block, for plans. A node whose function is not known here is left out."""
        for node in nodes_in(block):
            with suppress(FlowNotDefined, NotGranted, DefinitionError):
                self.spec(node)

    def failing_spec(self, node: GraphNode, error: Exception) -> StepSpec:
        """Return the step of the node with a body that raises the error: it records a node that could not be called."""

        def body(**_options: Any) -> Any:
            __tracebackhide__ = True
            raise error

        spec = self.spec(node)
        return StepSpec(
            _with_qualified_name(body, spec.name),
            name=spec.name,
            code=spec.code_source,
            parameters=spec.parameters,
            variant="what can't be asked for",
        )

    # -- specs ---------------------------------------------------------------------------------------------------

    def _function(self, node: GraphNode) -> PythonFunction | None:
        """Return the user's function that does the work, as it is defined now."""
        if node.id in self.mocks:
            return None
        match node.task:
            case NodeWork(kind=kind):
                return None if kind.function is None else PythonFunction(kind.function)
            case PythonCall(function=name):
                found = find_function(name, self._functions, self._grants)
                if found is None:
                    raise FlowNotDefined(
                        f"node {node.id} calls {name}, which is not known here: define a step or function of that "
                        f"name in the notebook, or give it: iron.Graph.from_yaml(..., functions={{{name!r}: ...}})",
                        name=name,
                    )
                return found
            case _:
                return None

    def _make_spec(self, node: GraphNode, function: PythonFunction | None) -> StepSpec:
        name = f"{self.graph}.{node.id}"
        options = StepOptions(
            retries=node.retry,
            once=node.once,
            cache=node.cache,
            timeout_s=node.timeout_s,
            deadline_s=node.deadline_s,
            overlap=node.overlap,
            breaker=node.breaker,
            lane=node.lane,
        )
        parameters = PARAMETERS
        code: KindCode | Tracker
        if function is None:
            code = KindCode(*_kind_and_version(node))
        else:
            parameters, code = self._parameters_and_code(function)
            options = _merged_options(options, function.options)
        is_async = function is not None and inspect.iscoroutinefunction(function.plain)
        body = (self._async_body if is_async else self._body)(self._node_body(node, function))
        spec = StepSpec(_with_qualified_name(body, name), name=name, options=options, code=code, parameters=parameters)
        spec.timeout_error = partial(NodeTimeout, node=node.id)
        spec.grace_s = KIND_GRACE_S if isinstance(node.task, NodeWork) and function is None else 0.0
        if not self.mocks:
            REGISTRY.define_step(spec)  # for plans
        return spec

    def _parameters_and_code(self, function: PythonFunction) -> tuple[OptionParameters, Tracker]:
        """Return the parameters and the tracker of the function, which all nodes that call it share."""
        key = id(function.plain), id(function.options)
        found = self._shared.get(key)
        if found is None:
            tracker = Tracker(function.plain, tuple(function.options.depends))
            # The function is kept too: its id stays its own as long as the entry is there.
            found = self._shared[key] = function, OptionParameters(function.plain), tracker
        return found[1:]

    # -- bodies --------------------------------------------------------------------------------------------------

    def _body(self, perform: NodeBody) -> Callable[..., Any]:
        def body(**options: Any) -> Any:
            __tracebackhide__ = True
            return perform(self._revealed(options))

        return body

    def _async_body(self, perform: NodeBody) -> Callable[..., Any]:
        async def body(**options: Any) -> Any:
            __tracebackhide__ = True
            return await perform(self._revealed(options))

        return body

    def _node_body(self, node: GraphNode, function: PythonFunction | None) -> NodeBody:
        if node.id in self.mocks:
            return partial(call_mock, node, self.mocks[node.id])
        match node.task:
            case NodeWork(kind=kind, is_checked=is_checked):
                return kind_body(node, kind, self._context(node), is_checked=is_checked)
            case PythonCall():
                assert function is not None
                return partial(call_python, function.plain)
            case Assertion():
                return partial(check_assertions, node)
            case _:
                return _has_no_body

    def _context(self, node: GraphNode) -> WorkContext:
        return WorkContext(
            node=node.id,
            grants=self._grants,
            clock=REGISTRY.engine().clock,
            secrets=self.secrets,
            functions=self._functions,
            retry=node.retry_options,
            timeout_s=node.timeout_s,
            auth=self._auth,
        )

    def _auth(self, origin: UrlOrigin) -> Mapping[str, Any] | None:
        """Return the credential of the graph for the host; no record has it, so another one makes no node run again."""
        found = next((each for each in self._auths if matches_host(each.host, origin)), None)
        if found is None:
            return None
        sees = {NOW: REGISTRY.engine().access.instant(0), UUID_SEED: found.name}
        calls = FreshCalls(sees)
        sealed = fill(found.template, lambda expression: evaluate(expression, {}, calls), partial(_sealed, sees))
        made: Mapping[str, Any] = self._revealed(sealed)
        return made

    def _revealed(self, value: Any) -> Any:
        """Return options with the values of those that have secrets."""
        match value:
            case SecretOption():
                context: dict[str, Any] = {**value.sees, "secrets": _SecretView(self.secrets)}
                calls = FreshCalls(value.sees)
                made = fill(value.template, lambda expression: evaluate(expression, context, calls))
                self.secrets.add_derived(made, value.text, value.sees)
                return made
            case dict():
                return {key: self._revealed(each) for key, each in value.items()}
            case list():
                return [self._revealed(each) for each in value]
            case _:
                return value


class _SeenByUndo:
    """What the step that undoes a node gets: what the node saw, and its output."""

    def __init__(self, node: str, sees: dict[str, Any]) -> None:
        self._node = node
        self._sees = sees

    def bind(self, arguments: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """See `BindsUndo`."""
        return {"sees": {**self._sees, self._node: as_data(result)}}


def _options_of(node: GraphNode) -> Template:
    """Return the template of what an undo does."""
    match node.task:
        case NodeWork(options=options) | PythonCall(arguments=options):
            return options
        case _:
            return Literal({})


def _sealed(sees: dict[str, Any], text: Template) -> SecretOption | None:
    """Return the option of an undo that stands for a text with a secret; its body makes the value."""
    if not any("secrets" in each.names for each in expressions_of(text)):
        return None
    source = template_text(text)  # or else two options would have one uuid
    return SecretOption.of(text, {**sees, UUID_SEED: f"{sees[UUID_SEED]} {source}"})


class _SecretView(dict[str, str]):
    """Secrets by name. Each is looked up when an expression reads it."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __getitem__(self, name: str) -> str:
        return self._secrets.value(name)


def _with_qualified_name(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__qualname__ = name
    return function


def _merged_options(node: StepOptions, step: StepOptions) -> StepOptions:
    """Return the options of a node. Those that it leaves out come from the step that it calls."""
    return replace(
        node,
        retries=step.retries if node.retries is NEVER else node.retries,
        once=node.once or step.once,
        on_change=step.on_change,
        cache=step.cache if node.cache is None else node.cache,
        timeout_s=step.timeout_s if node.timeout_s is None else node.timeout_s,
        deadline_s=step.deadline_s if node.deadline_s is None else node.deadline_s,
        overlap=node.overlap or step.overlap,
        breaker=step.breaker if node.breaker is None else node.breaker,
        lane=step.lane if node.lane is None else node.lane,
    )


def _has_no_body(_options: dict[str, Any]) -> Any:
    raise AssertionError("a node that decides has no body")


def _kind_and_version(node: GraphNode) -> tuple[str, int]:
    match node.task:
        case NodeWork(kind=kind):
            return kind.name, kind.version
        case task:
            return type(task).__name__.lower(), 1
