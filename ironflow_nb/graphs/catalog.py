"""Every kind of work node: those of the package, of installed packages, and of the user."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from ironflow_nb.errors import DefinitionError
from ironflow_nb.graphs.kinds import REGISTERED, Kind, kind_of
from ironflow_nb.graphs.nodes.aws_lambda import LAMBDA
from ironflow_nb.graphs.nodes.files import FILE
from ironflow_nb.graphs.nodes.http import HTTP
from ironflow_nb.graphs.nodes.shaping import FILTER, FOREACH, TRANSFORM
from ironflow_nb.graphs.nodes.shell import SHELL
from ironflow_nb.graphs.nodes.sql import SQL
from ironflow_nb.graphs.nodes.texts import FORMAT, HASH, LOG, PARSE, TEMPLATE

if TYPE_CHECKING:
    import pandas as pd

ENTRY_POINTS: Final = "ironflow_nb.nodes"
"""The group of entry points that installed packages offer kinds of nodes under: a `Kind`, or a function."""

BUILT_IN: Final = {
    kind.name: kind
    for kind in (HTTP, LAMBDA, SHELL, FILE, SQL, TRANSFORM, FILTER, FOREACH, PARSE, FORMAT, TEMPLATE, HASH, LOG)
}


def kinds() -> Mapping[str, Kind]:
    """Return every kind by name; one of the user goes before one of the same name that is not."""
    return BUILT_IN | _installed() | REGISTERED.by_name


@cache
def _installed() -> dict[str, Kind]:
    from importlib.metadata import entry_points  # noqa: PLC0415 -- it reads the folders of all packages

    found = {}
    for entry in entry_points(group=ENTRY_POINTS):
        offered = entry.load()
        kind = offered if isinstance(offered, Kind) else kind_of(entry.name, offered)
        if kind.name in BUILT_IN:
            raise DefinitionError(f"{entry.value} offers the kind of node {kind.name!r}, which graphs have already")
        found[kind.name] = kind
    return found


def nodes() -> pd.DataFrame:
    """Return the kinds of work nodes, one a row, by name.

    Columns: kind, description, schema (the JSON schema of its options, a dict), shorthand (the option that
    ``kind: value`` means; missing where there is none), source (package, installed, user).
    """
    import pandas as pd  # noqa: PLC0415 -- half a second that only who asks waits

    rows = [
        (kind.name, kind.description, dict(kind.schema), kind.shorthand, _source(name))
        for name, kind in sorted(kinds().items())
    ]
    frame = pd.DataFrame(rows, columns=["kind", "description", "schema", "shorthand", "source"])
    return frame.astype({"kind": "str", "description": "str", "schema": "object", "shorthand": "str", "source": "str"})


def _source(name: str) -> str:
    if name in REGISTERED.by_name:
        return "user"
    return "package" if name in BUILT_IN else "installed"
