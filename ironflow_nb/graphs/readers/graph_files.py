"""Files of graphs: our own, workflows of tagged YAML, recognised by their content, and flows of Lua, by their name."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec.structs import replace

from ironflow_nb.execution import REGISTRY
from ironflow_nb.graphs.compiler.graph_source import GraphSource, content_of, parse_source, write_yaml
from ironflow_nb.graphs.readers.imported_graph import ImportedGraph
from ironflow_nb.graphs.readers.lua_flow import read_lua_flow
from ironflow_nb.graphs.readers.tagged_yaml import is_tagged_yaml, read_tagged_yaml

_LOGGER: Final = "ironflow_nb.graph"


class GraphFilesMixin(ABC):
    """Reads files, for a class that is made of the source of a graph."""

    name: str
    notes: tuple[str, ...] = ()
    """What means something else here than in the imported file, each with its line; empty for a file of ours."""

    @classmethod
    @abstractmethod
    def _from_source(
        cls, source: GraphSource, allow: Mapping[str, Any] | None, functions: Mapping[str, Callable[..., Any]] | None
    ) -> Self: ...

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        allow: Mapping[str, Any] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        providers: str | Path | None = None,
        lenient: bool = False,
    ) -> Self:
        """Read a graph of ours, or import a flow of Lua or of tagged YAML (``!Http``, ``!Loop``, ...); no step runs.

        `notes` has the places of an imported file that mean something else here; they are logged, and are comments in
        `to_yaml()`, which is the graph in our format.

        Args:
            path: the file; one that ends in ``.lua`` is run in a sandbox to describe its steps, and the files that it
                runs as its children are read, too.
            allow: bounds of what the file allows itself; see `from_yaml`.
            functions: functions by the names that nodes use; see `from_yaml`.
            providers: the file of the auth providers that an imported workflow names.
            lenient: what is missing is null in imported expressions, or an empty text, as it was there; by default it
                is an error.

        Raises:
            GraphInvalid: the file is no valid YAML or Lua, or has what can't be kept: all of it is listed with its
                lines.
            FileNotFoundError: a file does not exist.
        """
        given = None if providers is None else content_of(Path(providers))
        return cls._read_file(Path(path), allow, functions, _Import(given, is_lenient=lenient))

    @classmethod
    def _read_file(
        cls,
        place: Path,
        allow: Mapping[str, Any] | None,
        functions: Mapping[str, Callable[..., Any]] | None,
        how: _Import,
    ) -> Self:
        text, base = content_of(place), str(place.resolve().parent)

        def read_child(file: str) -> str:
            return cls._read_file(place.parent / file, allow, functions, how.within(place)).name

        imported = how.imported(place, text, read_child)
        notes = () if imported is None else imported.notes
        if imported is not None:
            comments = "".join(f"# {place.name}, {note}\n" for note in notes)
            text = comments + write_yaml(imported.data)
        graph = cls._from_source(parse_source(text, base), allow, functions)
        graph.notes = notes
        for note in notes:
            logging.getLogger(_LOGGER).warning("%s, %s", place.name, note)
        REGISTRY.define(graph)  # type: ignore[arg-type]
        return graph


class _Import(msgspec.Struct, frozen=True):
    """How a file is imported: with the text of its auth providers, and within the files that it is a child of."""

    providers: str | None
    is_lenient: bool
    parents: tuple[Path, ...] = ()

    def within(self, place: Path) -> _Import:
        """Return how a child of that file is imported."""
        return replace(self, parents=(*self.parents, place.resolve()))

    def imported(self, place: Path, text: str, read_child: Callable[[str], str]) -> ImportedGraph | None:
        """Return the graph of a file of another engine; None for one of ours."""
        if place.resolve() in self.parents:
            raise ValueError(f"its child {place.name} runs it again; a graph that runs itself is written in our format")
        if place.suffix == ".lua":
            return read_lua_flow(text, read_child, is_lenient=self.is_lenient)
        return read_tagged_yaml(text, self.providers, is_lenient=self.is_lenient) if is_tagged_yaml(text) else None
