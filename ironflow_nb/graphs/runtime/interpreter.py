"""Running a graph: one thread begins what may begin, waits for what runs, and goes on from there.

A block is at work as an `Activity`: it knows for each of its nodes for how many others it still waits. A node whose
number falls to zero is begun. Nodes that do work are steps of the run. One that is alone is performed in this thread,
as a step that a flow calls; several at once are submitted, and everything that has ended by then is taken in one go, so
that they share a commit. Nodes that only decide begin the blocks inside of them, and end when those have; they are
recorded as a step when they end, with what they decided and what came of it.

All of this happens in the thread of the run: there is no lock, and no order in which threads could spoil anything. From
other threads comes only that a step has ended, through `_ended`, a deque, whose append is atomic.

A node that fails lets everything go on that does not wait for it. Then its block fails, and so do the nodes around it
up to one with a handler; without one, the run. Recorded failures that nothing handled are tried again by the next
continuation of the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ironflow_nb.core.identity import BranchId
from ironflow_nb.errors import ExpressionFailed, NodeFailed
from ironflow_nb.execution import SCOPE, RunContext, Submission, durable_calls
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
    While,
    Workflow,
)
from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import as_data, coerce, describe
from ironflow_nb.graphs.runtime.activity import (
    Activity,
    Done,
    NameFrame,
    can_be_handled,
    described,
    one,
    skip_after_failures,
    skip_nodes,
)
from ironflow_nb.graphs.runtime.child_graphs import ChildCall
from ironflow_nb.graphs.runtime.node_steps import NodeSteps
from ironflow_nb.graphs.runtime.template_values import TemplateValues, as_case


class Interpreter:
    """One continuation of the run of one graph."""

    def __init__(self, definition: CompiledGraph, workshop: NodeSteps, names: Mapping[str, Any]) -> None:
        scope = SCOPE.get()
        assert scope is not None
        assert scope.step is None
        self._definition = definition
        self._workshop = workshop
        self._scope: RunContext = scope
        workshop.hide_secrets(scope)
        self._names = dict(names)
        self._filler = TemplateValues(scope, workshop.graph, has_secrets=workshop.secrets.has_any)
        self._ready: deque[tuple[Activity, int]] = deque()
        self._ended: deque[Callable[[], None]] = deque()
        self._n_running = 0

    def run(self) -> Any:
        """Run the graph from its first node to its output.

        Raises:
            Exception: the failure of a node that nothing handled; of several, an `ExceptionGroup` of them.
        """
        __tracebackhide__ = True
        ended: list[Activity] = []
        frame = NameFrame(self._names, None, self._scope.branch)
        self._open(self._definition.block, frame, ended.append, is_handled=False)
        while not ended:
            while self._ready and self._n_running < self._definition.concurrency:
                self._begin(*self._ready.popleft())
            if self._ended:
                self._ended.popleft()()
            elif not ended:
                assert self._n_running, "a block waits for nothing"
                durable_calls.wait_for(self._scope, lambda: bool(self._ended))
        if ended[0].failures:
            raise one(self._definition.name, ended[0].failures)
        return self._result(ended[0])

    def _result(self, activity: Activity) -> Any:
        output = self._definition.output
        if output is not None:
            return self._filler.filled(output, activity.frame, "output")
        nodes = activity.block.nodes
        return activity.outputs.get(nodes[-1].id) if nodes else None

    # -- blocks --------------------------------------------------------------------------------------------------

    def _open_inside(
        self, activity: Activity, number: int, block: Block, done: Done, frame: NameFrame | None = None
    ) -> None:
        """Begin a block inside of the node."""
        is_handled = activity.is_handled or activity.block.nodes[number].on_error is not None
        self._open(block, frame or activity.frame.inside({}), done, is_handled=is_handled)

    def _open(self, block: Block, frame: NameFrame, done: Done, *, is_handled: bool) -> None:
        activity = Activity(block, frame, done, is_handled=is_handled)
        for number, n_waiting in enumerate(activity.n_waiting):
            if n_waiting == 0:
                self._enqueue(activity, number)
        if not block.nodes:
            self._ended.append(lambda: done(activity))

    def _enqueue(self, activity: Activity, number: int) -> None:
        activity.n_open += 1
        self._ready.append((activity, number))

    def _finish(self, activity: Activity, number: int, output: Any, *, is_skipped: bool = False) -> None:
        """Take the output of a node, and begin what waited for nothing else."""
        name = activity.block.nodes[number].id
        if not is_skipped:
            activity.outputs[name] = output
        activity.frame.put(name, output)
        for waiting in activity.waited_for_by[number]:
            activity.n_waiting[waiting] -= 1
            if activity.n_waiting[waiting] == 0:
                self._enqueue(activity, waiting)
        self._close(activity)

    def _fail(self, activity: Activity, number: int, error: BaseException) -> None:
        """Let the node's handler see to the failure, or let it fail its block."""
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        if not isinstance(error, Exception) or not can_be_handled(error):
            raise error
        if node.on_error is None:
            self._fail_block(activity, number, error)
        elif node.on_error == CONTINUE:
            self._finish(activity, number, {"error": described(node, error)})
        else:
            self._handle(activity, number, node.on_error, error)

    def _fail_block(self, activity: Activity, number: int, error: Exception) -> None:
        """Let the block fail; where nothing around it handles that, the next continuation of the run tries it again."""
        __tracebackhide__ = True
        if not activity.is_handled:
            durable_calls.unobserve(self._scope, error)
        activity.fail(number, error)
        self._close(activity)

    def _handle(self, activity: Activity, number: int, handler: Block, error: Exception) -> None:
        node = activity.block.nodes[number]

        def done(handled: Activity) -> None:
            if handled.failures:
                failure = one(node.id, handled.failures)
                failure.__cause__ = failure.__cause__ or error
                self._fail_block(activity, number, failure)
            else:
                last = handler.nodes[-1].id if handler.nodes else None
                self._finish(activity, number, handled.outputs.get(last) if last is not None else None)

        frame = activity.frame.inside({"error": described(node, error)})
        self._open(handler, frame, done, is_handled=activity.is_handled)

    def _close(self, activity: Activity) -> None:
        activity.n_open -= 1
        if activity.n_open == 0:
            skip_after_failures(self._scope, self._workshop.graph, activity)
            activity.done(activity)

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _begin(self, activity: Activity, number: int) -> None:
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        frame = activity.frame
        try:
            if self._filler.is_true(node.when, frame, f"{node.id}, when"):
                self._perform(activity, number, node)
            else:
                self._skip([node], frame, "when is false")
                self._later(lambda: self._finish(activity, number, None, is_skipped=True))
        except ExpressionFailed as error:
            self._record_failure(activity, number, error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the graph says what it means
            self._fail(activity, number, error)

    def _skip(self, nodes: Iterable[GraphNode], frame: NameFrame, reason: str) -> None:
        skip_nodes(self._scope, self._workshop.graph, nodes, frame.branch, reason)

    def _later(self, go_on: Callable[[], None]) -> None:
        """Go on when this node is done with: what fails from there on is no failure of it."""
        self._ended.append(go_on)

    def _perform(self, activity: Activity, number: int, node: GraphNode) -> None:
        __tracebackhide__ = True
        frame = activity.frame
        if node.id in self._workshop.mocks and not isinstance(node.task, NodeWork | PythonCall):
            self._work(activity, number, {})
            return
        match node.task:
            case NodeWork(options=options):
                self._work(activity, number, self._filler.sealed(node, options, frame))
            case PythonCall(arguments=arguments):
                self._work(activity, number, {"with": self._filler.sealed(node, arguments, frame)})
            case Assertion():
                self._work(activity, number, {"checks": self._filler.checks(node, node.task, frame)})
            case Workflow(target=target, input=given):
                name = self._filler.filled(target, frame, node.id)
                self._child(activity, number, name, self._filler.filled(given, frame, node.id))
            case Condition(test=test, then=then, otherwise=otherwise):
                is_then = self._filler.is_true(test, frame, node.id)
                way, block, other = ("then", then, otherwise) if is_then else ("else", otherwise, then)
                self._skip(other.nodes, frame, f"{node.id} took {way}")
                self._decide(activity, number, way, block)
            case Switch(value=value, cases=cases, default=default):
                chosen = as_case(self._filler.filled(value, frame, node.id), node)
                blocks = dict(cases)
                taken = chosen if chosen in blocks else "default" if default.nodes else None
                block = blocks.get(chosen, default)
                others = [each for each in (*blocks.values(), default) if each is not block]
                reason = f"{node.id} took {'none of its cases' if taken is None else taken}"
                self._skip([each for other in others for each in other.nodes], frame, reason)
                self._decide(activity, number, taken, block)
            case ParallelBlocks():
                self._fan_out(activity, number, node.task)
            case Loop():
                self._loop(activity, number, node.task)
            case While():
                self._repeat(activity, number, node.task)

    # -- work ----------------------------------------------------------------------------------------------------

    def _work(self, activity: Activity, number: int, options: dict[str, Any]) -> None:
        """Perform the node as a step: here if it is alone, else beside the others."""
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        spec = self._workshop.spec(node)
        is_alone = not (self._ready or self._n_running or self._ended) and not spec.is_async and node.timeout_s is None
        if is_alone:
            seen = self._seen(node, durable_calls.call(spec, self._scope.at(activity.frame.branch), (), options))
            self._later(lambda: self._finish(activity, number, seen))
            return
        scope = self._scope.at(activity.frame.branch)
        submission = durable_calls.submit(
            scope, spec, (), options, is_limited=False
        )  # the graph has a limit of its own
        self._n_running += 1

        def take() -> None:
            __tracebackhide__ = True
            self._n_running -= 1
            try:
                value = _read(submission, is_handled=activity.is_handled or node.on_error is not None)
                seen = self._seen(node, value)
            except Exception as error:  # noqa: BLE001
                self._fail(activity, number, error)
            else:
                self._finish(activity, number, seen)

        submission.when_done(lambda: self._ended.append(take))

    def _seen(self, node: GraphNode, value: Any) -> Any:
        """Return the output as expressions take it, where it comes from code of the user."""
        match node.task:
            case NodeWork(kind=kind):
                is_of_user = kind.function is not None or node.id in self._workshop.mocks
            case task:
                is_of_user = isinstance(task, PythonCall | Workflow) or node.id in self._workshop.mocks
        return as_data(value) if is_of_user else value

    def _child(self, activity: Activity, number: int, name: Any, given: Any) -> None:
        node = activity.block.nodes[number]
        child = ChildCall(node, name, given, self._workshop.graph, self._workshop.secrets)
        scope = self._scope.at(activity.frame.branch)
        if not (self._ready or self._n_running or self._ended):
            seen = as_data(child.call(scope))
            self._later(lambda: self._finish(activity, number, seen))
            return
        self._n_running += 1

        def take(value: Any, error: BaseException | None) -> None:
            __tracebackhide__ = True
            self._n_running -= 1
            if error is not None:
                self._fail(activity, number, error)
            else:
                self._finish(activity, number, value)

        durable_calls.run_beside(
            scope,
            lambda: as_data(child.call(scope)),
            lambda value, error: self._ended.append(lambda: take(value, error)),
        )

    def _record_failure(self, activity: Activity, number: int, error: NodeFailed) -> None:
        """Record a node that could not even be asked for, so that it is seen where the run failed."""
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        scope = self._scope.at(activity.frame.branch)
        try:
            spec = self._workshop.failing_spec(node, error)
            durable_calls.call(spec, scope, (), {"failed": str(error)})
        except Exception as raised:  # noqa: BLE001
            self._fail(activity, number, raised)

    # -- decisions -----------------------------------------------------------------------------------------------

    def _decide(self, activity: Activity, number: int, taken: str | None, block: Block) -> None:
        def done(inside: Activity) -> None:
            self._end_control(activity, number, inside, {"taken": taken}, {"taken": taken, **inside.outputs})

        self._open_inside(activity, number, block, done)

    def _end_control(
        self, activity: Activity, number: int, inside: Activity, decided: dict[str, Any], output: Any
    ) -> None:
        if inside.failures:
            self._fail(activity, number, one(activity.block.nodes[number].id, inside.failures))
        else:
            self._note(activity, number, decided, output)

    def _note(self, activity: Activity, number: int, decided: dict[str, Any], output: Any) -> None:
        """Record what was decided and what came of it; it rides with the next commit."""
        try:
            self._record(activity, number, decided, output)
        except Exception as error:  # noqa: BLE001 -- what the nodes inside gave can't be told from others, or stored
            self._fail(activity, number, error)
        else:
            self._finish(activity, number, output)

    def _record(self, activity: Activity, number: int, decided: dict[str, Any], output: Any) -> None:
        spec = self._workshop.spec(activity.block.nodes[number])
        Budget().measure(output)  # each node inside may have given the whole of what the graph has so far
        result = self._scope.access.digester.digest(output).digest
        arguments = {**decided, "result": result.hex()}
        durable_calls.record(self._scope.at(activity.frame.branch), spec, arguments, lambda: output, is_seen=False)

    def _fan_out(self, activity: Activity, number: int, branch: ParallelBlocks) -> None:
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        chosen = [
            choice
            for choice in branch.branches
            if self._filler.is_true(choice.when, activity.frame, f"{node.id}, {choice.name}")
        ]
        for choice in branch.branches:
            if choice not in chosen:
                self._skip(choice.do.nodes, activity.frame, f"when of {choice.name} is false")
        ended: dict[str, Activity] = {}

        def done_with(name: str) -> Done:
            def done(inside: Activity) -> None:
                ended[name] = inside
                if len(ended) == len(chosen):
                    join()

            return done

        def join() -> None:
            failures = [failure for choice in chosen for failure in ended[choice.name].failures]
            if failures:
                self._fail(activity, number, one(node.id, failures))
                return
            names = [choice.name for choice in chosen]
            self._note(activity, number, {"taken": names}, {name: ended[name].outputs for name in names})

        for choice in chosen:
            self._open_inside(activity, number, choice.do, done_with(choice.name))
        if not chosen:
            self._later(join)

    # -- loops ---------------------------------------------------------------------------------------------------

    def _loop(self, activity: Activity, number: int, loop: Loop) -> None:
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        items = coerce(self._filler.filled(loop.items, activity.frame, node.id))
        if not isinstance(items, list):
            raise ExpressionFailed(f"{node.id}: loop goes over a list, not over {describe(items)}", node=node.id)
        self._count_items(activity, loop.do, len(items))
        results: list[Any] = [None] * len(items)
        failures: dict[int, list[Exception]] = {}
        n_begun = n_open = 0

        def begin_next() -> None:
            nonlocal n_begun, n_open
            __tracebackhide__ = True
            while n_begun < len(items) and n_open < loop.concurrency and not failures:
                index = n_begun
                n_begun += 1
                n_open += 1
                branch = self._branch(activity, node, {"item": items[index]})
                names = {loop.name: items[index], "index": index}
                self._open_inside(activity, number, loop.do, done_with(index), activity.frame.inside(names, branch))
            if n_open == 0:
                self._later(end)

        def done_with(index: int) -> Done:
            def done(inside: Activity) -> None:
                nonlocal n_open
                n_open -= 1
                results[index] = inside.outputs
                if inside.failures:
                    failures[index] = inside.failures
                begin_next()

            return done

        def end() -> None:
            if failures:
                self._fail(activity, number, one(node.id, [each for n in sorted(failures) for each in failures[n]]))
            else:
                self._note(activity, number, {"n_items": len(items)}, results)

        begin_next()

    def _repeat(self, activity: Activity, number: int, loop: While) -> None:
        __tracebackhide__ = True
        node = activity.block.nodes[number]
        results: list[Any] = []

        def begin_next() -> None:
            __tracebackhide__ = True
            names = {
                loop.name: {"index": len(results), "last": results[-1] if results else None},
                "index": len(results),
            }
            frame = activity.frame.inside(names, self._branch(activity, node, {"round": len(results)}))
            if not self._filler.is_true(loop.test, frame, f"{node.id}, while"):
                self._later(lambda: self._note(activity, number, {"n_rounds": len(results)}, results))
            elif len(results) == loop.max_rounds:
                error = NodeFailed(f"{node.id}: while is still true after {loop.max_rounds} rounds", node=node.id)
                self._later(lambda: self._record_failure(activity, number, error))
            else:
                self._open_inside(activity, number, loop.do, done, frame)

        def done(inside: Activity) -> None:
            if inside.failures:
                self._fail(activity, number, one(node.id, inside.failures))
                return
            results.append(inside.outputs)
            try:
                begin_next()
            except ExpressionFailed as error:
                self._record_failure(activity, number, error)

        begin_next()

    def _branch(self, activity: Activity, node: GraphNode, arguments: dict[str, Any]) -> BranchId:
        name = f"{self._workshop.graph}.{node.id}"
        return durable_calls.open_branch(self._scope.at(activity.frame.branch), name, arguments).branch

    def _count_items(self, activity: Activity, block: Block, n_items: int) -> None:
        """Let the diagram know how many steps there will be."""
        for node in block.nodes:
            if node.when is None:
                durable_calls.count_items(
                    self._scope.at(activity.frame.branch), f"{self._workshop.graph}.{node.id}", n_items
                )


def _read(submission: Submission, *, is_handled: bool) -> Any:
    __tracebackhide__ = True
    if is_handled:
        return submission.read()  # the run sees the failure, and lives with it
    outcome = submission.promise
    outcome.is_observed = True
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
