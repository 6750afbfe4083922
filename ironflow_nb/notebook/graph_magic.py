"""``%%graph``: the cell is a graph, in YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand
from IPython.display import display
from msgspec.structs import replace

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import ENDED, RunKind, RunStatus
from ironflow_nb.errors import GraphInvalid, IronflowError
from ironflow_nb.execution import REGISTRY, Engine, frontend
from ironflow_nb.history.recorded_values import recorded_arguments
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import Select
from ironflow_nb.notebook.notebook_hooks import NotebookHooks

if TYPE_CHECKING:
    from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding
    from ironflow_nb.graphs.compiler.graph_source import GraphSource
    from ironflow_nb.graphs.graph import Graph

MAGIC: Final = "%%graph"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_OWN_NAME: Final = re.compile(r"^graph[ \t]*:[ \t]*", re.MULTILINE)
_MOST_COLUMNS: Final = 110
_UNFINISHED: Final = ENDED - {RunStatus.COMPLETED, RunStatus.CANCELLED}
_MOST_RUNS: Final = 20


@magics_class
class GraphMagics(Magics):
    """The magic of graphs."""

    @no_var_expand
    @cell_magic
    def graph(self, line: str, cell: str) -> None:
        """Define a graph: the cell is YAML, and NAME calls it from then on.

        %%graph NAME

        The whole cell is checked, and all mistakes are reported at once with their lines. Then the graph is defined
        under its name and shown; nothing of it runs before it is called. The next cell may be

        NAME(message="hi")              run it here; {{ input.message }} is replaced by "hi"
        NAME.start(message="hi")        run it in the background
        NAME.plan(message="hi")         what a call would do with recorded steps
        NAME.test(message="hi", mocks={"alert": {...}})     run it in memory, without I/O

        What the graph may touch stands in the cell: allow: {http: [api.example.org], env: [TOKEN]}. The key graph: may
        be left out. The kinds of nodes are in iron.nodes(), and Tab completes them, their options, and expressions.
        In Python: iron.Graph.from_yaml(text).
        """
        __tracebackhide__ = True
        assert self.shell is not None
        name = _parse_name(line)
        made = _compile_cell(name, line, cell)
        if name.isidentifier() and not iskeyword(name):
            self.shell.user_ns[name] = made
        _say_unfinished(made)
        display(made)  # type: ignore[no-untyped-call]


def _parse_name(line: str) -> str:
    words = line.split()
    if not words:
        raise UsageError(f"{MAGIC}: give the graph a name: {MAGIC} triage")
    name, *more = words
    if name.startswith("-") or more:
        found = name if name.startswith("-") else more[0]
        raise UsageError(
            f"{MAGIC} takes a name and nothing else, not {found}; what the graph may touch stands in the cell, as "
            "allow: {http: [api.example.org]}"
        )
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{MAGIC}: {name!r} can't be the name of a graph; it begins with a letter, and has letters, digits, _ . -"
        )
    return name


def _compile_cell(name: str, line: str, cell: str) -> Graph:
    """Return the graph of a cell.

    Raises:
        UsageError: the cell has mistakes; the message has all of them with their lines in the cell.
    """
    from ironflow_nb.graphs.catalog import kinds
    from ironflow_nb.graphs.compiler.compiler import compile_graph
    from ironflow_nb.graphs.compiler.graph_source import read_source
    from ironflow_nb.graphs.runtime.child_graphs import say_unmarked

    try:
        # An empty line in place of the magic's line, so that positions are those of the cell.
        source = read_source(f"\n{cell}")
        named, wrong = _with_cell_name(source, name, cell)
        wrong += [_Mistake.of(found) for found in compile_graph(named, kinds())[1].all]
        if not wrong:
            made = _graph_as_written(name, cell, named.data)
            say_unmarked(made.definition)
            return made
    except GraphInvalid as error:
        wrong = [_Mistake.of(found) for found in getattr(error, "findings", ())] or [_Mistake(0, 0, str(error))]
    except IronflowError as error:
        raise UsageError(f"{MAGIC} {name}: {error}") from None
    raise UsageError(_format_mistakes(name, f"{MAGIC} {line}\n{cell}", wrong))


def _with_cell_name(source: GraphSource, name: str, cell: str) -> tuple[GraphSource, list[_Mistake]]:
    """Return the source with the name of the cell, and a mistake if its own name is another one."""
    data: Any = source.data
    if not isinstance(data, Mapping):
        return source, []
    named = replace(source, data={"graph": name, **data})
    if data.get("graph", name) == name:
        return named, []
    place = _OWN_NAME.search(cell)
    n_line, column = (0, 0) if place is None else (cell.count("\n", 0, place.end()) + 2, len(place[0]) + 1)
    message = f"graph: the cell is {MAGIC} {name}, and the graph {data['graph']}: leave the key out, or make them agree"
    return named, [_Mistake(n_line, column, f"line {n_line}, column {column}: {message}" if n_line else message)]


def _graph_as_written(name: str, cell: str, data: Mapping[str, Any]) -> Graph:
    """Return the graph, with its text as written if that is complete without the name of the cell."""
    from ironflow_nb.graphs.compiler.graph_source import read_source
    from ironflow_nb.graphs.graph import Graph

    for text in (f"\n{cell}", f"graph: {name}\n{cell}"):
        with suppress(GraphInvalid):  # a line can't be added to YAML in braces or after "---"
            if read_source(text).data == data:
                return Graph.from_yaml(text)
    return Graph.from_dict(data)


class _Mistake(NamedTuple):
    """One mistake; its line and column count from 1, and are 0 if unknown."""

    line: int
    column: int
    text: str

    @classmethod
    def of(cls, found: CompilerFinding) -> _Mistake:
        line, column = found.position or (0, 0)
        return cls(line, column, str(found))


def _format_mistakes(name: str, shown: str, wrong: list[_Mistake]) -> str:
    """Return all mistakes in the order of the cell, each with its line and a caret below its column."""
    ordered = sorted(set(wrong))
    count = "1 thing is" if len(ordered) == 1 else f"{len(ordered)} things are"
    lines = shown.split("\n")
    return "\n".join([f"{MAGIC} {name}: {count} wrong", *(_format_mistake(each, lines) for each in ordered)])


def _format_mistake(wrong: _Mistake, lines: list[str]) -> str:
    if not 1 <= wrong.line <= len(lines):
        return wrong.text
    line, column = lines[wrong.line - 1], wrong.column - 1
    cut = max(0, column - _MOST_COLUMNS // 2) if len(line) > _MOST_COLUMNS else 0
    before = "".join("\t" if char == "\t" else " " for char in line[cut:column])
    return f"{wrong.text}\n    {line[cut : cut + _MOST_COLUMNS]}\n    {before}^"


def _say_unfinished(made: Graph) -> None:
    """Print the plan of a call that would continue the newest unfinished run."""
    found: Any = frontend()
    if not isinstance(found, NotebookHooks):
        return
    try:
        engine = REGISTRY.engine()
        run = _newest_unfinished(engine, made.name)
        plan = None if run is None else made.plan_call(*made.recorded_call(recorded_arguments(engine, run)))
    except IronflowError:  # without a plan the graph is defined all the same
        return
    if plan is not None and not plan.empty:
        found.say(plan.headline)


def _newest_unfinished(engine: Engine, name: str) -> RunRow | None:
    with engine.reading() as reader:
        rows = reader.runs(Select(kind=RunKind.GRAPH, name=name, is_full_name=True, limit=_MOST_RUNS))
        own = [row for row in rows if row.parent_run_id is None]
        statuses = statuses_of(engine, reader, own)
    return next((row for row in own if statuses.get(row.run_id) in _UNFINISHED), None)
