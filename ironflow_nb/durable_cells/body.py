"""Executing the body of a cell: statement by statement as IPython does, awaiting, and within a time limit."""

from __future__ import annotations

import ast
import linecache
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.interrupts import call_body

_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_IS_COROUTINE: Final = 0x80


def execute(engine: Engine, cell: Cell, namespace: dict[str, Any]) -> Any:
    """Execute the cell and return the value of its last expression, or None if it ends in something else.

    What awaits runs on the engine's own loop, and this waits for it.

    Raises:
        TimeoutError: it took longer than it may.
    """
    __tracebackhide__ = True
    _keep_source(cell)
    statements, last = _split(cell.tree)
    with _limited(engine, cell):
        if statements is not None:
            _run(engine, cell, compile(statements, cell.file, "exec", flags=_FLAGS, dont_inherit=True), namespace)
        if last is None:
            return None
        return _run(engine, cell, compile(last, cell.file, "eval", flags=_FLAGS, dont_inherit=True), namespace)


def execute_plainly(cell: Cell, body: list[ast.stmt], namespace: dict[str, Any]) -> None:
    """Execute some statements of the cell again, such as its imports."""
    __tracebackhide__ = True
    if body:
        _keep_source(cell)
        code = compile(ast.Module(body, []), cell.file, "exec", dont_inherit=True)
        call_body(exec, (code, namespace), {})


def _split(tree: ast.Module) -> tuple[ast.Module | None, ast.Expression | None]:
    *others, last = tree.body
    if not isinstance(last, ast.Expr):
        return tree, None
    return (ast.Module(others, []) if others else None), ast.Expression(last.value)


def _run(engine: Engine, cell: Cell, code: Any, namespace: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    value = call_body(eval, (code, namespace), {})
    if not code.co_flags & _IS_COROUTINE:
        return value
    future = engine.spawn(value)
    try:
        # The interrupt of the main thread is let through only while a body is called.
        return call_body(future.result, (None if can_limit(engine) else cell.options.timeout_s,), {})
    except BaseException as error:
        is_late = isinstance(error, TimeoutError) and not future.done()
        future.cancel()
        if is_late:
            raise _late(cell) from None
        raise


def _keep_source(cell: Cell) -> None:
    """Let tracebacks and `inspect` find the source of the cell by the name of its file."""
    if cell.file not in linecache.cache:
        linecache.cache[cell.file] = len(cell.source), None, cell.source.splitlines(keepends=True), cell.file


# -- within a time limit ---------------------------------------------------------------------------------------------


@contextmanager
def _limited(engine: Engine, cell: Cell) -> Iterator[None]:
    """Raise `TimeoutError` in the body after its time; what it awaits is cancelled, the rest is interrupted.

    The interrupt is that of the stop button, so it also ends what sleeps or waits for a device. What swallows a
    KeyboardInterrupt, or is in the middle of a long call of C, goes on until it looks.
    """
    __tracebackhide__ = True
    timeout_s = cell.options.timeout_s
    if timeout_s is None or (cell.is_async and not can_limit(engine)):
        yield
        return
    alarm = _Alarm(engine, timeout_s)
    try:
        yield
    except KeyboardInterrupt as error:
        if alarm.disarm():
            raise _late(cell).with_traceback(error.__traceback__) from None
        raise
    finally:
        alarm.disarm()


def _late(cell: Cell) -> TimeoutError:
    return TimeoutError(f"the cell {cell.name} took longer than {spoken(cell.options.timeout_s or 0)}")


def refuse_limit(engine: Engine, cell: Cell) -> None:
    """Refuse a time limit that could not be kept.

    Raises:
        DefinitionError: the cell has one, and what it does can't be interrupted here.
    """
    if cell.options.timeout_s is not None and not cell.is_async and not can_limit(engine):
        raise DefinitionError(
            f"the cell {cell.name} can't be given a timeout here: only the main thread of a process can be "
            "interrupted, and not on Windows; leave the timeout out, or let the cell await what it waits for"
        )


def can_limit(engine: Engine) -> bool:
    """Tell whether what runs in the calling thread can be interrupted by another one."""
    return engine.threads.is_main() and hasattr(signal, "pthread_kill")


class _Alarm:
    """Interrupts the thread that made it after a time, unless it was disarmed before."""

    def __init__(self, engine: Engine, after_s: float) -> None:
        self.has_rung = False
        self._engine = engine
        self._thread = engine.threads.ident()
        self._lock = engine.threads.lock()
        self._wakeup = engine.threads.wakeup()
        self._is_armed = True
        engine.threads.spawn("ironflow-alarm", self._ring_after(after_s))

    def _ring_after(self, after_s: float) -> Callable[[], None]:
        def ring() -> None:
            self._engine.ledger.clock.wait(self._wakeup, after_s)
            with self._lock:
                if self._is_armed:
                    self._is_armed, self.has_rung = False, True
                    signal.pthread_kill(self._thread, signal.SIGINT)

        return ring

    def disarm(self) -> bool:
        """Let it ring no more; return whether it has rung. An interrupt of its own that is still to come is taken."""
        with self._lock:
            self._is_armed = False
        self._wakeup.set()
        if self.has_rung:
            self._engine.interrupts.is_pending = False
        return self.has_rung
