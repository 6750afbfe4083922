"""Completion in a ``%%graph`` cell: keys, kinds and options by the schema, and the names in expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any, Final, TypeAlias

from IPython.core.completer import CompletionContext, SimpleMatcherResult

from ironflow_nb.core.status import RunKind
from ironflow_nb.execution import REGISTRY
from ironflow_nb.notebook.graph_magic import MAGIC
from ironflow_nb.notebook.matcher import Matcher, matches

_WORD: Final = re.compile(r"[A-Za-z0-9_]*\Z")
_OWNER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\.\Z")
_KEY: Final = re.compile(r"""(["']?)([A-Za-z0-9_.\-]+)\1\s*:(?=\s|\Z)""")
_DASH: Final = re.compile(r"-(\s+|\Z)")
_SCALAR: Final = re.compile(r"[A-Za-z0-9_.\-]+")
_BRACES: Final = {"{": False, "[": True}
_BRACES_COLUMN: Final = -1


@dataclass
class OpenContainer:
    """A mapping or list that is open at the cursor; `key` is the key whose value is being written.

    `values` are the scalars of a mapping by key, `ids` those of the nodes of a list, and `inputs` the declared inputs
    of the graph, if it is the outermost mapping.
    """

    is_list: bool
    column: int
    values: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    key: str | None = None


@dataclass(frozen=True)
class CursorPosition:
    """The position of the cursor: the open mappings and lists, outermost first, and the word before it.

    `is_key` means that a key is being written. In an expression the word is a field of the name `owner`.
    """

    frames: tuple[OpenContainer, ...]
    word: str
    is_key: bool
    is_expression: bool
    owner: str = ""


def cursor_position(text: str) -> CursorPosition:
    """Return the position at the end of the text."""
    *lines, last = text.split("\n")
    reader = _LineReader()
    for line in lines:
        reader.line(line)
    word = _WORD.search(last)
    assert word is not None  # the pattern also matches an empty word
    reader.line(before := last[: word.start()], is_last=True)
    is_expression = before.rfind("{{") > before.rfind("}}")
    owner = _OWNER.search(before)
    return CursorPosition(tuple(reader.frames), word[0], reader.is_at_key, is_expression, owner[1] if owner else "")


class _LineReader:
    """Reads line after line; `frames` are the open containers, the outermost first."""

    def __init__(self) -> None:
        self.frames = [OpenContainer(is_list=False, column=0)]
        self.is_at_key = True

    def line(self, line: str, *, is_last: bool = False) -> None:
        self.is_at_key = False
        rest = line.lstrip(" ")
        if self.frames[-1].column == _BRACES_COLUMN:
            self._read_braces(line)
            return
        if not is_last and (not rest or rest.startswith("#")):
            return
        column, is_item = len(line) - len(rest), False
        while (dash := _DASH.match(rest)) is not None:
            self._begin_item(column, is_inner=is_item)
            column, rest, is_item = column + dash.end(), rest[dash.end() :], True
        key = _KEY.match(rest)
        if key is not None or not rest:
            self._begin_mapping(column, is_item=is_item)
            self.is_at_key = key is None
        if key is not None:
            self._begin_key(key[2], rest[key.end() :])
            rest = rest[key.end() :]
        self._read_braces(rest)

    def _begin_item(self, column: int, *, is_inner: bool) -> None:
        """Begin an item of the list in that column."""
        if not is_inner:
            self._close_frames(lambda frame: frame.column > column)
        if not (self.frames[-1].is_list and self.frames[-1].column == column):
            self.frames.append(OpenContainer(is_list=True, column=column))

    def _begin_mapping(self, column: int, *, is_item: bool) -> None:
        """Continue the mapping in that column, or begin one."""
        if not is_item:
            self._close_frames(lambda frame: frame.column > column or (frame.is_list and frame.column == column))
        if self.frames[-1].is_list or self.frames[-1].column < column:
            self.frames.append(OpenContainer(is_list=False, column=column))

    def _close_frames(self, is_over: Callable[[OpenContainer], bool]) -> None:
        while len(self.frames) > 1 and is_over(self.frames[-1]):
            self.frames.pop()

    def _begin_key(self, key: str, value: str) -> None:
        """Note a key of the innermost mapping, and its value if that is a scalar."""
        frame = self.frames[-1]
        scalar = _SCALAR.match(value.strip(" \"'"))
        frame.key = key
        frame.values[key] = "" if scalar is None else scalar[0]
        if len(self.frames) == 2 and self.frames[0].key == "input":
            self.frames[0].inputs.append(key)
        if key == "id" and len(self.frames) > 1 and self.frames[-2].is_list:
            self.frames[-2].ids.append(frame.values[key])

    def _read_braces(self, text: str) -> None:
        """Read braces and brackets, and the keys in them."""
        position, quote = 0, ""
        while position < len(text):
            char, inside = text[position], self.frames[-1].column == _BRACES_COLUMN
            if quote:
                quote = "" if char == quote else quote
            elif char in "\"'":
                quote = char
            elif char in _BRACES and (inside or not text[:position].strip()):
                self.frames.append(OpenContainer(is_list=_BRACES[char], column=_BRACES_COLUMN))
            elif inside and char in "}]":
                self.frames.pop()
            elif inside and char == ",":
                self.frames[-1].key = None
            elif inside and not self.frames[-1].is_list and self.frames[-1].key is None:
                key = _KEY.match(text, position)
                if key is not None:
                    position = key.end() - 1
                    self._begin_key(key[2], re.split(r"[,}]", text[key.end() :], maxsplit=1)[0])
            position += 1
        frame = self.frames[-1]
        if frame.column == _BRACES_COLUMN:
            self.is_at_key = not quote and not frame.is_list and frame.key is None


_ALWAYS: Final = ("input", "env")

Schema: TypeAlias = Mapping[str, Any]


class GraphMatcher(Matcher):
    """Completes in the cells of graphs, and nowhere else."""

    matcher_identifier: Final = "ironflow_nb.graph"

    def __call__(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return what fits at the cursor."""
        if not context.full_text.lstrip().startswith(MAGIC) or context.cursor_line == 0:
            return {"completions": []}
        lines = context.full_text.split("\n")
        before = [*lines[1 : context.cursor_line], lines[context.cursor_line][: context.cursor_position]]
        position = cursor_position("\n".join(before))
        return matches(sorted(set(self.candidates(position))), position.word)

    def candidates(self, position: CursorPosition) -> list[str]:
        """Return the names that are allowed at the position."""
        if position.is_expression and position.owner == "input":
            return position.frames[0].inputs
        if position.is_expression:
            return list(_expression_names(position.frames))
        schema, mapping = _Schema(), position.frames[-1]
        found = schema.at(position)
        if not position.is_key:
            return [*_listed_values(found), *self._known_names(position.frames)]
        return [key for each in found for key in schema.properties(each, mapping) if key not in mapping.values]

    def _known_names(self, frames: tuple[OpenContainer, ...]) -> Iterator[str]:
        """Yield the names that are allowed as the value of the current key of a node."""
        maps = [frame for frame in frames if not frame.is_list]
        match maps[-1].key:
            case "depends_on":
                yield from _earlier_nodes(frames)
            case "python":
                hidden = self._shell.user_ns_hidden
                names = self._shell.user_ns.items()
                yield from (name for name, each in names if name not in hidden and _is_function(name, each))
            case "workflow":
                yield from (
                    known.name for kind in (RunKind.GRAPH, RunKind.FLOW) for known in REGISTRY.definitions(kind)
                )


def _is_function(name: str, value: Any) -> bool:
    return not name.startswith("_") and (isfunction(value) or hasattr(type(value), "submit"))


def _expression_names(frames: tuple[OpenContainer, ...]) -> Iterator[str]:
    """Yield the names that are visible to an expression at that position, and the functions."""
    from ironflow_nb.graphs.language.functions import known_functions

    yield from _earlier_nodes(frames)
    for frame in frames:
        if "loop" in frame.values:
            yield from (frame.values.get("as") or "item", "index")
        if frame.key == "on_error":
            yield "error"
    yield from _ALWAYS
    if "secrets" in frames[0].values:
        yield "secrets"
    yield from known_functions()


def _earlier_nodes(frames: tuple[OpenContainer, ...]) -> Iterator[str]:
    """Yield the ids of the nodes before this one, in its own list and in those around it."""
    own = {frame.values.get("id") for frame in frames}
    yield from (name for frame in frames for name in frame.ids if name and name not in own)


# -- the schema --------------------------------------------------------------------------------------------------


class _Schema:
    """The published schema, followed from its top to a position."""

    def __init__(self) -> None:
        from ironflow_nb.graphs.graph import Graph

        self._top: Schema = Graph.schema()
        self._node: Schema = self._top["$defs"]["node"]
        self._kinds = {way["required"][0] for way in self._node["oneOf"]}

    def at(self, position: CursorPosition) -> list[Schema]:
        """Return the schemas at the position; where a key is written, those of its mapping."""
        found = [self._top]
        for depth, frame in enumerate(position.frames):
            if frame.is_list:
                found = list(_alternatives(each["items"] for each in found if isinstance(each.get("items"), Mapping)))
            elif depth < len(position.frames) - 1 or not position.is_key:
                found = list(_alternatives(self._property(each, frame) for each in found))
        return found

    def properties(self, schema: Schema, frame: OpenContainer) -> Schema:
        """Return the schemas of the keys that a mapping may have, by key."""
        if "$ref" in schema:
            return self._node_properties(frame)
        found: Schema = schema.get("properties", {})
        return found

    def _property(self, schema: Schema, frame: OpenContainer) -> Schema:
        found = self.properties(schema, frame).get(frame.key or "", schema.get("additionalProperties"))
        return found if isinstance(found, Mapping) else {}

    def _node_properties(self, frame: OpenContainer) -> Schema:
        """Return the schemas of the keys of a node: those of its kind, or all if it has no kind yet."""
        kind = next((key for key in frame.values if key in self._kinds), None)
        kinds = self._kinds if kind is None else {kind}
        needing = self._node["dependentRequired"]
        owners = {key: owner for key, (owner, *_) in needing.items() if key not in self._kinds}
        without = self._node["dependentSchemas"].get(kind, {}).get("properties", {})
        return {
            key: schema
            for key, schema in self._node["properties"].items()
            if key not in without and (key in kinds or key not in self._kinds) and owners.get(key, kind) == kind
        }


def _alternatives(schemas: Iterable[Any]) -> Iterator[Schema]:
    """Yield the schemas that are mappings, and their alternatives."""
    for schema in schemas:
        if isinstance(schema, Mapping):
            yield schema
            yield from _alternatives([*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())])


def _listed_values(schemas: list[Schema]) -> Iterator[str]:
    """Yield the enumerated values of the schemas."""
    for schema in schemas:
        listed = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
        yield from (value for value in listed if isinstance(value, str))
        if schema.get("type") == "boolean":
            yield from ("true", "false")
