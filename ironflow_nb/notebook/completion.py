"""What Tab offers after ``%ironflow``, and in the quotes where a run wants one of its steps.

What Tab offers in a ``%%graph`` cell: keys, kinds and options by the schema, and the names in expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from inspect import isfunction
from typing import Any, Final, TypeAlias

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult

from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.notebook.graph_magic import MAGIC
from ironflow_nb.notebook.ironflow_magic import complete
from ironflow_nb.notebook.yaml_cursor import CursorPosition, OpenContainer, place_at

_MAGIC: Final = re.compile(r"\s*%ironflow\s+.*")
_STEP: Final = re.compile(r"""([A-Za-z_]\w*)(\.last)?\.(?:explain|debug|value|values|inputs)\(\s*(["'])([^"']*)$""")
_MOST: Final = 200


class RunMatcher:
    """Completes verbs, ids of runs and ids of steps, and where it knows some, nothing else is offered."""

    # What IPython's completer asks of a matcher.
    matcher_identifier: Final = "ironflow_nb.run"
    matcher_priority: Final = 0
    matcher_api_version: Final = 2

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.__qualname__ = type(self).__name__

    def __call__(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return what fits at the cursor."""
        line = context.line_with_cursor[: context.cursor_position]
        if _MAGIC.fullmatch(line):
            word = "" if line[-1].isspace() else line.split()[-1]
            return _result(complete(line), word)
        found = _STEP.search(line)
        return _result([], "") if found is None else _result(self._steps(found[1], is_last=bool(found[2])), found[4])

    def _steps(self, name: str, *, is_last: bool) -> list[str]:
        """Return the ids of the steps of the run that the variable holds, or of the last run of its flow."""
        held = self._shell.user_ns.get(name)
        try:
            run = held.last if is_last and isinstance(held, Runnable) else held
            steps = run.steps()["step"].tolist() if isinstance(run, Run) else []
        except IronflowError:
            return []
        return [step for step in steps[:_MOST] if step.isprintable()]


def _result(offered: list[str], word: str) -> SimpleMatcherResult:
    fitting = [SimpleCompletion(text=each, type="keyword") for each in offered if each.startswith(word)]
    return {"completions": fitting, "matched_fragment": word, "suppress": bool(fitting), "ordered": True}


_ALWAYS: Final = ("input", "env")

Schema: TypeAlias = Mapping[str, Any]


class GraphMatcher:
    """Completes in the cells of graphs, and nowhere else."""

    # What IPython's completer asks of a matcher.
    matcher_identifier: Final = "ironflow_nb.graph"
    matcher_priority: Final = 0
    matcher_api_version: Final = 2

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.__qualname__ = type(self).__name__

    def __call__(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return what fits at the cursor."""
        if not context.full_text.lstrip().startswith(MAGIC) or context.cursor_line == 0:
            return {"completions": []}
        lines = context.full_text.split("\n")
        before = [*lines[1 : context.cursor_line], lines[context.cursor_line][: context.cursor_position]]
        place = place_at("\n".join(before))
        found = dict.fromkeys(name for name in self.offered(place) if name.startswith(place.word))
        completions = [SimpleCompletion(text=name, type="keyword") for name in found]
        return {"completions": completions, "matched_fragment": place.word, "suppress": bool(found)}

    def offered(self, place: CursorPosition) -> list[str]:
        """Return what may stand at the place."""
        if place.is_expression and place.owner == "input":
            return place.frames[0].inputs
        if place.is_expression:
            return list(_in_expressions(place.frames))
        schema, mapping = _Schema(), place.frames[-1]
        found = schema.at(place)
        if not place.is_key:
            return [*_words(found), *self._known(place.frames)]
        return [key for each in found for key in schema.properties(each, mapping) if key not in mapping.values]

    def _known(self, frames: tuple[OpenContainer, ...]) -> Iterator[str]:
        """Yield the names that the value of a key of a node may have."""
        maps = [frame for frame in frames if not frame.is_list]
        match maps[-1].key:
            case "depends_on":
                yield from _earlier(frames)
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


def _in_expressions(frames: tuple[OpenContainer, ...]) -> Iterator[str]:
    """Yield the names that an expression at that place sees, and the functions that it may call."""
    from ironflow_nb.graphs.language.functions import known_functions

    yield from _earlier(frames)
    for frame in frames:
        if "loop" in frame.values:
            yield from (frame.values.get("as") or "item", "index")
        if frame.key == "on_error":
            yield "error"
    yield from _ALWAYS
    if "secrets" in frames[0].values:
        yield "secrets"
    yield from known_functions()


def _earlier(frames: tuple[OpenContainer, ...]) -> Iterator[str]:
    """Yield the ids of the nodes before this one, in its own list and in those around it."""
    own = {frame.values.get("id") for frame in frames}
    yield from (name for frame in frames for name in frame.ids if name and name not in own)


# -- the schema --------------------------------------------------------------------------------------------------


class _Schema:
    """The published schema, followed from its top to a place."""

    def __init__(self) -> None:
        from ironflow_nb.graphs.graph import Graph

        self._top: Schema = Graph.schema()
        self._node: Schema = self._top["$defs"]["node"]
        self._kinds = {way["required"][0] for way in self._node["oneOf"]}

    def at(self, place: CursorPosition) -> list[Schema]:
        """Return what may stand at the place; where a key is written, it is the mapping of that key."""
        found = [self._top]
        for depth, frame in enumerate(place.frames):
            if frame.is_list:
                found = list(_each(each["items"] for each in found if isinstance(each.get("items"), Mapping)))
            elif depth < len(place.frames) - 1 or not place.is_key:
                found = list(_each(self._property(each, frame) for each in found))
        return found

    def properties(self, schema: Schema, frame: OpenContainer) -> Schema:
        """Return the schemas of the keys of a mapping, of which some are there."""
        if "$ref" in schema:
            return self._of_node(frame)
        found: Schema = schema.get("properties", {})
        return found

    def _property(self, schema: Schema, frame: OpenContainer) -> Schema:
        found = self.properties(schema, frame).get(frame.key or "", schema.get("additionalProperties"))
        return found if isinstance(found, Mapping) else {}

    def _of_node(self, frame: OpenContainer) -> Schema:
        """Return the keys of a node: with a kind those that go with it, without one all kinds."""
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


def _each(schemas: Iterable[Any]) -> Iterator[Schema]:
    """Yield the schemas that say anything, and those that they are made of."""
    for schema in schemas:
        if isinstance(schema, Mapping):
            yield schema
            yield from _each([*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())])


def _words(schemas: list[Schema]) -> Iterator[str]:
    """Yield the values that schemas list."""
    for schema in schemas:
        listed = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
        yield from (value for value in listed if isinstance(value, str))
        if schema.get("type") == "boolean":
            yield from ("true", "false")
