"""Running a durable cell, of a notebook or as `cell_step`: it is restored, or executed and recorded.

To restore a cell, its recorded values are bound again, and its imports, definitions and process settings are executed
again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Final

from ironflow_nb.code_identity.syntax import dotted
from ironflow_nb.core.durations import Duration, seconds, spoken
from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import GUARD_S
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ContinuationReason
from ironflow_nb.diagram.model import Diagram, Node, NodeKind, encode_diagram
from ironflow_nb.durable_cells.cell import KIND, Cell, CellOptions
from ironflow_nb.durable_cells.cell_attempt import CellAttempt, execute_statements, refuse_time_limit
from ironflow_nb.durable_cells.cell_lookup import (
    CellCall,
    CellContext,
    FoundExecution,
    NoExecution,
    call_of,
    context_of,
    find_execution,
    note_digests,
    unreadable_execution,
)
from ironflow_nb.durable_cells.cell_record import (
    NoOutputSink,
    Output,
    Restorable,
    digests_of,
    read_restorable,
    rebind_names,
)
from ironflow_nb.durable_cells.name_analysis import (
    defined_names,
    defines_names,
    immediate_reads,
    names_in,
    with_called_reads,
)
from ironflow_nb.durable_cells.shared_values import QUICK_S
from ironflow_nb.errors import DefinitionError, NotAllowedInStep, UntrustedValue, ValueUnreadable
from ironflow_nb.execution import (
    FOREIGN,
    REGISTRY,
    SCOPE,
    Engine,
    FlowCall,
    RunPolicy,
    RunRequest,
    advice,
    begin,
    run_session,
    say,
)
from ironflow_nb.history import run_status
from ironflow_nb.journal.ports import StoredDefinition
from ironflow_nb.values.stored_value import ValueRecord

_MAGICS: Final = frozenset(
    {"load_ext", "reload_ext", "matplotlib", "config", "cd", "env", "set_env", "autoreload", "precision", "xmode"}
)
_CALLS: Final = frozenset(
    {
        "path.append", "path.insert", "chdir", "set_option", "seed", "style.use", "rcParams.update", "filterwarnings",
        "simplefilter", "set_theme", "set_style", "basicConfig", "load_dotenv", "setlocale", "environ.setdefault",
        "environ.update", "options.display",
    }
)  # fmt: skip
_TARGETS: Final = frozenset({"environ", "options", "rcParams"})


def is_setup(node: ast.stmt) -> bool:
    """Return True if the statement is known to only set up the process: a search path, an option, a seed."""
    match node:
        case ast.Expr(value=ast.Call() as call):
            return _is_setup_call(call)
        case ast.Assign(targets=[ast.Subscript(value=target)]) | ast.Assign(targets=[ast.Attribute(value=target)]):
            return not _TARGETS.isdisjoint(dotted(target))
    return False


def _is_setup_call(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "run_line_magic":
        first = call.args[0] if call.args else None
        return isinstance(first, ast.Constant) and first.value in _MAGICS
    names = dotted(call.func)
    return ".".join(names[-2:]) in _CALLS or (bool(names) and names[-1] in _CALLS)


_Later = dict[str, set[str]]
"""Names that a function reads when it is called, by the name of the function."""
_IMPORTS: Final = (ast.Import, ast.ImportFrom)


def restore_cell(context: CellContext, cell: Cell, record: ValueRecord) -> tuple[dict[str, Any], list[Output]]:
    """Bind the recorded names in the namespace; return their values and the recorded outputs.

    Raises:
        ValueUnreadable: a value can't be read or defined again; then the namespace is as before.
    """
    __tracebackhide__ = True
    before = dict(context.namespace)
    try:
        kept = read_restorable(context.engine, record, context.namespace)
        _repeat_statements(cell, kept, context.namespace)
        outs, shown = kept.outs(), kept.shown()
        kept.set_random_state()
    except (ValueUnreadable, NameError) as error:
        for name in context.namespace.keys() - before.keys():
            del context.namespace[name]
        context.namespace.update(before)
        if isinstance(error, ValueUnreadable):
            raise
        raise ValueUnreadable(f"it can't be defined or set up again: {error}") from error
    rebind_names(context.namespace, outs, kept.about.gone)
    note_digests(context.known, outs, digests_of(record))
    return outs, shown


def _repeat_statements(cell: Cell, kept: Restorable, namespace: dict[str, Any]) -> None:
    """Execute imports, settings and definitions again, in the order of the cell.

    A value is decoded just before the first statement that needs it, when its own class is defined. A definition that
    would differ now, and so was recorded as lost, is left out.
    """
    __tracebackhide__ = True
    futures = [node for node in cell.tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    later: _Later = {}
    ready: set[str] = set()
    waiting: list[ast.stmt] = []
    for node in filter(is_repeated, cell.tree.body):
        defined = defined_names(node)
        if defined and kept.about.lost.keys() >= set(defined):
            continue
        needed = (with_called_reads(immediate_reads(node), later) & kept.names) - ready
        if needed:
            execute_statements(cell, [*futures, *waiting], namespace)
            waiting = []
            namespace.update({name: kept.value(name) for name in sorted(needed)})
        waiting.append(node)
        ready |= {*needed, *defined}
        later |= dict.fromkeys(defined, names_in(node))
    execute_statements(cell, [*futures, *waiting], namespace)
    kept.forget_changed()


def is_repeated(node: ast.stmt) -> bool:
    """Return True if the statement is executed again when its cell is restored: it imports, defines or sets up."""
    return isinstance(node, _IMPORTS) or defines_names(node) or is_setup(node)


@dataclass
class CellResult:
    """The result of a cell: its values by name, its record, and whether it was restored."""

    outs: dict[str, Any] = field(default_factory=dict)
    record: ValueRecord | None = None
    is_restored: bool = False


def run_cell(cell: Cell, context: CellContext, *, again_below_s: float = 0.0) -> CellResult:
    """Restore the cell, or execute and record it. Unless it is the first time, a printed line says which and why.

    An execution that took less than `again_below_s` is not restored, and the cell is executed again.

    Raises:
        DefinitionError: an input of ``--in`` is not defined, or the cell can't have a timeout here.
        UntrustedValue: another user has executed it, and the execution took long.
        NotAllowedInStep: a step, a flow or this same cell is being executed.
    """
    __tracebackhide__ = True
    _refuse_inside(cell)
    refuse_time_limit(context.engine, cell)
    while True:
        wanted = call_of(context.engine, cell, context.namespace, context.known)
        found = find_execution(context.engine, context.key, wanted, context.namespace)
        if isinstance(found, FoundExecution) and (found.row.duration_s or 0.0) < again_below_s:
            found = NoExecution(found.run, row=found.row, is_unreadable=True)
        missing = _restore_recorded(context, wanted, found) if isinstance(found, FoundExecution) else found
        if isinstance(missing, CellResult):
            return missing
        _refuse_untrusted(context, cell, missing)
        _say_why_executed(wanted, missing)
        result = _execute_and_record(context, wanted, missing)
        if result is not None:
            return result


def _refuse_inside(cell: Cell) -> None:
    scope = SCOPE.get()
    if scope is not None:
        inside = scope.step or "a flow"
        raise NotAllowedInStep(f"the cell {cell.name} was run inside {inside}; run it by itself", name=cell.name)


# -- restored --------------------------------------------------------------------------------------------------------


def _restore_recorded(context: CellContext, wanted: CellCall, found: FoundExecution) -> CellResult | NoExecution:
    """Restore the cell; return a `NoExecution` if a value can't be read."""
    __tracebackhide__ = True
    row = found.row
    try:
        outs, shown = restore_cell(context, wanted.cell, found.record)
    except ValueUnreadable as error:
        return unreadable_execution(found.run, row, error)
    work = spoken(row.duration_s or 0.0)
    ago = spoken(max(context.engine.clock.now() - (row.finished_at or row.started_at), 0) / 1e6)
    name = "" if wanted.cell.options.is_unmarked else f"{wanted.cell.name} "
    say(f"restored {name}({work} of work, {ago} ago)")
    context.output_sink.show(shown)
    return CellResult(outs, found.record, is_restored=True)


