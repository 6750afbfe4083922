"""The input of a graph: its declaration, and the check of the values of a call.

A declared input has a name, a type and possibly a default. Without a declaration a call may give any values, but it
must give those that every run needs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from ironflow_nb.errors import InputInvalid
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFindings, format_path
from ironflow_nb.graphs.compiler.json_schema import SHORT_TYPE, TYPES
from ironflow_nb.graphs.language.data import as_data, closest, coerce_deep, read_json

INPUT: Final = "input"

_SHORT: Final = re.compile(SHORT_TYPE, re.DOTALL)

_NOT_IN_SCHEMA: Final = frozenset({"default", "description"})


class GraphInput(msgspec.Struct, frozen=True):
    """The inputs of a graph: `declared` are their JSON schemas by name, None without a declaration.

    A declared input without a default must be given. `needed` are the inputs that every run of an undeclared graph
    reads, each with the id of a node that reads it.
    """

    declared: Mapping[str, Mapping[str, Any]] | None = None
    defaults: Mapping[str, Any] = {}
    needed: Mapping[str, str] = {}

    @property
    def names(self) -> frozenset[str] | None:
        """The declared names; None without a declaration."""
        return None if self.declared is None else frozenset(self.declared)

    def with_defaults(self, given: Mapping[str, Any], graph: str) -> dict[str, Any]:
        """Return the input completed by its defaults.

        Raises:
            InputInvalid: the input does not fit; the message lists all errors.
        """
        missing = {name: value for name, value in self.defaults.items() if name not in given}
        whole = {**given, **copy.deepcopy(missing)}
        wrong = list(self._errors(whole))
        if wrong:
            takes = f"\n  it takes {self._declaration_text()}" if self.declared else ""
            lines = "\n".join(f"  {each}" for each in wrong)
            raise InputInvalid(
                f"the input does not fit graph {graph}, and nothing has run:\n{lines}{takes}", name=graph
            )
        return whole

    def refuse_names(self, names: Iterable[str], graph: str, node: str) -> None:
        """Check the names that a node of another graph passes to this one as its child; values are checked at the call.

        Raises:
            InputInvalid: a name is unknown or missing.
        """
        given = dict.fromkeys(names)
        wrong = [*self._missing({**self.defaults, **given}), *self._unknown(given)]
        if wrong:
            lines = "\n".join(f"  {each}" for each in wrong)
            raise InputInvalid(f"{node}: the input does not fit graph {graph}:\n{lines}", name=graph)

    def _errors(self, whole: Mapping[str, Any]) -> Iterator[str]:
        yield from self._unknown(whole)
        yield from self._missing(whole)
        for name, part in (self.declared or {}).items():
            if name in whole:
                yield from _schema_errors(part, whole[name], name)

    def _unknown(self, given: Iterable[str]) -> Iterator[str]:
        if self.declared is not None:
            for name in given:
                if name not in self.declared:
                    yield f"there is no input {name!r}{schema_check.suggestion(str(name), self.declared)}"

    def _missing(self, given: Mapping[str, Any]) -> Iterator[str]:
        if self.declared is not None:
            yield from (f"{name} is missing" for name in self.declared if name not in given)
            return
        for name, node in self.needed.items():
            if name not in given:
                given_name = closest(name, [each for each in given if each not in self.needed])
                hint = f"; did you mean it by {given_name}?" if given_name else ""
                shown = ", ".join(map(str, given)) or "nothing"
                yield f"{name} is missing, which {node} reads (given: {shown}){hint}"

    def _declaration_text(self) -> str:
        return ", ".join(map(self._input_text, self.declared or ()))

    def _input_text(self, name: str) -> str:
        assert self.declared is not None
        kind = self.declared[name].get("type")
        text = name if kind is None else f"{name}: {kind if isinstance(kind, str) else ' or '.join(kind)}"
        if name in self.defaults:
            text += f" = {msgspec.json.encode(self.defaults[name], enc_hook=repr).decode()[:40]}"
        return text


def written_out(declared: Any) -> Any:
    """Return the declarations with ``text?`` and ``integer = 3`` as mappings, all others as they are."""
    if not isinstance(declared, Mapping):
        return declared
    return {name: _written_out(each) if isinstance(each, str) else each for name, each in declared.items()}


def _written_out(text: str) -> Any:
    found = _SHORT.fullmatch(text)
    if found is None:
        return text
    kind, written = found["type"], found["default"]
    if written is None:
        return {"type": kind, "default": None}
    try:
        default = read_json(written)
    except (ValueError, RecursionError):
        default = written
    is_text = TYPES.get(kind) == "string" and not isinstance(default, str)
    return {"type": kind, "default": written if is_text else default}


def declared_inputs(data: Any, findings: CompilerFindings) -> GraphInput:
    """Return the declaration in ``input:``. Invalid parts are left out; the schema of graphs reports them."""
    if not isinstance(data, Mapping):
        return GraphInput()
    declared: dict[str, Mapping[str, Any]] = {}
    defaults: dict[str, Any] = {}
    for name, each in data.items():
        written = {"type": each} if isinstance(each, str) else each if isinstance(each, Mapping) else {}
        declared[str(name)] = _schema_of(written)
        if "default" in written:
            defaults[str(name)] = default = written["default"]
            if schema_check.has_expression(default):
                findings.add((INPUT, name, "default"), "an expression can't stand here")
            elif default is not None:
                for message in _schema_errors(declared[str(name)], default, ""):
                    findings.add((INPUT, name, "default"), message)
            else:
                declared[str(name)] = _or_null(declared[str(name)])
    return GraphInput(declared, defaults)


def _schema_of(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a declared type. Invalid parts are left out; the schema of graphs reports them."""
    found = {key: each for key, each in written.items() if key not in _NOT_IN_SCHEMA}
    if "type" in found:
        found["type"] = kinds = _types(found["type"])
        if not kinds:
            del found["type"]
    if "items" in found:
        inner = found["items"]
        found["items"] = _schema_of({"type": inner} if isinstance(inner, str) else _mapping(inner))
    valid_types = {"enum": list, "minimum": int | float, "maximum": int | float}
    return {key: each for key, each in found.items() if key not in valid_types or isinstance(each, valid_types[key])}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _types(value: Any) -> str | list[str]:
    if isinstance(value, str):
        return TYPES.get(value, "")
    listed = value if isinstance(value, list) else []
    return list(dict.fromkeys(TYPES[each] for each in listed if isinstance(each, str) and each in TYPES))


def _or_null(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with null allowed, because a call may give the default null itself."""
    return {"anyOf": [dict(part), {"type": "null"}], **({"type": _with_null(part["type"])} if "type" in part else {})}


def _with_null(kinds: str | list[str]) -> list[str]:
    return list(dict.fromkeys([*([kinds] if isinstance(kinds, str) else kinds), "null"]))


def _schema_errors(part: Mapping[str, Any], value: Any, name: str) -> Iterator[str]:
    """Yield each error of the value with its path, which begins with the name unless that is empty."""
    value = as_data(value)
    with suppress(ValueError):  # a decimal that JSON can't represent
        value = coerce_deep(value)
    messages: dict[str, None] = {}
    for path, message in schema_check.problems({"properties": {INPUT: part}}, {INPUT: value}, allows_expressions=False):
        inner = format_path((name, *path[1:]) if name else path[1:])
        messages[f"{inner}: {message}" if inner else message] = None
    yield from messages
