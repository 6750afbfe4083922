"""Flows written in Lua as graphs of ours.

The file runs once, in a process of its own, and describes its steps. Each becomes a node; what it writes into the
context there is read here as the output of that node. What has no counterpart is a finding and refuses the file. What
means something else here is a note with its line.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ironflow_nb.errors import GraphPosition as Position
from ironflow_nb.execution import system_entropy
from ironflow_nb.graphs.catalog import kinds
from ironflow_nb.graphs.compiled_graph import find_cycle, topological_order
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFinding, invalid_graph
from ironflow_nb.graphs.kinds import INAPPLICABLE_KEYS, RESERVED_NAMES
from ironflow_nb.graphs.lua.lua_calls import LuaRefused, ask_lua
from ironflow_nb.graphs.readers.imported_graph import ImportedGraph, identifier
from ironflow_nb.graphs.readers.lua_children import CHILD_READERS
from ironflow_nb.graphs.readers.lua_context import LuaStep, StepContext, contribution
from ironflow_nb.graphs.readers.lua_libraries import LIBRARY_READERS
from ironflow_nb.graphs.readers.lua_nodes import READERS
from ironflow_nb.graphs.readers.lua_outside import OUTSIDE_READERS
from ironflow_nb.graphs.readers.lua_step import LuaStepOptions, NodeKeys, Reader

_MARK: Final = re.compile(r"\0(env|uuid|now):([^\0]*)\0")
_SECRET: Final = re.compile(r"key|token|secret|pass|credential|auth|webhook", re.IGNORECASE)
_EPOCH: Final = "1970-01-01T00:00:00+00:00"
_MOST_BYTES: Final = 1_048_576
_MOST_UUIDS: Final = 50
_WITHOUT_LIMITS: Final = frozenset({"condition", "switch", "branch", "loop", "workflow", "delay"})

_READERS: Final[Mapping[str, Reader]] = {**READERS, **OUTSIDE_READERS, **LIBRARY_READERS, **CHILD_READERS}

ReadChild = Callable[[str], str]
"""Returns the name of the graph that another file becomes."""


def read_lua_flow(text: str, read_child: ReadChild, *, is_lenient: bool = False) -> ImportedGraph:
    """Return the graph of a flow of Lua.

    Args:
        text: the file of the flow.
        read_child: reads the file that a step runs as its child.
        is_lenient: what is missing is an empty text in texts, as it was there.

    Raises:
        GraphInvalid: something can't be kept; all of it is listed with its line.
    """
    if len(text.encode()) > _MOST_BYTES:
        raise invalid_graph(None, [CompilerFinding((), f"the file has more than {_MOST_BYTES:,} bytes")])
    described, noted = _described(text)
    reader = _FlowReader(read_child, is_lenient=is_lenient)
    graph = reader.graph(described)
    if reader.findings:
        raise invalid_graph(reader.name, sorted(reader.findings, key=lambda each: each.position or (0, 0)))
    notes = [*noted, *map(str, sorted(reader.notes, key=lambda each: each.position or (0, 0)))]
    return ImportedGraph(graph, tuple(dict.fromkeys(notes)))


# -- the file ----------------------------------------------------------------------------------------------------


def _described(text: str) -> tuple[Mapping[str, Any], list[str]]:
    """Return the description of a flow, with marks for what is only known when it runs, and notes.

    The file is run with marks in place of the variables of the environment, and once more with their values. If both
    say the same, nothing depends on a value. Else the values stand in the graph.
    """
    uuids = [_uuid() for _ in range(_MOST_UUIDS)]
    marked_ids = [f"\0uuid:{number}\0" for number in range(_MOST_UUIDS)]
    now = {"now_ms": 0, "now": "\0now:0\0"}
    variables = {name: each for name, each in os.environ.items() if _is_text(name + each)}
    marked, used = _run(text, {name: f"\0env:{name}\0" for name in variables}, marked_ids, now)
    real, _ = _run(text, variables, uuids, {"now_ms": 0, "now": _EPOCH})

    def filled(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        return variables[name] if kind == "env" else uuids[int(name)] if kind == "uuid" else _EPOCH

    if _replaced(marked, filled) == real and not _has_marked_names(marked):
        return marked, []
    if not used:
        message = "the file describes another flow each time it is run, so no run of it could be continued"
        raise invalid_graph(None, [CompilerFinding((), message)])
    hidden = {name: f"\0env:{name}\0" if _SECRET.search(name) else each for name, each in variables.items()}
    mixed, _ = _run(text, hidden, uuids, {"now_ms": 0, "now": _EPOCH})
    shown = ", ".join(sorted(used))
    if _replaced(mixed, filled) != real or _has_marked_names(mixed):
        advice = 'what it reads of it would be recorded; read a secret in a function: env("NAME")'
        raise invalid_graph(None, [CompilerFinding((), f"a secret of {shown} decides what the flow is; {advice}")])
    note = f"what it reads of {shown} decides which steps there are: their values stand in the graph, and are recorded"
    return mixed, [note]


def _has_marked_names(described: Mapping[str, Any]) -> bool:
    """Return True if a mark is in more than the options of a step."""
    names = {**described, "steps": [{**each, "config": None} for each in described.get("steps") or ()]}
    return any(_marks_in(names))


def _run(
    text: str, env: Mapping[str, str], uuids: list[str], now: Mapping[str, Any]
) -> tuple[Mapping[str, Any], list[str]]:
    """Return the description of a flow, and the variables of the environment that the file asks for."""
    request = {"task": "read", "source": text, "env": env, "uuids": uuids, **now}
    try:
        answer = ask_lua(request)
    except LuaRefused as error:
        message = str(error).removeprefix("flow:")
        line, _, what = message.partition(": ")
        position = Position(int(line), 1) if line.isdigit() else None
        raise invalid_graph(None, [CompilerFinding((), what if position else message, position)]) from None
    return answer.value, answer.variables


def _uuid() -> str:
    text = system_entropy(16).hex()
    return "-".join((text[:8], text[8:12], f"4{text[13:16]}", f"a{text[17:20]}", text[20:]))


def _replaced(value: Any, fill: Callable[[re.Match[str]], str]) -> Any:
    """Return a value with the marks in its texts filled in."""
    match value:
        case str():
            return _MARK.sub(fill, value)
        case Mapping():
            return {_replaced(key, fill): _replaced(each, fill) for key, each in value.items()}
        case list():
            return [_replaced(each, fill) for each in value]
        case _:
            return value


def _marks_in(value: Any) -> Iterator[re.Match[str]]:
    """Yield the marks in the texts of a value."""
    match value:
        case str():
            yield from _MARK.finditer(value)
        case Mapping():
            for key, each in value.items():
                yield from _marks_in(key)
                yield from _marks_in(each)
        case list():
            for each in value:
                yield from _marks_in(each)
        case _:
            return


def _is_text(text: str) -> bool:
    """Return True if the text has no half of a character, as undecodable variables have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- the steps ---------------------------------------------------------------------------------------------------


