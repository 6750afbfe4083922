"""The compiler of tasks: what a single node does, by its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ironflow_nb.graphs.compiled_graph import (
    Assertion,
    Block,
    Check,
    CheckKind,
    Condition,
    GraphNode,
    Loop,
    NodeWork,
    ParallelBlocks,
    ParallelBranch,
    PythonCall,
    Switch,
    Task,
    While,
    Workflow,
)
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFindings, DataPath, Key
from ironflow_nb.graphs.compiler.name_scope import NameScope, NestedNodes, case_lists
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.kinds import RESERVED_NAMES, Kind
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.language.expression import ExpressionSyntaxError
from ironflow_nb.graphs.language.patterns import compile_pattern
from ironflow_nb.graphs.language.templates import (
    OPENING,
    Fields,
    Items,
    Literal,
    Template,
    Text,
    Whole,
    compile_template,
    expressions_of,
)
from ironflow_nb.graphs.nodes.waits import DELAY

CHECKS: Final[tuple[CheckKind, ...]] = ("equals", "not_equals", "matches", "holds")

MOST_OPERANDS: Final = 2

CompileBlock = Callable[[Any, DataPath, NameScope], Block]

NOTHING: Final = Literal(None)


class TaskCompiler:
    """Compiles the tasks of the nodes of one graph; `block` compiles the lists of nodes inside them."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        findings: CompilerFindings,
        grants: Grants,
        nodes: NestedNodes,
        block: CompileBlock,
    ) -> None:
        self._kinds = kinds
        self._findings = findings
        self._grants = grants
        self._nodes = nodes
        self._block = block

    def task(self, name: str | None, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> Task:
        """Return the task of the node; a placeholder if the node is invalid."""
        plain = scope.without_secrets(str(name))
        match name:
            case None:
                return Assertion(())
            case "condition":
                test = self.test(data["condition"], (*path, "condition"), plain)
                then, otherwise = (self._nested_block(data, path, key, scope) for key in ("then", "else"))
                return Condition(test, then, otherwise)
            case "switch":
                return self._switch(data, path, scope)
            case "branch":
                return self._branch(data, path, scope)
            case "loop":
                return self._loop(data, path, scope)
            case "workflow":
                target = self.template(data["workflow"], (*path, "workflow"), plain)
                return Workflow(target, self.template(data.get("input"), (*path, "input"), plain))
            case "assert":
                return self._assertion(data["assert"], (*path, "assert"), plain)
            case "python":
                return self._python(data, path, scope)
            case _:
                kind = self._kinds[name]
                return self._node_work(kind, data[name], (*path, name), plain if kind.wait is not None else scope)

    def template(self, value: Any, path: DataPath, scope: NameScope) -> Template:
        """Compile a value and check the names of its expressions."""

        def fault(inner: DataPath, error: ExpressionSyntaxError) -> None:
            self._findings.add_inside((*path, *inner), str(error), error.offset)

        template = compile_template(value, fault)
        self._check_names(template, value, path, scope)
        return template

    def test(self, value: Any, path: DataPath, scope: NameScope) -> Template:
        """Compile a value that must be exactly one expression; with other text beside it the result would be a text."""
        written = value.rstrip() if isinstance(value, str) else value  # a YAML block ends with a newline
        template = self.template(written, path, scope)
        is_text = type(template) is Text or (type(template) is Literal and template.value != written)
        if is_text and isinstance(written, str):
            message = "must be exactly one expression; with other text beside it the result is a text"
            self._findings.add_inside(path, message, 0)
        return template

    def _check_names(self, template: Template, value: Any, path: DataPath, scope: NameScope) -> None:
        match template:
            case Fields(fields=fields):
                for key, field in fields:
                    self._check_names(field, value[key], (*path, key), scope)
            case Items(items=items):
                for number, item in enumerate(items):
                    self._check_names(item, value[number], (*path, number), scope)
            case Whole() | Text():
                for expression in expressions_of(template):
                    for name, message in scope.scope_errors(expression, self._grants, self._nodes, path):
                        self._findings.add_inside(path, message, _offset_of(expression.text, name, value))

    def _nested_block(self, data: Mapping[str, Any], path: DataPath, key: str, scope: NameScope) -> Block:
        return self._block(data[key], (*path, key), scope) if key in data else Block(())

    # -- control -------------------------------------------------------------------------------------------------

    def _switch(self, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> Switch:
        value = self.template(data["switch"], (*path, "switch"), scope.without_secrets("switch"))
        blocks: list[tuple[str, Block]] = []
        others: dict[str, str] = {}
        for keys, nodes, values in case_lists(data.get("cases")):
            name, *more = [each if isinstance(each, str) else write_json(each) for each in values] or [""]
            for twice in {name, *more} & {*others, *(known for known, _ in blocks)}:
                self._findings.add((*path, "cases", *keys[:1]), f"the value {twice} has two cases")
            others |= dict.fromkeys(more, name)
            blocks.append((name, self._block(nodes, (*path, "cases", *keys), scope)))
        return Switch(value, tuple(blocks), self._nested_block(data, path, "default", scope), others)

    def _branch(self, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> ParallelBlocks:
        branches = data["branch"]
        compiled = []
        for name, each in branches.items() if isinstance(branches, Mapping) else ():
            inside, when = (*path, "branch", name), None
            if isinstance(each, list):
                compiled.append(ParallelBranch(str(name), None, self._block(each, inside, scope)))
                continue
            if not isinstance(each, Mapping):
                continue  # reported by the schema
            if "when" in each:
                when = self.test(each["when"], (*inside, "when"), scope.without_secrets("when"))
            compiled.append(ParallelBranch(str(name), when, self._block(each.get("do"), (*inside, "do"), scope)))
        return ParallelBlocks(tuple(compiled))

    def _loop(self, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> Loop | While:
        over = data["loop"]
        is_while = isinstance(over, Mapping)
        name = data["as"] if isinstance(data.get("as"), str) else "round" if is_while else "item"
        if "as" in data and (name in RESERVED_NAMES - {"item"} or scope.sees(name)):
            self._findings.add((*path, "as"), f"{name!r} has another meaning; choose another name for the item")
        inside = scope.with_names({name, "index"})
        do = self._nested_block(data, path, "do", inside)
        concurrency = data.get("concurrency", 1)
        if isinstance(over, Mapping):
            if "concurrency" in data:
                self._findings.add((*path, Key("concurrency")), "the rounds of while: run one after the other")
            test = self.test(over.get("while"), (*path, "loop", "while"), inside.without_secrets("while"))
            rounds = over.get("max_rounds")
            pause = self._pause(data, over["pause"], (*path, "loop", "pause"), inside) if "pause" in over else Block(())
            return While(test, rounds if type(rounds) is int else 1, name, do, pause)
        plain = scope.without_secrets("loop")
        items = self.test(over, (*path, "loop"), plain)
        return Loop(items, name, concurrency if type(concurrency) is int else 1, do)

    def _pause(self, data: Mapping[str, Any], duration: Any, path: DataPath, scope: NameScope) -> Block:
        """Return the block of the one node that waits between the rounds; no other node can have its id."""
        work = self._node_work(DELAY, duration, path, scope)
        return Block((GraphNode(id=f"{data.get('id')}.pause", task=work, after=(), path=path),))

    def _assertion(self, data: Any, path: DataPath, scope: NameScope) -> Assertion:
        checks = []
        for number, each in enumerate(data if isinstance(data, list) else ()):
            if not isinstance(each, Mapping):
                continue
            kinds = [kind for kind in CHECKS if kind in each]
            if len(kinds) != 1:
                continue  # reported by the schema
            kind, inside = kinds[0], (*path, number, kinds[0])
            operands = each[kind] if isinstance(each[kind], list) else [each[kind]]
            compiled = (
                [self.test(each[kind], inside, scope)]
                if kind == "holds"
                else [self.template(operand, (*inside, place), scope) for place, operand in enumerate(operands)]
            )
            if kind == "matches" and len(compiled) == MOST_OPERANDS:
                self._check_pattern(compiled[1], (*inside, 1))
            checks.append(Check(kind, tuple(compiled), str(each.get("message", ""))))
        return Assertion(tuple(checks))

    def _check_pattern(self, pattern: Template, path: DataPath) -> None:
        if type(pattern) is Literal and isinstance(pattern.value, str):
            try:
                compile_pattern(pattern.value)
            except ValueError as error:
                self._findings.add_inside(path, str(error), getattr(error, "offset", 0))

    # -- work ----------------------------------------------------------------------------------------------------

    def _python(self, data: Mapping[str, Any], path: DataPath, scope: NameScope) -> PythonCall:
        name = data["python"]
        if not isinstance(name, str):
            return PythonCall("", NOTHING)
        if not all(part.isidentifier() for part in name.split(".")):
            self._findings.add((*path, "python"), f"{name!r} is not the name of a function")
        return PythonCall(name, self.template(data.get("with", {}), (*path, "with"), scope))

    def _node_work(self, kind: Kind, value: Any, path: DataPath, scope: NameScope) -> NodeWork:
        options = kind.options_of(value)
        is_short = options is not value
        found = list(schema_check.problems(kind.schema, options, allows_expressions=True))
        for inner, message in found:
            self._findings.add(_source_path(kind, path, inner, is_short=is_short), message)
        if not isinstance(options, Mapping):
            if not found:
                known = ", ".join(kind.schema.get("properties", {}))
                self._findings.add(path, f"{kind.name} takes a mapping of its options ({known}), not one value")
            return NodeWork(kind, NOTHING, is_checked=False)
        fields: list[tuple[str, Template]] = []
        for key, each in options.items():
            inside = _source_path(kind, path, (key,), is_short=is_short)
            if key in kind.verbatim:
                fields.append((key, Literal(each)))
                continue
            if key in kind.lazy:
                self.template(each, inside, scope.only(kind.lazy_names))
                fields.append((key, Literal(each)))
                continue
            fields.append((key, self.template(each, inside, scope)))
        if not found:
            self._check_needs(kind, options, path)
        is_checked = all(type(template) is Literal for _, template in fields)
        if kind.wait is not None and is_checked and not found:
            try:
                kind.wait(options, None)
            except (TypeError, ValueError) as error:
                self._findings.add(path, str(error))
        return NodeWork(kind, Fields(tuple(fields)), is_checked=is_checked)

    def _check_needs(self, kind: Kind, options: Mapping[str, Any], path: DataPath) -> None:
        for need in kind.needs(options):
            refusal = self._grants.refusal(need)
            if refusal is not None:
                self._findings.add(path, refusal)


_NAME_CHARACTERS: Final = r"[A-Za-z0-9_]"


def _offset_of(expression: str, name: str, text: Any) -> int:
    """Return the offset in the text of a name in one of its expressions; of the expression if it is not found."""
    start: int = max(text.find(expression, max(text.find(OPENING), 0)), 0)
    word = f"(?<!{_NAME_CHARACTERS}){re.escape(name)}(?!{_NAME_CHARACTERS})"
    found = re.search(word, expression)
    return start + (found.start() if found else 0)


def _source_path(kind: Kind, path: DataPath, inner: DataPath, *, is_short: bool) -> DataPath:
    """Return the path of an option in the source, where it may be in short form."""
    return (*path, *inner[1:]) if is_short and inner and inner[0] == kind.shorthand else (*path, *inner)
