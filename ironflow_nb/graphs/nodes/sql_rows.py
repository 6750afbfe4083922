"""The rows that a statement of SQL gives, within the bounds of its node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ironflow_nb.graphs.kinds import NodeContext, Options, failure

MAX_ROWS: Final = 10_000
_MOST_BYTES: Final = 100_000_000
"""The size of all rows together."""


def fetch_rows(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], options: Options, context: NodeContext
) -> dict[str, Any]:
    """Return rows as objects, with their columns: ``{rows, columns, n_rows, is_truncated}``.

    Raises:
        NodeFailed: two columns have one name, or there are more rows or bytes than the node takes.
    """
    twice = {name for name in columns if columns.count(name) > 1}
    if twice:
        names = ", ".join(sorted(twice))
        raise failure(context, f"several columns are called {names}; give each a name of its own with AS")
    most = options.get("max_rows", MAX_ROWS)
    found: list[dict[str, Any]] = []
    n_bytes = 0
    for row in rows:
        if len(found) == most:
            if options.get("truncate", False):
                return {"rows": found, "columns": [*columns], "n_rows": most, "is_truncated": True}
            message = f"the query gives more than {most} rows; add a LIMIT, raise max_rows, or say truncate: true"
            raise failure(context, message)
        n_bytes += sum(len(value) for value in row if isinstance(value, str | bytes))
        if n_bytes > _MOST_BYTES:
            raise failure(context, f"the rows have more than {_MOST_BYTES:,} bytes; ask for less")
        found.append(dict(zip(columns, row, strict=True)))
    return {"rows": found, "columns": [*columns], "n_rows": len(found), "is_truncated": False}