class _FlowReader:
    """Reads the description of one flow, and collects findings, notes and grants."""

    def __init__(self, read_child: ReadChild, *, is_lenient: bool) -> None:
        self.findings: list[CompilerFinding] = []
        self.notes: list[CompilerFinding] = []
        self.name = "flow"
        self._read_child = read_child
        self._is_lenient = is_lenient
        self._allowed: dict[str, dict[str, None]] = {}
        self._secrets: dict[str, dict[str, str]] = {}
        self._extra: dict[str, NodeKeys] = {}
        self._handlers: dict[str, LuaStep] = {}
        self._taken: set[str] = set(RESERVED_NAMES)

    def graph(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the data of the graph."""
        self.name = re.sub(r"[^\w.-]", "_", str(described.get("name") or "flow"), flags=re.ASCII)
        written = list(described.get("steps") or ())
        steps = self._steps(written)
        if self.findings:
            return {}
        self._find_handlers(steps, written)
        if self.findings or not self._set_phases(steps):
            return {}
        in_order = sorted(steps, key=lambda each: (each.phase, each.number))
        by_name = {each.name: each for each in steps}
        made = {
            each.number: self._node(each, StepContext(each, in_order, is_lenient=self._is_lenient), by_name, written)
            for each in in_order
        }
        nodes = [self._filled(made[number]) for number in sorted(made)]
        output = self._output(in_order)
        extra = [{"id": name, "depends_on": [], **keys} for name, keys in self._extra.items()]
        allow = {kind: list(names) for kind, names in self._allowed.items() if names}
        secrets = {"secrets": self._secrets} if self._secrets else {}
        return {"graph": self.name, "allow": allow, **secrets, "nodes": [*extra, *nodes], "output": output}

    def _steps(self, written: list[Mapping[str, Any]]) -> list[LuaStep]:
        steps: dict[str, LuaStep] = {}
        for number, each in enumerate(written):
            name = each.get("name")
            step = LuaStep(
                name=str(name),
                id=self._free_id(str(name)),
                line=int(each.get("line") or 0),
                kind=str(each["kind"]),
                config=each.get("config"),
                depends_on=[one for one in each.get("depends_on") or () if isinstance(one, str)],
                number=number,
            )
            if not isinstance(name, str) or not name:
                self._refuse(step, "a step has a name, which is a text")
            if step.name in steps:
                self._refuse(step, f"line {steps[step.name].line} has a step of that name, too")
            steps[step.name] = step
        for step in steps.values():
            for name in step.depends_on:
                if name not in steps:
                    self._refuse(step, f"it depends on {name!r}, and there is no such step")
        if not steps:
            self.findings.append(CompilerFinding((), "the flow has no steps"))
        return list(steps.values())

    def _free_id(self, name: str) -> str:
        base = made = identifier(name)
        number = 2
        while made in self._taken:
            made, number = f"{base}_{number}", number + 1
        self._taken.add(made)
        return made

    def _find_handlers(self, steps: list[LuaStep], written: list[Mapping[str, Any]]) -> None:
        """Note which step handles the failure of which, by the names of the steps that fail."""
        by_name = {each.name: each for each in steps}
        for step in steps:
            target = _argument(written[step.number], "on_error")
            if target is None:
                continue
            handler = by_name.get(str(target))
            if handler is None or handler is step:
                self._refuse(step, f"on_error names {target!r}, which is no other step")
            elif handler.handles is not None:
                self._refuse(step, f"{handler.name} handles failures of {handler.handles.name} already")
            elif (
                any(key in written[handler.number] for key in ("on_error", "route")) or step.name in handler.depends_on
            ):
                self._refuse(
                    handler, "a step that handles failures has no on_error, no route, and does not depend on it"
                )
            else:
                handler.handles = step
                self._handlers[step.name] = handler
                step.is_handled = True

    def _set_phases(self, steps: list[LuaStep]) -> bool:
        """Set the phase of each step: those that wait for nothing, then those that wait for these, and so on."""
        numbers = {each.name: each.number for each in steps}
        after: list[tuple[int, ...]] = []
        for step in steps:
            names = [*step.depends_on, *([step.handles.name] if step.handles else ())]
            names += [
                self._handlers[name].name for name in step.depends_on if self._handlers.get(name, step) is not step
            ]
            after.append(tuple(numbers[name] for name in names))
        cycle = find_cycle(after)
        if cycle is not None:
            names = [steps[number].name for number in cycle]
            self._refuse(steps[cycle[0]], f"these steps wait for each other: {' -> '.join(names)}")
            return False
        for number in topological_order(after):
            steps[number].phase = 1 + max((steps[each].phase for each in after[number]), default=-1)
        return True

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _node(
        self, step: LuaStep, context: StepContext, by_name: Mapping[str, LuaStep], described: list[Mapping[str, Any]]
    ) -> NodeKeys:
        written = described[step.number]
        made: NodeKeys = {}
        try:
            when = self._when(step, by_name, written, context)
            step.always_runs = when is None and not step.is_handled
            step.is_sure = step.always_runs
            options = LuaStepOptions(step, context, self)
            made = {} if when is None else {"when": f"{{{{ {when} }}}}"}
            made |= self._kind(step, options, written)
            self._add_limits(step, made, written)
        except ValueError as error:
            self._refuse(step, str(error))
        except (TypeError, AttributeError, KeyError) as error:
            self._refuse(step, f"an option of it has a form that it can't have: {error}")
        if step.is_handled:
            made["on_error"] = "continue"
            if "error" in step.keys:
                self._refuse(step, "it writes a key error, by which its failure is known here; call the key otherwise")
        if context.missing:
            names = ", ".join(f"ctx.{name}" for name in context.missing)
            where = "an empty text here, too" if self._is_lenient else "an error here"
            self.note(step, f"{names}: what is missing is an empty text there, and {where}")
        for name in context.lost:
            self.note(step, f"ctx.{name} is not there, so it is nil")
        ids = [by_name[name].id for name in step.depends_on]
        ids += [self._handlers[name].id for name in step.depends_on if self._handlers.get(name, step) is not step]
        ids += [*([step.handles.id] if step.handles else ()), *context.reads, *self._extra_ids(made)]
        renamed = {} if step.id == step.name else {"description": f"{step.name} in the imported file"}
        return {"id": step.id, **renamed, "depends_on": list(dict.fromkeys(ids)), **made}

    def _kind(self, step: LuaStep, options: LuaStepOptions, written: Mapping[str, Any]) -> NodeKeys:
        reader = (_READERS).get(step.kind)
        names = _argument(written, "context_keys")
        if names is not None:
            if step.kind not in {"function", "code"}:
                raise ValueError("context_keys belongs to functions and code nodes only")
            step.config = {**(step.config or {}), "context_keys": names}
            options = LuaStepOptions(step, options.context, self)
        if reader is not None:
            made = reader(options)
            options.note_unasked()
            return made
        if step.kind not in kinds():
            advice = f'a kind of yours may stand for it: @iron.node("{step.kind}")'
            raise ValueError(f"there is no node of the kind {step.kind} here; {advice}")
        step.writes_more = True
        return {step.kind: {name: options.text(name) for name in step.config or ()}}

    def _when(
        self, step: LuaStep, by_name: Mapping[str, LuaStep], written: Mapping[str, Any], context: StepContext
    ) -> str | None:
        """Return the condition under which the step runs; None if it always does."""
        failures = _needed_failures(step, by_name) if self._handlers else ()
        parts = [f"{each.id}.error != `null`" for each in failures]
        condition = written.get("condition")
        if condition is not None:
            parts.append(context.condition(condition))
        if "route" in written:
            route = str(_argument(written, "route"))
            choices = [by_name[name] for name in step.depends_on]
            chosen = [each.routes.get(route) for each in choices if each.routes]
            chosen += [f"{each.id} == '{route}'" for each in choices if each.route_text]
            ways = [each for each in chosen if each is not None]
            if not ways:
                raise ValueError(f"no step that it depends on has a route {route!r}")
            parts.append(ways[0] if len(ways) == 1 else f"({' || '.join(ways)})")
        return " && ".join(parts) if parts else None

    def _add_limits(self, step: LuaStep, made: NodeKeys, written: Mapping[str, Any]) -> None:
        """Add the retries and the time limit of a step."""
        if "retries" in written:
            n_retries, backoff_s = (*_arguments(written, "retries"), 1)[:2]
            if type(n_retries) is not int or not 0 <= n_retries <= 99 or not _is_number(backoff_s):
                raise ValueError("retries takes a whole number up to 99, and the first pause in seconds")
            if n_retries:
                self._add_retry(step, made, n_retries, backoff_s)
        if "timeout" in written:
            limit_s = _argument(written, "timeout")
            if not _is_number(limit_s) or not limit_s:
                raise ValueError("timeout takes seconds, more than 0")
            if _control(made):
                self.note(step, f"a {_control(made)} has no time limit here; timeout({limit_s}) is left out")
                return
            made["timeout_s"] = min(made.get("timeout_s", limit_s), limit_s)
            if "retry" in made:
                made["deadline_s"] = limit_s

    def _add_retry(self, step: LuaStep, made: NodeKeys, n_retries: int, backoff_s: float) -> None:
        control = _control(made)
        if control and "retry" in INAPPLICABLE_KEYS[control]:
            self.note(step, f"a {control} is not tried again here; retries({n_retries}) is left out")
            return
        if "retry" in made:
            self.note(step, "its retries and those by status are counted together")
        retry = {"attempts": n_retries + 1, "delay_s": backoff_s, **made.get("retry", {})}
        retry["attempts"] = max(retry["attempts"], n_retries + 1)
        longest_s = backoff_s * 2 ** (n_retries - 1)
        if longest_s > 60:
            retry["max_delay_s"] = min(longest_s, 86_400)
        made["retry"] = retry
        if "http" in made and "on_status" not in retry:
            self.note(step, "a status that no retry helps, such as 404, is not tried again")

    # -- the end -------------------------------------------------------------------------------------------------

    def _output(self, steps: list[LuaStep]) -> str:
        parts = ["input"]
        for each in steps:
            part = contribution(each)
            if part:
                parts.append(part)
        return f"{{{{ merge({', '.join(parts)}) }}}}"

    def _filled(self, node: NodeKeys) -> NodeKeys:
        """Return a node with the marks of its texts filled in."""
        filled: NodeKeys = _replaced(node, lambda match: self._mark(match[1], match[2]))
        return filled

    def _mark(self, kind: str, name: str) -> str:
        if kind == "env":
            return self.variable(name)
        return f"{{{{ {_extra_id(kind, name)} }}}}"

    def _extra_ids(self, made: NodeKeys) -> Iterable[str]:
        """Yield the ids of the nodes that give what the file took when it was read: a random id, or the time."""
        for match in _marks_in(made):
            if match[1] != "env":
                name = _extra_id(match[1], match[2])
                self._extra[name] = {"transform": "{{ uuid() }}" if match[1] == "uuid" else "{{ now() }}"}
                yield name

    # -- what a step tells ---------------------------------------------------------------------------------------

    def _refuse(self, step: LuaStep, message: str) -> None:
        self.findings.append(CompilerFinding((), f"step {step.name}: {message}", Position(step.line, 1)))

    def note(self, step: LuaStep, message: str) -> None:
        """Note what means something else here."""
        self.notes.append(CompilerFinding((), f"step {step.name}: {message}", Position(step.line, 1)))

    def grant(self, kind: str, name: str) -> None:
        """Add to what the graph allows itself."""
        self._allowed.setdefault(kind, {})[name] = None

    def variable(self, name: str, *, is_optional: bool = False) -> str:
        """Return the template of a variable of the environment; of a secret, if its name looks like one."""
        self.grant("env", name)
        if _SECRET.search(name) is None:
            return f"{{{{ default(env.{name}, `null`) }}}}" if is_optional else f"{{{{ env.{name} }}}}"
        secret = identifier(name).lower()
        self._secrets[secret] = {"env": name}
        return f"{{{{ secrets.{secret} }}}}"

    def child(self, step: LuaStep, file: str) -> str:
        """Return the name of the graph that another file becomes."""
        if "${" in file or "\0" in file:
            raise ValueError("the file of a child is fixed here; a step_if can choose")
        try:
            return self._read_child(file)
        except OSError as error:
            raise ValueError(f"its child {file} can't be read: {error.strerror or 'no such file'}") from None


def _needed_failures(step: LuaStep, by_name: Mapping[str, LuaStep]) -> list[LuaStep]:
    """Return the steps that must have failed: that which it handles, and those whose handlers it waits for."""
    found: dict[str, LuaStep] = {}
    waiting, seen = deque([step]), {step.name}
    while waiting:
        each = waiting.popleft()
        if each.handles is not None:
            found[each.handles.name] = each.handles
        for name in each.depends_on:
            if name not in seen:
                seen.add(name)
                waiting.append(by_name[name])
    return list(found.values())


def _extra_id(kind: str, name: str) -> str:
    return "imported_at" if kind == "now" else f"random_id_{int(name) + 1}"


def _control(made: NodeKeys) -> str:
    return next((kind for kind in _WITHOUT_LIMITS if kind in made), "")


def _arguments(written: Mapping[str, Any], name: str) -> list[Any]:
    """Return the arguments of a method of a step; the first number says how many there were."""
    found = written.get(name)
    return list(found[1:]) if isinstance(found, list) else []


def _argument(written: Mapping[str, Any], name: str) -> Any:
    return next(iter(_arguments(written, name)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
