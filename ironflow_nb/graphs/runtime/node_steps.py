"""The steps that nodes run as: what is recorded of a node as its arguments, and what its body does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import CodePart, TrackedCode
from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.retry import NEVER
from ironflow_nb.errors import AssertionsFailed, DefinitionError, FlowNotDefined, NodeFailed, NotGranted
from ironflow_nb.execution import (
    DEFAULTS,
    REGISTRY,
    Parameters,
    RunContext,
    StepOptions,
    StepSpec,
    closure_of,
    durable_calls,
)
from ironflow_nb.graphs.compiled_graph import Assertion, Block, GraphNode, NodeWork, PythonCall, blocks_of
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.compiler.compiler_findings import format_path
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.language.data import coerce, coerce_deep, is_true, text_encoder
from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.patterns import has_match
from ironflow_nb.graphs.language.templates import Template, fill, template_text
from ironflow_nb.graphs.runtime.node_context import FreshCalls, WorkContext
from ironflow_nb.graphs.runtime.searched_storage import SearchedStorage
from ironflow_nb.graphs.runtime.time_limits import awaited, bounded
from ironflow_nb.graphs.secrets import Secrets


@dataclass(frozen=True)
class SecretOption:
    """An option with a secret in it: its text, and what else it is made of. Its value is made inside of the step."""

    text: str
    sees: dict[str, Any]

    @classmethod
    def of(cls, template: Template, sees: dict[str, Any]) -> SecretOption:
        """Return the option, as it is recorded, with what makes its value here."""
        sealed = cls(template_text(template), sees)
        object.__setattr__(sealed, "_template", template)  # no field: neither identity nor record
        return sealed

    @property
    def template(self) -> Template:
        """What makes the value."""
        return self._template  # type: ignore[attr-defined, no-any-return]


class OptionParameters(Parameters):
    """The options of a node as arguments by name, whatever they are called, and what its function closes over."""

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

Perform: TypeAlias = Callable[[dict[str, Any]], Any]
"""Does the work of a node with its options."""


class KindCode:
    """The code of a node whose work is in this package: its kind and that kind's version, and nothing of the user's."""

    def __init__(self, name: str, version: int) -> None:
        source = f"{name} {version}"
        digest = digest_bytes(f"kind {source}".encode())
        self._tracked = TrackedCode(digest, (CodePart(name, "declared", digest, source),), ())

    def current(self) -> TrackedCode:
        """See `Code`."""
        return self._tracked


@dataclass(frozen=True)
class PythonFunction:
    """A function of Python that nodes may call, undecorated, with the options of its step, if it is one."""

    plain: Callable[..., Any]
    options: StepOptions = DEFAULTS


class NodeSteps:
    """What the nodes of one graph work with, the same in all its runs."""

    def __init__(
        self,
        graph: str,
        *,
        context: Callable[[GraphNode], WorkContext],
        secrets: Secrets,
        python: Callable[[str], PythonFunction | None],
        mocks: Mapping[str, Any] | None = None,
    ) -> None:
        self.graph = graph
        self.secrets = secrets
        self.mocks = mocks or {}
        self._context = context
        self._python = python
        self._specs: dict[str, tuple[PythonFunction | None, StepSpec]] = {}
        self._functions: dict[tuple[int, int], tuple[PythonFunction, OptionParameters, Tracker]] = {}

    def spec(self, node: GraphNode) -> StepSpec:
        """Return the step that the node runs as.

        Raises:
            FlowNotDefined: it calls a function of Python that is not known here.
        """
        function = self._function(node)
        known = self._specs.get(node.id)
        if known is None or known[0] != function:
            known = function, self._made(node, function)
            self._specs[node.id] = known
        return known[1]

    def hide_secrets(self, context: RunContext) -> None:
        """Let everything that the run stores be searched for the secrets, those too that no node of it has used yet."""
        durable_calls.encode_with(context, lambda storage: SearchedStorage.around(storage, self.secrets))
        self.secrets.look_up_all()

    def require_functions(self, block: Block) -> None:
        """See that every function of Python that nodes of the block call is known here.

        Raises:
            FlowNotDefined: one is not.
        """
        for node in block.nodes:
            self._function(node)
            for inside in blocks_of(node):
                self.require_functions(inside)

    def define_steps(self, block: Block) -> None:
        """See that every node of the block is known as a step by its name, as far as its function is there."""
        for node in block.nodes:
            with suppress(FlowNotDefined, NotGranted, DefinitionError):
                self.spec(node)
            for inside in blocks_of(node):
                self.define_steps(inside)

    def failing_spec(self, node: GraphNode, error: Exception) -> StepSpec:
        """Return the same step with a body that only fails: for what can't be asked of the real one."""

        def body(**_options: Any) -> Any:
            __tracebackhide__ = True
            raise error

        made = self.spec(node)
        return StepSpec(
            _named(body, made.name),
            name=made.name,
            code=made.code_source,
            parameters=made.parameters,
            variant="what can't be asked for",
        )

    def _function(self, node: GraphNode) -> PythonFunction | None:
        """Return the function of the user that does the work, as it is now."""
        if node.id in self.mocks:
            return None
        match node.task:
            case NodeWork(kind=kind):
                return None if kind.function is None else PythonFunction(kind.function)
            case PythonCall(function=name):
                found = self._python(name)
                if found is None:
                    raise FlowNotDefined(
                        f"node {node.id} calls {name}, which is not known here: define a step or function of that "
                        f"name in the notebook, or give it: iron.Graph.from_yaml(..., functions={{{name!r}: ...}})",
                        name=name,
                    )
                return found
            case _:
                return None

    def _made(self, node: GraphNode, function: PythonFunction | None) -> StepSpec:
        name = f"{self.graph}.{node.id}"
        perform = self._mocked(node) if node.id in self.mocks else self._performing(node, function)
        options = StepOptions(retries=node.retry, once=node.once, cache=node.cache)
        parameters = PARAMETERS
        code: KindCode | Tracker
        if function is None:
            code = KindCode(*_kind(node))
        else:
            parameters, code = self._shared(function)
            options = _merged(options, function.options)
        is_async = function is not None and inspect.iscoroutinefunction(function.plain)
        body = self._async_body(node, perform) if is_async else self._body(node, perform)
        made = StepSpec(_named(body, name), name=name, options=options, code=code, parameters=parameters)
        if not self.mocks:
            REGISTRY.define_step(made)  # for plans
        return made

    def _shared(self, function: PythonFunction) -> tuple[OptionParameters, Tracker]:
        """Return what all nodes that call the function have alike."""
        key = id(function.plain), id(function.options)
        found = self._functions.get(key)
        if found is None:
            tracker = Tracker(function.plain, tuple(function.options.depends))
            found = self._functions[key] = function, OptionParameters(function.plain), tracker
        return found[1:]

    # -- bodies --------------------------------------------------------------------------------------------------

    def _body(self, node: GraphNode, perform: Perform) -> Callable[..., Any]:
        timeout_s = node.timeout_s

        def body(**options: Any) -> Any:
            __tracebackhide__ = True
            given = self._revealed(options)
            return perform(given) if timeout_s is None else bounded(node, partial(perform, given), timeout_s)

        return body

    def _async_body(self, node: GraphNode, perform: Perform) -> Callable[..., Any]:
        async def body(**options: Any) -> Any:
            __tracebackhide__ = True
            return await awaited(node, perform(self._revealed(options)))

        return body

    def _performing(self, node: GraphNode, function: PythonFunction | None) -> Perform:
        match node.task:
            case NodeWork(kind=kind, is_checked=is_checked):
                return _performing_kind(node, kind, self._context(node), is_checked=is_checked)
            case PythonCall():
                assert function is not None
                return partial(_call_python, function.plain)
            case Assertion():
                return partial(_assert, node)
            case _:
                return _decides_only

    def _mocked(self, node: GraphNode) -> Perform:
        mock = self.mocks[node.id]

        def perform(options: dict[str, Any]) -> Any:
            __tracebackhide__ = True
            if isinstance(mock, BaseException):
                raise mock
            if callable(mock):
                given = options["with"] if isinstance(node.task, PythonCall) else options
                return mock(**given) if isinstance(given, dict) else mock(given)
            return mock

        return perform

    # -- secrets -------------------------------------------------------------------------------------------------

    def _revealed(self, value: Any) -> Any:
        match value:
            case SecretOption():
                context: dict[str, Any] = {**value.sees, "secrets": _SecretView(self.secrets)}
                recorded = FreshCalls(value.sees)
                made = fill(value.template, lambda expression: evaluate(expression, context, recorded))
                self.secrets.add_derived(made, value.text, value.sees)
                return made
            case dict():
                return {key: self._revealed(each) for key, each in value.items()}
            case list():
                return [self._revealed(each) for each in value]
            case _:
                return value


