"""The input of a graph: what it declares, and what is said of a call that does not fit.

A declared input is a name with a type, and perhaps a default. Without a declaration a call may give anything, but not
leave out what a run would fail without.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from ironflow_nb.errors import InputInvalid
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.compiler.compiler_findings import CompilerFindings, format_path
from ironflow_nb.graphs.compiler.json_schema import TYPES
from ironflow_nb.graphs.language.data import as_data, closest, coerce_deep

INPUT: Final = "input"

_FOR_PEOPLE: Final = frozenset({"default", "description"})


class GraphInput(msgspec.Struct, frozen=True):
    """What a call may give: `declared` are the schemas by name, None without a declaration.

    Of those without a default each has to be given; `needed` are the names that nodes take for certain, with where.
    """

    declared: Mapping[str, Mapping[str, Any]] | None = None
    defaults: Mapping[str, Any] = {}
    needed: Mapping[str, str] = {}

    @property
    def names(self) -> frozenset[str] | None:
        """The names that there are, if they are declared."""
        return None if self.declared is None else frozenset(self.declared)

    def filled(self, given: Mapping[str, Any], graph: str) -> dict[str, Any]:
        """Return the input with its defaults.

        Raises:
            InputInvalid: it does not fit; everything that is wrong is said.
        """
        missing = {name: value for name, value in self.defaults.items() if name not in given}
        whole = {**given, **copy.deepcopy(missing)}
        wrong = list(self._faults(whole))
        if wrong:
            takes = f"\n  it takes {self._spoken()}" if self.declared else ""
            told = "\n".join(f"  {each}" for each in wrong)
            raise InputInvalid(f"the input does not fit graph {graph}, and nothing has run:\n{told}{takes}", name=graph)
        return whole

    def refuse_names(self, names: Iterable[str], graph: str, node: str) -> None:
        """Refuse what a node gives the graph as its child, as far as its names tell.

        Raises:
            InputInvalid: one is unknown or missing.
        """
        given = dict.fromkeys(names)
        wrong = [*self._missing({**self.defaults, **given}), *self._unknown(given)]
        if wrong:
            told = "\n".join(f"  {each}" for each in wrong)
            raise InputInvalid(f"{node}: the input does not fit graph {graph}:\n{told}", name=graph)

    def _faults(self, whole: Mapping[str, Any]) -> Iterator[str]:
        yield from self._unknown(whole)
        yield from self._missing(whole)
        for name, part in (self.declared or {}).items():
            if name in whole:
                yield from _faults(part, whole[name], name)

    def _unknown(self, given: Iterable[str]) -> Iterator[str]:
        if self.declared is not None:
            for name in given:
                if name not in self.declared:
                    yield f"there is no input {name!r}{schema_check.suggestion(str(name), self.declared)}"

    def _missing(self, given: Mapping[str, Any]) -> Iterator[str]:
        if self.declared is not None:
            yield from (f"{name} is missing" for name in self.declared if name not in given)
            return
        for name, where in self.needed.items():
            if name not in given:
                meant_as = closest(name, [each for each in given if each not in self.needed])
                instead = f"; did you mean it by {meant_as}?" if meant_as else ""
                shown = ", ".join(map(str, given)) or "nothing"
                yield f"{name} is missing, which {where} takes (given: {shown}){instead}"

    def _spoken(self) -> str:
        return ", ".join(map(self._described, self.declared or ()))

    def _described(self, name: str) -> str:
        assert self.declared is not None
        kind = self.declared[name].get("type")
        told = name if kind is None else f"{name}: {kind if isinstance(kind, str) else ' or '.join(kind)}"
        if name in self.defaults:
            told += f" = {msgspec.json.encode(self.defaults[name], enc_hook=repr).decode()[:40]}"
        return told


def declared_inputs(data: Any, findings: CompilerFindings) -> GraphInput:
    """Return what the value of ``input:`` declares, as far as it is sound; what is not is found by its schema."""
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
                for message in _faults(declared[str(name)], default, ""):
                    findings.add((INPUT, name, "default"), message)
            else:
                declared[str(name)] = _or_null(declared[str(name)])
    return GraphInput(declared, defaults)


def _schema_of(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is written of a type as JSON schema has it; what it can't be is left out, and found elsewhere."""
    found = {key: each for key, each in written.items() if key not in _FOR_PEOPLE}
    if "type" in found:
        found["type"] = kinds = _types(found["type"])
        if not kinds:
            del found["type"]
    if "items" in found:
        inner = found["items"]
        found["items"] = _schema_of({"type": inner} if isinstance(inner, str) else _mapping(inner))
    sound = {"enum": list, "minimum": int | float, "maximum": int | float}
    return {key: each for key, each in found.items() if key not in sound or isinstance(each, sound[key])}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _types(value: Any) -> str | list[str]:
    if isinstance(value, str):
        return TYPES.get(value, "")
    listed = value if isinstance(value, list) else []
    return list(dict.fromkeys(TYPES[each] for each in listed if isinstance(each, str) and each in TYPES))


def _or_null(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with null allowed: the default may be given, too."""
    return {"anyOf": [dict(part), {"type": "null"}], **({"type": _with_null(part["type"])} if "type" in part else {})}


def _with_null(kinds: str | list[str]) -> list[str]:
    return list(dict.fromkeys([*([kinds] if isinstance(kinds, str) else kinds), "null"]))


def _faults(part: Mapping[str, Any], value: Any, name: str) -> Iterator[str]:
    """Yield what of the value does not fit the schema of its input, after the name where there is one."""
    value = as_data(value)
    with suppress(ValueError):  # a decimal that no number of JSON is
        value = coerce_deep(value)
    told: dict[str, None] = {}
    for path, message in schema_check.problems({"properties": {INPUT: part}}, {INPUT: value}, allows_expressions=False):
        inner = format_path((name, *path[1:]) if name else path[1:])
        told[f"{inner}: {message}" if inner else message] = None
    yield from told
