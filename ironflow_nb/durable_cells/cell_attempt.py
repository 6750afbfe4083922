"""An attempt of a durable cell: its body is executed within a time limit, and its effects are recorded.

The run of a cell has one step, which is the cell itself.
"""

from __future__ import annotations

import ast
import linecache
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.cell_lookup import CellCall, CellContext, NoExecution, code_text, digest_of, note_digests
from ironflow_nb.durable_cells.cell_record import (
    CellEffects,
    CellRecord,
    build_record,
    digests_of,
    is_closed_resource,
    within_limit,
)
from ironflow_nb.durable_cells.random_state import random_state
from ironflow_nb.durable_cells.shared_values import (
    BULKY_BYTES,
    BYTES_PER_S,
    QUICK_S,
    is_variable,
    may_differ,
    n_bytes,
    reachable_parts,
    shared_with,
)
from ironflow_nb.errors import DefinitionError, StepTimeout
from ironflow_nb.execution import SCOPE, EncodedResult, Engine, RunStorage, call_body, durable_calls, say
from ironflow_nb.values.failures import annotate
from ironflow_nb.values.stored_value import ValueRecord

_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_IS_COROUTINE: Final = 0x80


def execute(engine: Engine, cell: Cell, namespace: dict[str, Any]) -> Any:
    """Execute the cell and return the value of its last expression, or None if it ends with a statement.

    Code that awaits runs on the engine's event loop, and this function waits for it.

    Raises:
        TimeoutError: the cell exceeded its time limit.
    """
    __tracebackhide__ = True
    _cache_source(cell)
    statements, last = _split_last_expression(cell.tree)
    with _time_limit(engine, cell):
        if statements is not None:
            _run_code(engine, cell, compile(statements, cell.file, "exec", flags=_FLAGS, dont_inherit=True), namespace)
        if last is None:
            return None
        return _run_code(engine, cell, compile(last, cell.file, "eval", flags=_FLAGS, dont_inherit=True), namespace)


def execute_statements(cell: Cell, body: list[ast.stmt], namespace: dict[str, Any]) -> None:
    """Execute statements of the cell, such as its imports, without a time limit."""
    __tracebackhide__ = True
    if body:
        _cache_source(cell)
        code = compile(ast.Module(body, []), cell.file, "exec", dont_inherit=True)
        call_body(exec, (code, namespace), {})


def _split_last_expression(tree: ast.Module) -> tuple[ast.Module | None, ast.Expression | None]:
    *others, last = tree.body
    if not isinstance(last, ast.Expr):
        return tree, None
    return (ast.Module(others, []) if others else None), ast.Expression(last.value)