class _SecretView(dict[str, str]):
    """Secrets by name, each looked up when it is asked for."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __getitem__(self, name: str) -> str:
        return self._secrets.value(name)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__qualname__ = name
    return function


def _merged(node: StepOptions, step: StepOptions) -> StepOptions:
    """Return the options of a node, and where it says nothing those of the step that it calls."""
    return replace(
        node,
        retries=step.retries if node.retries is NEVER else node.retries,
        once=node.once or step.once,
        on_change=step.on_change,
        cache=step.cache if node.cache is None else node.cache,
    )


def _decides_only(_options: dict[str, Any]) -> Any:
    raise AssertionError("a node that decides has no body")


def _kind(node: GraphNode) -> tuple[str, int]:
    match node.task:
        case NodeWork(kind=kind):
            return kind.name, kind.version
        case task:
            return type(task).__name__.lower(), 1


def _performing_kind(node: GraphNode, kind: Kind, context: WorkContext, *, is_checked: bool) -> Perform:
    def perform(options: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        return kind.perform(options if is_checked else _checked(node, kind, options), context)

    return perform


def _checked(node: GraphNode, kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    """Check options whose expressions are filled in.

    Raises:
        NodeFailed: they do not fit the schema of the kind.
    """
    __tracebackhide__ = True
    found = _unfit(kind, options)
    if found:  # an array for a list, for instance
        options = {name: coerce_deep(each) for name, each in options.items()}
        found = _unfit(kind, options)
    if found:
        told = f"{node.id}: the options of {kind.name} are wrong: {'; '.join(found)}"
        raise NodeFailed(told, node=node.id, is_retryable=False)
    return options


def _unfit(kind: Kind, options: dict[str, Any]) -> list[str]:
    found = schema_check.problems(kind.schema, options, allows_expressions=False)
    return [f"{format_path(path)}: {message}" if path else message for path, message in found]


def _call_python(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    given = options["with"]
    match given:
        case None:
            return function()
        case dict():
            return function(**given)
        case list():
            return function(*given)
        case _:
            return function(given)


def _assert(node: GraphNode, options: dict[str, Any]) -> dict[str, Any]:
    __tracebackhide__ = True
    checks = options["checks"]
    wrong = [text for check in checks if (text := _mismatch(check)) is not None]
    if wrong:
        lines = "\n".join(f"  {text}" for text in wrong)
        raise AssertionsFailed(f"{node.id}: {len(wrong)} of {len(checks)} checks failed:\n{lines}", node=node.id)
    return {"n_checks": len(checks)}


def _mismatch(check: dict[str, Any]) -> str | None:
    message = check["message"]
    match check:
        case {"equals": [left, right]}:
            is_held, said = _is_equal(left, right), f"{_shown(left)} is not {_shown(right)}"
        case {"not_equals": [left, right]}:
            is_held, said = not _is_equal(left, right), f"{_shown(left)} is what it is not to be"
        case {"matches": [text, pattern]}:
            text = coerce(text)
            is_held = isinstance(text, str) and has_match(str(pattern), text)
            said = f"{_shown(text)} does not match {_shown(pattern)}"
        case {"holds": value}:
            is_held, said = _held(value, check["text"])
        case _:
            raise AssertionError(check)
    return None if is_held else f"{message}: {said[:500]}" if message else said[:500]


def _held(value: Any, text: str) -> tuple[bool, str]:
    try:
        return is_true(value), f"{text} is {_shown(value)}, not true"
    except ValueError as error:
        return False, f"{text} {error}"


def _shown(value: Any) -> str:
    """Return the value as JSON, or as Python writes what JSON does not have."""
    try:
        return text_encoder().encode(value).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)


def _is_equal(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1 is 1.0."""
    left, right = coerce(left), coerce(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_equal(each, right[key]) for key, each in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_is_equal, left, right))
    return bool(left == right)
