"""Files of graphs: our own, and workflows of tagged YAML, recognised by their content."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from ironflow_nb.execution import REGISTRY
from ironflow_nb.graphs.compiler.graph_source import GraphSource, content_of, parse_source, write_yaml
from ironflow_nb.graphs.readers.tagged_yaml import is_tagged_yaml, read_tagged_yaml

_LOGGER: Final = "ironflow_nb.graph"


class GraphFilesMixin(ABC):
    """Reads files, for a class that is made of the source of a graph."""

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
        """Read a graph of ours, or import a workflow of tagged YAML (``!Http``, ``!Loop``, ...); nothing runs.

        `notes` has the places of an imported file that mean something else here; they are logged, and are comments in
        `to_yaml()`, which is the graph in our format.

        Args:
            path: the file.
            allow: bounds of what the file allows itself; see `from_yaml`.
            functions: functions by the names that nodes use; see `from_yaml`.
            providers: the file of the auth providers that an imported workflow names.
            lenient: what is missing is null in imported expressions, as it was there; by default it is an error.

        Raises:
            GraphInvalid: the file is no valid YAML, or has what can't be kept: all of it is listed with its lines.
            FileNotFoundError: a file does not exist.
        """
        place = Path(path)
        text, base = content_of(place), str(place.resolve().parent)
        notes: tuple[str, ...] = ()
        if is_tagged_yaml(text):
            given = None if providers is None else content_of(Path(providers))
            imported = read_tagged_yaml(text, given, is_lenient=lenient)
            notes = imported.notes
            comments = "".join(f"# {place.name}, {note}\n" for note in notes)
            text = comments + write_yaml(imported.data)
        graph = cls._from_source(parse_source(text, base), allow, functions)
        graph.notes = notes
        for note in notes:
            logging.getLogger(_LOGGER).warning("%s, %s", place.name, note)
        REGISTRY.define(graph)  # type: ignore[arg-type]
        return graph
