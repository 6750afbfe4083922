"""The interpreter of graphs: one thread begins nodes, waits for those that run, and takes their results.

An `ActiveBlock` knows of each of its nodes for how many others it still waits. A node that waits for none is begun. A
node that does work is a step of the run. One alone is performed in this thread, as a flow calls a step. Several are
submitted, and all that have ended are taken at once, so that they share a commit. A node that decides opens the blocks
inside of it and ends with them. Then it is recorded as a step, with its decision and its output.

All this happens in the thread of the run, so there is no lock and no race. Other threads only append to `_callbacks`
that a step has ended; appending to a deque is atomic.

If a node fails, all nodes that do not wait for it go on. Then its block fails, and so do the nodes around it up to one
with a handler; without a handler, the run fails. The next continuation of the run tries recorded failures again that no
handler took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ironflow_nb.core.identity import BranchId
from ironflow_nb.errors import ExpressionFailed, NodeFailed
from ironflow_nb.execution import SCOPE, RunContext, durable_calls
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
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import as_data, coerce, describe
from ironflow_nb.graphs.runtime.active_block import (
    ActiveBlock,
    BlockCallback,
    NameFrame,
    combine_failures,
    describe_failure,
    is_handleable,
    read_submission,
    skip_after_failures,
    skip_nodes,
)
from ironflow_nb.graphs.runtime.child_graphs import call_child
from ironflow_nb.graphs.runtime.node_bodies import wait_of
from ironflow_nb.graphs.runtime.node_environment import environment
from ironflow_nb.graphs.runtime.node_steps import NodeSteps
from ironflow_nb.graphs.runtime.template_values import TemplateValues, case_name


def run_graph(definition: CompiledGraph, node_steps: NodeSteps, grants: Grants, given: Any) -> Any:
    """Execute the graph in the run of the calling code, and return its output."""
    __tracebackhide__ = True
    names = {"input": as_data(given), "env": environment(definition, grants)}
    return Interpreter(definition, node_steps, names).run()


class Interpreter:
    """Executes one graph in one continuation of its run."""

    def __init__(self, definition: CompiledGraph, node_steps: NodeSteps, names: Mapping[str, Any]) -> None:
        scope = SCOPE.get()
        assert scope is not None
        assert scope.step is None
        self._definition = definition
        self._node_steps = node_steps
        self._context: RunContext = scope
        node_steps.hide_secrets(scope)
        self._names = dict(names)
        self._values = TemplateValues(scope, node_steps.graph, has_secrets=node_steps.secrets.has_any)
        self._ready: deque[tuple[ActiveBlock, int]] = deque()
        self._callbacks: deque[Callable[[], None]] = deque()
        self._n_running = 0

    def run(self) -> Any:
        """Execute the graph and return its output.

        Raises:
            Exception: the failure of a node that no handler took; an `ExceptionGroup` of several.
        """
        __tracebackhide__ = True
        ended: list[ActiveBlock] = []
        frame = NameFrame(self._names, None, self._context.branch)
        self._open(self._definition.block, frame, ended.append, is_handled=False)
        while not ended:
            while self._ready and self._n_running < self._definition.concurrency:
                self._begin_node(*self._ready.popleft())
            if self._callbacks:
                self._callbacks.popleft()()
            elif not ended:
                assert self._n_running, "a block waits for nothing"
                durable_calls.wait_for(self._context, lambda: bool(self._callbacks))
        if ended[0].failures:
            raise combine_failures(self._definition.name, ended[0].failures)
        return self._result(ended[0])

    def _result(self, active: ActiveBlock) -> Any:
        output = self._definition.output
        if output is not None:
            return self._values.fill(output, active.frame, "output")
        nodes = active.block.nodes
        return active.outputs.get(nodes[-1].id) if nodes else None

    # -- blocks --------------------------------------------------------------------------------------------------

    def _open_inner(
        self, active: ActiveBlock, number: int, block: Block, done: BlockCallback, frame: NameFrame | None = None
    ) -> None:
        """Open a block inside of the node; `done` is called when it has ended."""
        is_handled = active.is_handled or active.block.nodes[number].on_error is not None
        self._open(block, frame or active.frame.inner({}), done, is_handled=is_handled)

    def _open(self, block: Block, frame: NameFrame, done: BlockCallback, *, is_handled: bool) -> None:
        active = ActiveBlock(block, frame, done, is_handled=is_handled)
        for number, n_waiting in enumerate(active.n_waiting):
            if n_waiting == 0:
                self._enqueue(active, number)
        if not block.nodes:
            self._callbacks.append(lambda: done(active))

    def _enqueue(self, active: ActiveBlock, number: int) -> None:
        active.n_open += 1
        self._ready.append((active, number))

    def _finish_node(self, active: ActiveBlock, number: int, output: Any, *, is_skipped: bool = False) -> None:
        """Take the output of a node, and enqueue the nodes that waited for it alone."""
        name = active.block.nodes[number].id
        if not is_skipped:
            active.outputs[name] = output
        active.frame.bind(name, output)
        for waiting in active.waited_for_by[number]:
            active.n_waiting[waiting] -= 1
            if active.n_waiting[waiting] == 0:
                self._enqueue(active, waiting)
        self._close_node(active)

    def _fail_node(self, active: ActiveBlock, number: int, error: BaseException) -> None:
        """Give the failure to the handler of the node; without one the block fails."""
        __tracebackhide__ = True
        node = active.block.nodes[number]
        if not isinstance(error, Exception) or not is_handleable(error):
            raise error
        if node.on_error is None:
            self._fail_block(active, number, error)
        elif node.on_error == CONTINUE:
            self._finish_node(active, number, {"error": describe_failure(node, error)})
        else:
            self._run_handler(active, number, node.on_error, error)

    def _fail_block(self, active: ActiveBlock, number: int, error: Exception) -> None:
        """Add the failure to the block. If no node around it has a handler, the next continuation tries it again."""
        __tracebackhide__ = True
        if not active.is_handled:
            durable_calls.unobserve(self._context, error)
        active.fail(number, error)
        self._close_node(active)

    def _run_handler(self, active: ActiveBlock, number: int, handler: Block, error: Exception) -> None:
        node = active.block.nodes[number]

        def done(handled: ActiveBlock) -> None:
            if handled.failures:
                failure = combine_failures(node.id, handled.failures)
                failure.__cause__ = failure.__cause__ or error
                self._fail_block(active, number, failure)
            else:
                last = handler.nodes[-1].id if handler.nodes else None
                self._finish_node(active, number, handled.outputs.get(last) if last is not None else None)

        frame = active.frame.inner({"error": describe_failure(node, error)})
        self._open(handler, frame, done, is_handled=active.is_handled)

    def _close_node(self, active: ActiveBlock) -> None:
        active.n_open -= 1
        if active.n_open == 0:
            skip_after_failures(self._context, self._node_steps.graph, active)
            active.done(active)

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _begin_node(self, active: ActiveBlock, number: int) -> None:
        __tracebackhide__ = True
        node = active.block.nodes[number]
        frame = active.frame
        try:
            if self._values.is_true(node.when, frame, f"{node.id}, when"):
                self._perform_task(active, number, node)
            else:
                self._skip_nodes([node], frame, "when is false")
                self._call_soon(lambda: self._finish_node(active, number, None, is_skipped=True))
        except ExpressionFailed as error:
            self._record_failure(active, number, error)
        except Exception as error:  # noqa: BLE001 -- `_fail_node` raises those that no handler may take
            self._fail_node(active, number, error)

    def _skip_nodes(self, nodes: Iterable[GraphNode], frame: NameFrame, reason: str) -> None:
        skip_nodes(self._context, self._node_steps.graph, nodes, frame.branch, reason)

    def _call_soon(self, callback: Callable[[], None]) -> None:
        """Call it after the present node: an error in it is not an error of that node."""
        self._callbacks.append(callback)

    def _perform_task(self, active: ActiveBlock, number: int, node: GraphNode) -> None:
        __tracebackhide__ = True
        frame = active.frame
        if self._node_steps.is_mocked(node) and not isinstance(node.task, NodeWork | PythonCall):
            self._perform_step(active, number, {})
            return
        match node.task:
            case NodeWork() if node.task.kind.wait is not None and not self._node_steps.is_mocked(node):
                self._wait(active, number, node.task, self._values.fill_options(node, node.task.options, frame))
            case NodeWork(options=options):
                self._perform_step(active, number, self._values.fill_options(node, options, frame))
            case PythonCall(arguments=arguments):
                self._perform_step(active, number, {"with": self._values.fill_options(node, arguments, frame)})
            case Assertion():
                self._perform_step(active, number, {"checks": self._values.fill_checks(node, node.task, frame)})
            case Workflow(target=target, input=given):
                name = self._values.fill(target, frame, node.id)
                self._run_child(active, number, name, self._values.fill(given, frame, node.id))
            case Condition(test=test, then=then, otherwise=otherwise):
                is_then = self._values.is_true(test, frame, node.id)
                side, block, other = ("then", then, otherwise) if is_then else ("else", otherwise, then)
                self._skip_nodes(other.nodes, frame, f"{node.id} took {side}")
                self._open_chosen(active, number, side, block)
            case Switch(value=value, cases=cases, default=default, others=further):
                chosen = case_name(self._values.fill(value, frame, node.id), node)
                chosen = further.get(chosen, chosen)
                blocks = dict(cases)
                taken = chosen if chosen in blocks else "default" if default.nodes else None
                block = blocks.get(chosen, default)
                others = [each for each in (*blocks.values(), default) if each is not block]
                reason = f"{node.id} took {'none of its cases' if taken is None else taken}"
                self._skip_nodes([each for other in others for each in other.nodes], frame, reason)
                self._open_chosen(active, number, taken, block)
            case ParallelBlocks():
                self._open_branches(active, number, node.task)
            case Loop():
                self._run_loop(active, number, node.task)
            case While():
                self._run_while(active, number, node.task)

    # -- work ----------------------------------------------------------------------------------------------------

    def _perform_step(self, active: ActiveBlock, number: int, options: dict[str, Any]) -> None:
        """Perform the node as a step: in this thread if nothing else runs, else beside the others."""
        __tracebackhide__ = True
        node = active.block.nodes[number]
        spec = self._node_steps.spec(node)
        if node.compensate is not None:
            spec = self._node_steps.undone_with(spec, node, active.frame)
        is_alone = not (self._ready or self._n_running or self._callbacks or spec.is_async)
        if is_alone:
            output = self._as_output(node, durable_calls.call(spec, self._context.at(active.frame.branch), (), options))
            self._call_soon(lambda: self._finish_node(active, number, output))
            return
        # No limit of the session: the graph has a limit of its own.
        submission = durable_calls.submit(self._context.at(active.frame.branch), spec, (), options, is_limited=False)
        self._n_running += 1

        def take() -> None:
            __tracebackhide__ = True
            self._n_running -= 1
            try:
                value = read_submission(submission, is_handled=active.is_handled or node.on_error is not None)
                output = self._as_output(node, value)
            except Exception as error:  # noqa: BLE001
                self._fail_node(active, number, error)
            else:
                self._finish_node(active, number, output)

        submission.when_done(lambda: self._callbacks.append(take))

    def _as_output(self, node: GraphNode, value: Any) -> Any:
        """Return the output of user code as data that expressions can read; any other output is data already."""
        task = node.task
        has_user_code = task.kind.function is not None if isinstance(task, NodeWork) else isinstance(task, PythonCall)
        return as_data(value) if has_user_code or self._node_steps.is_mocked(node) else value

    def _wait(self, active: ActiveBlock, number: int, work: NodeWork, options: dict[str, Any]) -> None:
        node, scope = active.block.nodes[number], self._context.at(active.frame.branch)
        arguments, wanted = wait_of(node, work, options)
        spec, now = self._node_steps.spec(node), scope.access.clock.now
        self._call_beside(active, number, lambda: durable_calls.pause(scope, spec, arguments, lambda: wanted(now())))

    def _run_child(self, active: ActiveBlock, number: int, name: Any, given: Any) -> None:
        node, scope = active.block.nodes[number], self._context.at(active.frame.branch)
        self._call_beside(active, number, lambda: call_child(scope, self._node_steps, node, name, given))

    def _call_beside(self, active: ActiveBlock, number: int, call: Callable[[], Any]) -> None:
        """Take the node's output from the call: in this thread if nothing else runs, else beside the others."""
        __tracebackhide__ = True
        scope = self._context.at(active.frame.branch)

        def call_data() -> Any:
            __tracebackhide__ = True
            return as_data(call())

        if not (self._ready or self._n_running or self._callbacks):
            output = call_data()
            self._call_soon(lambda: self._finish_node(active, number, output))
            return
        self._n_running += 1

        def take(value: Any, error: BaseException | None) -> None:
            __tracebackhide__ = True
            self._n_running -= 1
            if error is not None:
                self._fail_node(active, number, error)
            else:
                self._finish_node(active, number, value)

        durable_calls.run_beside(
            scope, call_data, lambda value, error: self._callbacks.append(lambda: take(value, error))
        )

    def _record_failure(self, active: ActiveBlock, number: int, error: NodeFailed) -> None:
        """Record the failure of a node whose options have no value, so that the run shows where it failed."""
        __tracebackhide__ = True
        node = active.block.nodes[number]
        scope = self._context.at(active.frame.branch)
        try:
            spec = self._node_steps.failing_spec(node, error)
            durable_calls.call(spec, scope, (), {"failed": str(error)})
        except Exception as raised:  # noqa: BLE001
            self._fail_node(active, number, raised)

    # -- decisions -----------------------------------------------------------------------------------------------

    def _open_chosen(self, active: ActiveBlock, number: int, taken: str | None, block: Block) -> None:
        def done(inside: ActiveBlock) -> None:
            self._end_decision(active, number, inside, {"taken": taken}, {"taken": taken, **inside.outputs})

        self._open_inner(active, number, block, done)

    def _end_decision(
        self, active: ActiveBlock, number: int, inside: ActiveBlock, decided: dict[str, Any], output: Any
    ) -> None:
        if inside.failures:
            self._fail_node(active, number, combine_failures(active.block.nodes[number].id, inside.failures))
        else:
            self._finish_decision(active, number, decided, output)

    def _finish_decision(self, active: ActiveBlock, number: int, decided: dict[str, Any], output: Any) -> None:
        """Record the decision and the output of the node, and finish it. The events are added to the next commit."""
        try:
            self._record_decision(active, number, decided, output)
        except Exception as error:  # noqa: BLE001 -- the output can't be digested or encoded
            self._fail_node(active, number, error)
        else:
            self._finish_node(active, number, output)

    def _record_decision(self, active: ActiveBlock, number: int, decided: dict[str, Any], output: Any) -> None:
        spec = self._node_steps.spec(active.block.nodes[number])
        Budget().measure(output)  # every node inside may have returned all data of the graph
        result = self._context.access.digester.digest(output).digest
        arguments = {**decided, "result": result.hex()}
        durable_calls.record(self._context.at(active.frame.branch), spec, arguments, lambda: output, is_seen=False)

    def _open_branches(self, active: ActiveBlock, number: int, branch: ParallelBlocks) -> None:
        __tracebackhide__ = True
        node = active.block.nodes[number]
        chosen = [
            choice
            for choice in branch.branches
            if self._values.is_true(choice.when, active.frame, f"{node.id}, {choice.name}")
        ]
        for choice in branch.branches:
            if choice not in chosen:
                self._skip_nodes(choice.do.nodes, active.frame, f"when of {choice.name} is false")
        ended: dict[str, ActiveBlock] = {}

        def done_with(name: str) -> BlockCallback:
            def done(inside: ActiveBlock) -> None:
                ended[name] = inside
                if len(ended) == len(chosen):
                    join()

            return done

        def join() -> None:
            failures = [failure for choice in chosen for failure in ended[choice.name].failures]
            if failures:
                self._fail_node(active, number, combine_failures(node.id, failures))
                return
            names = [choice.name for choice in chosen]
            self._finish_decision(active, number, {"taken": names}, {name: ended[name].outputs for name in names})

        for choice in chosen:
            self._open_inner(active, number, choice.do, done_with(choice.name))
        if not chosen:
            self._call_soon(join)

    # -- loops ---------------------------------------------------------------------------------------------------

    def _run_loop(self, active: ActiveBlock, number: int, loop: Loop) -> None:
        __tracebackhide__ = True
        node = active.block.nodes[number]
        items = coerce(self._values.fill(loop.items, active.frame, node.id))
        if not isinstance(items, list):
            raise ExpressionFailed(f"{node.id}: loop goes over a list, not over {describe(items)}", node=node.id)
        self._count_items(active, loop.do, len(items))
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
                branch = self._open_branch(active, node, {"item": items[index]})
                names = {loop.name: items[index], "index": index}
                self._open_inner(active, number, loop.do, done_with(index), active.frame.inner(names, branch))
            if n_open == 0:
                self._call_soon(end)

        def done_with(index: int) -> BlockCallback:
            def done(inside: ActiveBlock) -> None:
                nonlocal n_open
                n_open -= 1
                results[index] = inside.outputs
                if inside.failures:
                    failures[index] = inside.failures
                begin_next()

            return done

        def end() -> None:
            if failures:
                self._fail_node(
                    active, number, combine_failures(node.id, [each for n in sorted(failures) for each in failures[n]])
                )
            else:
                self._finish_decision(active, number, {"n_items": len(items)}, results)

        begin_next()

    def _run_while(self, active: ActiveBlock, number: int, loop: While) -> None:
        __tracebackhide__ = True
        node = active.block.nodes[number]
        results: list[Any] = []

        def begin_next() -> None:
            __tracebackhide__ = True
            index, last = len(results), results[-1] if results else None
            names = {loop.name: {"index": index, "last": last}, "index": index}
            frame = active.frame.inner(names, self._open_branch(active, node, {"round": index}))
            if not self._values.is_true(loop.test, frame, f"{node.id}, while"):
                self._call_soon(lambda: self._finish_decision(active, number, {"n_rounds": index}, results))
            elif index == loop.max_rounds:
                error = NodeFailed(f"{node.id}: while is still true after {loop.max_rounds} rounds", node=node.id)
                self._call_soon(lambda: self._record_failure(active, number, error))
            elif index == 0:
                self._open_inner(active, number, loop.do, done, frame)
            else:
                self._open_inner(active, number, loop.pause, lambda paused: go_on(paused, frame), frame)

        def go_on(paused: ActiveBlock, frame: NameFrame) -> None:
            if paused.failures:
                done(paused)
            else:
                self._open_inner(active, number, loop.do, done, frame)

        def done(inside: ActiveBlock) -> None:
            if inside.failures:
                self._fail_node(active, number, combine_failures(node.id, inside.failures))
                return
            results.append(inside.outputs)
            try:
                begin_next()
            except ExpressionFailed as error:
                self._record_failure(active, number, error)

        begin_next()

    def _open_branch(self, active: ActiveBlock, node: GraphNode, arguments: dict[str, Any]) -> BranchId:
        name = f"{self._node_steps.graph}.{node.id}"
        return durable_calls.open_branch(self._context.at(active.frame.branch), name, arguments).branch

    def _count_items(self, active: ActiveBlock, block: Block, n_items: int) -> None:
        """Record how many steps the loop will have, for the diagram."""
        for node in block.nodes:
            if node.when is None:
                context = self._context.at(active.frame.branch)
                durable_calls.count_items(context, f"{self._node_steps.graph}.{node.id}", n_items)
