"""Graphs and flows that a graph runs as children."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from ironflow_nb.errors import FlowNotDefined, NodeFailed
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.scope import SCOPE, Scope
from ironflow_nb.execution.seams import THREAD_PREFIX
from ironflow_nb.execution.session import Session
from ironflow_nb.execution.spec import StepOptions, StepSpec
from ironflow_nb.graphs.definition import Node
from ironflow_nb.graphs.nodework import PARAMETERS, KindCode
from ironflow_nb.handles.launching import Launchable

MOST_LEVELS: Final = 16
"""So deep may children have children: a graph that calls itself without end is stopped there."""

_LEVEL: Final[ContextVar[int]] = ContextVar("ironflow_graph_level", default=0)

Ended = Callable[[Any, BaseException | None], None]


class ChildCall:
    """One call of a child, here or on a thread of its own."""

    def __init__(self, node: Node, name: Any, given: Any, graph: str) -> None:
        self._node = node
        self._name = name
        self._given = given
        options = StepOptions(retries=node.retry, once=node.once)
        code = KindCode("workflow", 1)
        name_of_step = f"{graph}.{node.id}"
        self._spec = StepSpec(_performs_nothing, name=name_of_step, options=options, code=code, parameters=PARAMETERS)
        self.is_done = False

    def call(self, scope: Scope) -> Any:
        """Run the child in this thread, as a child of the run that the scope is of."""
        __tracebackhide__ = True
        target = self._target()
        level = _LEVEL.get() + 1
        if level > MOST_LEVELS:
            error = NodeFailed(
                f"{self._node.id}: children have children {MOST_LEVELS} levels deep by now; a graph that runs itself "
                "needs a condition that ends it",
                node=self._node.id,
            )
            error.is_retryable = False
            raise error
        token = _LEVEL.set(level)
        try:
            args, kwargs = _arguments(target, self._given)
            return target.call_as_child(self._spec, scope, args, kwargs, recorded={"input": self._given})
        finally:
            _LEVEL.reset(token)

    def begin(self, scope: Scope, ended: Ended) -> None:
        """Run the child on a thread of its own; `ended` is told there what came of it."""
        session = scope.session
        context = contextvars.copy_context()
        context.run(SCOPE.set, scope)
        session.children.append(self)

        def run() -> None:
            value, error = None, None
            try:
                value = self.call(scope)
            except BaseException as raised:  # noqa: BLE001 -- whatever it is, the graph sees to it
                error = raised
            self._leave(session)
            ended(value, error)

        session.ledger.threads.spawn(f"{THREAD_PREFIX}branch", lambda: context.run(run))

    def _leave(self, session: Session) -> None:
        with session.lock:
            self.is_done = True
            if self in session.children:
                session.children.remove(self)

    def is_finished(self) -> bool:
        """See `Child`."""
        return self.is_done

    def unobserved_error(self) -> BaseException | None:
        """See `Child`: the graph sees to it."""
        return None

    def _target(self) -> Launchable:
        found = HOME.find("graph", str(self._name)) or HOME.find("flow", str(self._name))
        if isinstance(found, Launchable):
            return found
        known = sorted(each.name for kind in ("graph", "flow") for each in HOME.definitions(kind))
        raise FlowNotDefined(
            f"node {self._node.id} runs {self._name!r} as its child, and no graph or flow of that name is defined here "
            f"(there are: {', '.join(known) or 'none'})",
            name=self._name,
        )


def _performs_nothing(**_options: Any) -> None:
    raise AssertionError("a child is run as a run")


def _arguments(target: Launchable, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the call that an input means: a mapping is arguments by name, a list is arguments, all else is one."""
    match given:
        case None:
            return (), {}
        case dict() if target.kind == "flow":
            return (), given
        case list() if target.kind == "flow":
            return tuple(given), {}
        case _:
            return (given,), {}
