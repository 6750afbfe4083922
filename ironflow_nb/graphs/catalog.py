"""The catalog of all kinds of work nodes: of this package, of installed packages, and of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import REGISTRY
from ironflow_nb.graphs.kinds import Kind, kind_from_function
from ironflow_nb.graphs.nodes.archives import UNZIP, ZIP
from ironflow_nb.graphs.nodes.aws_lambda import LAMBDA
from ironflow_nb.graphs.nodes.cached_values import CACHE_GET, CACHE_SET
from ironflow_nb.graphs.nodes.dates import DATE
from ironflow_nb.graphs.nodes.documents import DOCUMENT
from ironflow_nb.graphs.nodes.emit import EMIT_EVENT
from ironflow_nb.graphs.nodes.files import FILE
from ironflow_nb.graphs.nodes.html_texts import HTML, MARKDOWN
from ironflow_nb.graphs.nodes.http import HTTP
from ironflow_nb.graphs.nodes.language_models import EMBED, LLM
from ironflow_nb.graphs.nodes.lua import LUA
from ironflow_nb.graphs.nodes.mcp_servers import MCP
from ironflow_nb.graphs.nodes.messages import EMAIL, SLACK
from ironflow_nb.graphs.nodes.shell import SHELL
from ironflow_nb.graphs.nodes.spreadsheets import XLSX
from ironflow_nb.graphs.nodes.sql import SQL
from ironflow_nb.graphs.nodes.texts import FORMAT, HASH, LOG, PARSE, TEMPLATE
from ironflow_nb.graphs.nodes.transform import BATCH, DEDUPLICATE, FILTER, FOREACH, TRANSFORM
from ironflow_nb.graphs.nodes.validation import VALIDATE
from ironflow_nb.graphs.nodes.waits import APPROVE, DELAY, WAIT

if TYPE_CHECKING:
    import pandas as pd

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_POINTS: Final = "ironflow_nb.nodes"
"""The entry point group of installed packages; an entry point is a `Kind` or a function."""

NODE_KINDS: Final = "kinds of nodes"
"""Under this the process knows the kinds that users have added."""

BUILT_IN: Final = {
    kind.name: kind
    for kind in (
        HTTP,
        LAMBDA,
        SHELL,
        FILE,
        ZIP,
        UNZIP,
        SQL,
        XLSX,
        DOCUMENT,
        LLM,
        EMBED,
        MCP,
        EMAIL,
        SLACK,
        LUA,
        TRANSFORM,
        FILTER,
        FOREACH,
        BATCH,
        DEDUPLICATE,
        VALIDATE,
        PARSE,
        FORMAT,
        TEMPLATE,
        HTML,
        MARKDOWN,
        DATE,
        HASH,
        LOG,
        CACHE_GET,
        CACHE_SET,
        EMIT_EVENT,
        DELAY,
        WAIT,
        APPROVE,
    )
}


@overload
def node(
    name: str, /, *, description: str | None = None, schema: Mapping[str, Any] | None = None
) -> Callable[[F], F]: ...
@overload
def node(name: F, /) -> F: ...
def node(
    name: str | F, /, *, description: str | None = None, schema: Mapping[str, Any] | None = None
) -> F | Callable[[F], F]:
    """Make a function a kind of node: ``@iron.node("shout")``, then ``shout: {text: "{{ input.name }}"}``.

    Its parameters are the options. ``shout: value`` is short for the only parameter, or the only one without a default.
    A parameter named `context` gets the `NodeContext`. The function may be ``async def``.

    Args:
        name: the key of the kind in a graph: letters, digits and underscores.
        description: the description in `iron.nodes()`; by default the first line of the docstring.
        schema: the JSON schema of the options; by default read from the annotations of the parameters.

    Raises:
        DefinitionError: it is not a function, or the name belongs to a kind of the package.
    """
    if not isinstance(name, str):
        if not isinstance(getattr(name, "__name__", None), str):
            raise DefinitionError(f"a kind of node needs a function with a name, not {name!r}; use @iron.node(NAME)")
        return node(name.__name__)(name)
    chosen: str = name

    def register(function: F) -> F:
        if chosen in BUILT_IN:
            raise DefinitionError(
                f"a kind of node can't be called {chosen!r}, because the package has a kind of that name (iron.nodes() "
                f"lists them); choose another name, such as 'my_{chosen}'"
            )
        REGISTRY.registered[NODE_KINDS][chosen] = kind_from_function(
            chosen, function, description=description, schema=schema
        )
        return function

    return register


def registered() -> Mapping[str, Kind]:
    """Return the kinds that users have added in this process, by name."""
    return REGISTRY.registered[NODE_KINDS]


def kinds() -> Mapping[str, Kind]:
    """Return all kinds by name; a kind of the user replaces an installed one of the same name."""
    return BUILT_IN | _installed() | REGISTRY.registered[NODE_KINDS]


@cache
def _installed() -> dict[str, Kind]:
    from importlib.metadata import entry_points

    found = {}
    for entry in entry_points(group=ENTRY_POINTS):
        offered = entry.load()
        kind = offered if isinstance(offered, Kind) else kind_from_function(entry.name, offered)
        if kind.name in BUILT_IN:
            raise DefinitionError(f"{entry.value} offers the kind of node {kind.name!r}, which the package has already")
        found[kind.name] = kind
    return found


def nodes() -> pd.DataFrame:
    """Return the kinds of work nodes, one per row, sorted by name.

    Columns: kind (str), description (str), schema (object; the JSON schema of the options, a dict), shorthand (str; the
    option that ``kind: value`` sets, missing if there is none), source (str; package, installed or user).
    """
    import pandas as pd

    rows = [
        (kind.name, kind.description, dict(kind.schema), kind.shorthand, _source(name))
        for name, kind in sorted(kinds().items())
    ]
    frame = pd.DataFrame(rows, columns=["kind", "description", "schema", "shorthand", "source"])
    return frame.astype({"kind": "str", "description": "str", "schema": "object", "shorthand": "str", "source": "str"})


def _source(name: str) -> str:
    if name in registered():
        return "user"
    return "package" if name in BUILT_IN else "installed"