def _refuse_untrusted(context: CellContext, cell: Cell, missing: NoExecution) -> None:
    """Refuse to repeat long work whose recorded result only has to be trusted."""
    if missing.untrusted is None or missing.row is None or (missing.row.duration_s or 0.0) < GUARD_S:
        return
    location = context.engine.journal.location
    raise UntrustedValue(
        f"the cell {cell.name} was executed ({spoken(missing.row.duration_s or 0.0)} of work), and what is recorded of "
        f"that was {FOREIGN}, or before it was signed; {advice(location)}, and it is restored. To execute it anew, "
        "take a journal of your own: iron.use(PATH)",
        name=cell.name,
    )


# -- executed --------------------------------------------------------------------------------------------------------


def _say_why_executed(wanted: CellCall, missing: NoExecution) -> None:
    """Print why a cell is executed again and how long it took before, or why a first execution may be repeated."""
    cell, row = wanted.cell, missing.row
    if cell.options.is_unmarked:
        if row is not None and missing.reasons and (row.duration_s or 0.0) >= QUICK_S:
            say(f"{_some(missing.reasons)}; it runs again (last time {spoken(row.duration_s or 0.0)})")
        return
    if missing.run is None and wanted.mutable_references:
        names = ", ".join(wanted.mutable_references)
        say(
            f"{cell.name}: its code refers to {names}, whose content does not count: when that changes the cell "
            "does not run again; read it as a variable in the cell, or make it a constant, such as a tuple"
        )
    if row is not None:
        reasons = missing.reasons or ("its recorded inputs are gone",)
        say(f"{cell.name}: {_some(reasons)}; it runs again (last time {spoken(row.duration_s or 0.0)})")
    elif missing.run is None and wanted.opaque:
        name, kind = next(iter(wanted.opaque.items()))
        say(
            f"{cell.name}: its input {name} ({kind}) can't be recognised in another process, so it runs again in each "
            f"new kernel; if it does not matter which one it is, name the others: --in {_other_inputs(wanted, name)}"
        )