def _run_code(engine: Engine, cell: Cell, code: Any, namespace: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    value = call_body(eval, (code, namespace), {})
    if not code.co_flags & _IS_COROUTINE:
        return value
    future = engine.spawn(value)
    try:
        # SIGINT reaches the main thread only inside of call_body, so the wait is a body, too.
        return call_body(future.result, (None if can_interrupt(engine) else cell.options.timeout_s,), {})
    except BaseException as error:
        is_late = isinstance(error, TimeoutError) and not future.done()
        future.cancel()
        if is_late:
            raise _timeout_error(cell) from None
        raise


def _cache_source(cell: Cell) -> None:
    """Register the source with `linecache`, where tracebacks and `inspect` find it by the name of the file."""
    if cell.file not in linecache.cache:
        linecache.cache[cell.file] = len(cell.source), None, cell.source.splitlines(keepends=True), cell.file


# -- within a time limit ---------------------------------------------------------------------------------------------


@contextmanager
def _time_limit(engine: Engine, cell: Cell) -> Iterator[None]:
    """Raise `TimeoutError` in the body when its time is over: a coroutine is cancelled, other code is interrupted.

    The interrupt is a SIGINT, as of the stop button, so it also ends a sleep or a wait for a device. Code that catches
    KeyboardInterrupt, or is inside a long call of C, goes on until it returns to Python.
    """
    __tracebackhide__ = True
    timeout_s = cell.options.timeout_s
    if timeout_s is None or (cell.is_async and not can_interrupt(engine)):
        yield
        return
    alarm = _Alarm(engine, timeout_s)
    try:
        yield
    except KeyboardInterrupt as error:
        if alarm.disarm():
            raise _timeout_error(cell).with_traceback(error.__traceback__) from None
        raise
    finally:
        alarm.disarm()


def _timeout_error(cell: Cell) -> StepTimeout:
    return StepTimeout(f"the cell {cell.name} took longer than {spoken(cell.options.timeout_s or 0)}")


def refuse_time_limit(engine: Engine, cell: Cell) -> None:
    """Refuse a time limit that can't be enforced.

    Raises:
        DefinitionError: the cell has a time limit, and the calling thread can't be interrupted.
    """
    if cell.options.timeout_s is not None and not cell.is_async and not can_interrupt(engine):
        raise DefinitionError(
            f"the cell {cell.name} can't have a timeout here: only the main thread of a process can be "
            "interrupted, and not on Windows; leave the timeout out, or await in the cell"
        )


def can_interrupt(engine: Engine) -> bool:
    """Return True if another thread can interrupt the calling one."""
    return engine.threads.is_main() and hasattr(signal, "pthread_kill")


class _Alarm:
    """A timer that interrupts the thread which created it, unless it is disarmed before."""

    def __init__(self, engine: Engine, after_s: float) -> None:
        self.has_fired = False
        self._engine = engine
        self._thread = engine.threads.ident()
        self._lock = engine.threads.lock()
        self._wakeup = engine.threads.wakeup()
        self._is_armed = True
        engine.threads.spawn("ironflow-alarm", self._fire_after(after_s))

    def _fire_after(self, after_s: float) -> Callable[[], None]:
        def ring() -> None:
            self._engine.access.clock.wait(self._wakeup, after_s)
            with self._lock:  # no signal is sent after disarm() has returned
                if self._is_armed:
                    self._is_armed, self.has_fired = False, True
                    signal.pthread_kill(self._thread, signal.SIGINT)

        return ring

    def disarm(self) -> bool:
        """Stop the timer; return True if it has fired. An interrupt of it that is still pending is dropped."""
        with self._lock:
            self._is_armed = False
        self._wakeup.set()
        if self.has_fired:
            self._engine.interrupts.is_pending = False
        return self.has_fired


class CellAttempt:
    """The flow of a cell's run, with one step. `record` is its result; `kept` is None unless it was executed here."""

    def __init__(self, context: CellContext, wanted: CellCall, missing: NoExecution) -> None:
        self.record: ValueRecord | None = None
        self.kept: CellRecord | None = None
        self.outs: dict[str, Any] = {}
        self._context = context
        self._wanted = wanted
        self._is_reported = missing.is_unreadable
        self._inputs_before = {name: context.namespace[name] for name in wanted.ins if name in context.namespace}
        self._bound_before = dict(context.namespace)
        self._n_attempts = 0
        self._took_s = 0.0
        self._random_before = random_state()

    def __call__(self) -> None:
        """Perform the step; called as the flow of the run."""
        __tracebackhide__ = True
        scope = SCOPE.get()
        assert scope is not None
        durable_calls.encode_with(scope, partial(_CellStorage, self._encode_effects))
        spec = self._wanted.spec.performed_by(self._attempt, may_retry=self._may_retry)
        self.record = durable_calls.call(spec, scope, (), self._wanted.ins)

    def _attempt(self, **_ins: str) -> CellEffects:
        __tracebackhide__ = True
        if self._n_attempts:
            self._context.namespace.update(self._inputs_before)
        self._n_attempts += 1
        # Flows that the cell calls are runs of their own: a cell that is executed again continues them.
        token = SCOPE.set(None)
        try:
            return self._execute_body()
        except BaseException as error:
            _add_advice(error, self._wanted.cell)
            raise
        finally:
            SCOPE.reset(token)

    def _may_retry(self, error: BaseException) -> bool:
        """Return False if the failed attempt has changed its inputs, so that the next one would begin with others."""
        changed = self._changed_inputs()
        if changed:
            names = ", ".join(changed)
            error.add_note(
                f"ironflow: it is not tried again, because it has changed {names} in place; run the cell that assigns "
                f"{names} first, or change a copy"
            )
        return not changed

    def _execute_body(self) -> CellEffects:
        __tracebackhide__ = True
        context, cell = self._context, self._wanted.cell
        clock = context.engine.access.clock
        began_s = clock.monotonic()
        with context.output_sink.recording() as shown:
            value = execute(context.engine, cell, context.namespace)
            context.output_sink.show_result(value)
        self._took_s = clock.monotonic() - began_s
        random_after = random_state()
        changed = self._changed_inputs()
        self.outs = self._assigned_values(changed)
        namespace = context.namespace
        return CellEffects(
            outs=self.outs,
            gone=tuple(name for name in cell.uses.deletes if name not in namespace),
            brief=frozenset(cell.uses.contexts if cell.options.outs is None else ()),
            unchanged={name: value for name, value in self._inputs_before.items() if name not in changed},
            again=self._not_stored(),
            unsettled={name: namespace[name] for name, _ in cell.uses.unsettled if name in namespace},
            ins=self._wanted.ins,
            shown=within_limit(shown),
            code=code_text(self._wanted),
            random=random_after if cell.options.is_unmarked and random_after != self._random_before else None,
        )

    def _encode_effects(self, left: CellEffects) -> EncodedResult:
        self.kept = build_record(self._context.engine.access, left)
        note_digests(self._context.known, left.outs, digests_of(self.kept.record))
        self._warn_of_unstorable()
        return EncodedResult(self.kept.values, self.kept.record, is_shareable=not self.kept.about.lost)

    def _not_stored(self) -> dict[str, str]:
        """Return what a quick cell that nobody marked makes anew, with the reasons, instead of storing it."""
        is_unmarked = self._wanted.cell.options.is_unmarked and self._context.known is not None
        if not is_unmarked or self._took_s >= QUICK_S:
            return {}
        if may_differ(self._wanted.cell.tree) or self._random_before != random_state():
            return {}
        least = max(BULKY_BYTES, self._took_s * BYTES_PER_S)
        bulky = [name for name, value in self.outs.items() if n_bytes(value) > least]
        shared = shared_with(self.outs, self._inputs_before)
        return dict.fromkeys(bulky, "quicker to make than to store") | {
            name: f"a part of {other}" for name, other in shared.items()
        }

    def _assigned_values(self, changed: list[str]) -> dict[str, Any]:
        """Return the values by name: those of ``--out``, else what the cell assigned or changed in place."""
        cell, namespace = self._wanted.cell, self._context.namespace
        if cell.options.outs is not None:
            missing = [name for name in cell.options.outs if name not in namespace]
            if missing:
                raise NameError(f"the cell {cell.name} has not assigned {', '.join(missing)}, which --out names")
            self._warn_of_unlisted_changes(changed)
            return {name: namespace[name] for name in cell.options.outs}
        names = dict.fromkeys(
            [
                *cell.uses.assigns,
                *(cell.uses.private if cell.options.is_unmarked else ()),
                *self._changed_in_place(changed),
                *(self._rebound_names() if cell.uses.hides_assignments else ()),
            ]
        )
        found = {name: namespace[name] for name in names if name in namespace}
        return {
            name: value
            for name, value in found.items()
            if not (name in cell.uses.contexts and is_closed_resource(value))
        }

    def _changed_inputs(self) -> list[str]:
        """Return the names of inputs whose objects were changed, also if the name is bound to another object now."""
        engine, ins = self._context.engine, self._wanted.ins
        known = [name for name in self._inputs_before if name not in self._wanted.opaque]
        after = {name: digest_of(engine, self._inputs_before[name])[0] for name in known}
        note_digests(self._context.known, self._inputs_before, after)
        return [name for name in known if after[name] != ins[name]]

    def _changed_in_place(self, changed: list[str]) -> list[str]:
        """Return the names that are bound to changed objects, and in an unmarked cell those of what holds them."""
        if not changed:
            return []
        objects = [self._inputs_before[name] for name in changed]
        variables = {name: value for name, value in self._context.namespace.items() if is_variable(name, value)}
        if not self._wanted.cell.options.is_unmarked:
            return [name for name, value in variables.items() if any(value is each for each in objects)]
        parts = set[int]().union(*map(reachable_parts, objects))
        return [name for name, value in variables.items() if not parts.isdisjoint(reachable_parts(value))]

    def _rebound_names(self) -> list[str]:
        """Return the names that are bound to other objects than before; a magic does not show which it assigns."""
        uses, namespace = self._wanted.cell.uses, self._context.namespace
        known = {*uses.imports, *uses.defines, "In", "Out", "exit", "quit", "get_ipython"}
        found = [name for name in [*namespace] if not name.startswith("_") and name not in known]
        return [name for name in found if namespace[name] is not self._bound_before.get(name)]

    def _warn_of_unlisted_changes(self, changed: list[str]) -> None:
        outs = self._wanted.cell.options.outs or ()
        left_out = [name for name in self._changed_in_place(changed) if name not in outs]
        if left_out:
            names = ", ".join(left_out)
            say(
                f"{self._wanted.cell.name}: it changed {names} in place, which --out leaves out, so it is not changed "
                "where the cell is restored"
            )

    def _warn_of_unstorable(self) -> None:
        assert self.kept is not None
        if self.kept.left_out and not self._is_reported:
            names = ", ".join(f"{name} ({kind})" for name, kind in self.kept.left_out.items())
            say(f"{self._wanted.cell.name}: {names} of a with can't be stored, and is not defined after it is restored")
        lost = self.kept.about.lost
        if self._wanted.cell.options.is_unmarked:
            self._warn_of_slow(lost)
        elif lost and not self._is_reported:
            names = ", ".join(f"{name} ({kind})" for name, (kind, _) in lost.items())
            others = ",".join(name for name in self.outs if name not in lost) or '""'
            say(
                f"{self._wanted.cell.name}: {names} can't be stored, so the cell runs again in each new kernel; "
                f"leave it out with --out {others}, or keep what it is made of, such as a path"
            )

    def _warn_of_slow(self, lost: Mapping[str, tuple[str, str]]) -> None:
        """Say why a slow cell that nobody marked is executed again in a new kernel."""
        if self._took_s < QUICK_S or self._is_reported:
            return
        if lost:
            names = ", ".join(f"{name} ({kind})" for name, (kind, _) in lost.items())
            say(f"{names} can't be stored, so this cell runs again in each new kernel; make it in a cell of its own")
        elif self._wanted.opaque:
            name, kind = next(iter(self._wanted.opaque.items()))
            say(
                f"{name} ({kind}) can't be recognised in another process, so this cell runs again in each new kernel; "
                f"if it does not matter which one it is: {name} = iron.resource({name})"
            )


class _CellStorage(RunStorage):
    """The storage of a cell's run, whose one result is a record of values."""

    def __init__(self, encode: Callable[[CellEffects], EncodedResult], inner: RunStorage) -> None:
        self._encode = encode
        super().__init__(inner)

    def encode_result(self, value: Any) -> EncodedResult:
        """Return the record of the effects with its values."""
        return self._encode(value)


def _add_advice(error: BaseException, cell: Cell) -> None:
    """Add a note with what to do; it is shown after the user's own traceback. An unmarked cell is any cell."""
    if cell.options.is_unmarked:
        return
    what = "was interrupted; run it" if isinstance(error, KeyboardInterrupt) else "failed; correct it and run it"
    annotate(error, f"ironflow: the cell {cell.name} {what} again: the cells before it are restored")
