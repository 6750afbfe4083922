"""What variables have in common, and what it costs to store them.

A record has each variable by itself. An object inside of two variables is two objects after both were restored, and a
change of one is no longer seen in the other. So a quick cell that makes such a variable is executed again.
"""

from __future__ import annotations

import ast
import types
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from ironflow_nb.code_identity.referenced_values import is_constant
from ironflow_nb.durable_cells.cell import SHELL_NAMES, is_data

QUICK_S: Final = 2.0
"""A cell that took less is executed again where that is better than to restore it."""
BULKY_BYTES: Final = 50 * 1024 * 1024
BYTES_PER_S: Final = 200e6
"""About as much is stored and loaded in a second."""
_MOST: Final = 2000
"""How many parts of a variable are looked at."""
_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
_LEAVES: Final = (str, bytes, int, float, complex, type(None), type, types.FunctionType, types.ModuleType, Enum)
_MAY_DIFFER: Final = frozenset(
    {"random", "rng", "default_rng", "rand", "randn", "randint", "sample", "shuffle", "permutation", "choice", "normal",
     "now", "today", "time", "uuid4", "uuid1", "urlopen", "requests", "httpx", "read_sql", "execute", "listdir", "glob",
     "token_hex", "train_test_split", "urandom", "system", "run_line_magic", "run_cell_magic", "getoutput"}
)  # fmt: skip
"""Names that stand in code which may make something else each time."""


def is_variable(name: str, value: object) -> bool:
    """Return True if the name is that of a variable of the user that holds data which can change."""
    return not name.startswith("_") and name not in SHELL_NAMES and is_data(value) and not is_constant(value)


def may_differ(tree: ast.AST) -> bool:
    """Return True if the code may make something else when it is executed again."""
    names = (getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(tree))
    return not _MAY_DIFFER.isdisjoint(names)


def n_bytes(value: Any) -> int:
    """Return how many bytes an array or a frame has; 0 for everything else."""
    try:
        found = value.nbytes if hasattr(value, "nbytes") else sum(value.memory_usage(deep=False))
        return int(found)
    except Exception:  # noqa: BLE001 -- an attribute of a foreign class may do anything
        return 0


def reachable_parts(value: object) -> set[int]:
    """Return the ids of the objects that can change and that the value is or holds, of which 2000 are looked at."""
    found: set[int] = set()
    waiting = deque([value])
    n_seen = 0
    while waiting and n_seen < _MOST:
        each = waiting.popleft()
        n_seen += 1
        if isinstance(each, _LEAVES) or id(each) in found or (type(each) is dict and "__builtins__" in each):
            continue  # a namespace holds everything
        if not isinstance(each, tuple | frozenset):
            found.add(id(each))
        waiting.extend(_items(each, _MOST - n_seen))
    return found


def _items(value: Any, most: int) -> Iterable[object]:
    if isinstance(value, _SEQUENCES):
        return [item for item, _ in zip(value, range(most), strict=False)]
    if isinstance(value, dict):
        return [item for item, _ in zip(value.values(), range(most), strict=False)]
    base = getattr(value, "base", None) if hasattr(value, "__array_interface__") else None
    if base is not None:  # a view of another array
        return [base]
    fields = getattr(value, "__dict__", None)
    return list(fields.values())[:most] if type(fields) is dict else []


def shared_with(outs: Mapping[str, object], ins: Mapping[str, object]) -> dict[str, str]:
    """Return, for each output that has parts in common with another one or with an input, the name of that one.

    A further name of one object has nothing in common with it: it is recorded as such.
    """
    values = {**ins, **outs}
    parts = {name: reachable_parts(value) for name, value in values.items()} if outs else {}
    found: dict[str, str] = {}
    for name, value in outs.items():
        for other, theirs in parts.items():
            if values[other] is not value and not parts[name].isdisjoint(theirs):
                found[name] = other
                break
    return found