def _some(reasons: tuple[str, ...]) -> str:
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def _other_inputs(wanted: CellCall, name: str) -> str:
    return ",".join(other for other in wanted.ins if other != name) or '""'


def _execute_and_record(context: CellContext, wanted: CellCall, missing: NoExecution) -> CellResult | None:
    """Execute the cell in its run; return None, after waiting, if another process was executing it."""
    __tracebackhide__ = True
    engine = context.engine
    with engine.interrupts.taken():
        begun = begin(engine, _run_request(context, wanted, missing))
        if isinstance(begun, RunRow):
            _wait_for_other(engine, wanted.cell, begun)
            return None
        begun.replayer.allow_change(wanted.cell.name, wanted.spec.code)
        execution = CellAttempt(context, wanted, missing)
        run_session(engine, begun, FlowCall(execution, (), {}))
    if execution.kept is None:  # another process has executed it meanwhile, or a shared result was found
        assert execution.record is not None
        outs, shown = restore_cell(context, wanted.cell, execution.record)
        context.output_sink.show(shown)
        return CellResult(outs, execution.record, is_restored=True)
    return CellResult(dict(execution.outs), execution.record)


def _wait_for_other(engine: Engine, cell: Cell, run: RunRow) -> None:
    session = engine.sessions.get(run.run_id)
    if session is not None and session.thread == engine.threads.ident():
        raise NotAllowedInStep(
            f"the cell {cell.name} is being executed, and runs itself; run another one", name=cell.name
        )
    say(f"{cell.name}: it is being executed elsewhere (run {run.run_id}); waiting for it")
    run_status.wait_ended(engine, run.run_id)


def _run_request(context: CellContext, wanted: CellCall, missing: NoExecution) -> RunRequest:
    # An execution that can't be restored must not be reused, also if its code is unchanged.
    options = ResumeOptions(rerun=(missing.row.step,)) if missing.is_unreadable and missing.row is not None else NONE
    definition = digest_bytes(f"cell {wanted.cell.name}\0{wanted.cell.text}".encode())
    return RunRequest(
        kind=KIND,
        name=wanted.cell.name,
        definition_id=definition,
        define=partial(_stored_definition, wanted.cell, definition),
        arguments={},
        policy=RunPolicy(key=context.key),
        reason=ContinuationReason.RESUME,
        options=options,
        reopens=True,
        notes_end=False,  # the note of the cell says what to do
    )


def _stored_definition(cell: Cell, definition: Any) -> StoredDefinition:
    node = Node(id=cell.name, kind=NodeKind.STEP, label=cell.name, step=cell.name)
    diagram = encode_diagram(Diagram(cell.name, (node,)))
    return StoredDefinition(definition_id=definition, kind=KIND, name=cell.name, source=cell.text, diagram=diagram)


def cell_step(
    name: str,
    source: str,
    namespace: dict[str, Any] | None = None,
    *,
    ins: Iterable[str] | None = None,
    outs: Iterable[str] | None = None,
    retries: int | None = 0,
    timeout_s: Duration | None = None,
    cache: bool | Duration | None = None,
) -> dict[str, Any]:
    """Execute the source as a durable cell, or restore it; return its values by name.

    ``%%step NAME`` does the same with a cell of a notebook. The output of the source is not shown again when it is
    restored.

    Args:
        name: the name under which executions are recorded.
        source: Python, with ``await`` allowed; it is executed in `namespace`.
        namespace: the variables that it reads and assigns; by default a new one.
        ins: the names of its inputs; by default the data that it reads before it assigns it.
        outs: the names of its values; by default what it assigns or changes in place, except for `_names`.
        retries: the number of further attempts after a failure.
        timeout_s: the time limit of an attempt; outside of the main thread only for source that awaits.
        cache: share results with all cells of this name and code on the journal; see `step`.

    Raises:
        DefinitionError: the source can't be a durable cell, or an input is not defined.
        NotAllowedInStep: it was called inside a flow or step.
        StepTimeout: the source exceeded `timeout_s`.
        ValueError: the source is no text.
    """
    __tracebackhide__ = True
    if source != "":
        a_text("source", source)
    if isinstance(ins, str) or isinstance(outs, str):
        raise DefinitionError("ins and outs must be lists of names, not a text; write [...] around it")
    options = CellOptions(
        ins=None if ins is None else tuple(ins),
        outs=None if outs is None else tuple(outs),
        retries=0 if retries is None else retries,
        timeout_s=None if timeout_s is None else seconds(timeout_s),
        cache=cache,
    )
    file = f"<cell {name} {blake2b(source.encode(), digest_size=6).hexdigest()}>"
    space = {"__name__": "__main__"} if namespace is None else namespace
    context = context_of(REGISTRY.engine(), space, NoOutputSink())
    return run_cell(Cell(name, source, source, options, file), context).outs
