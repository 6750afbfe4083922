"""Stored values in a few words, without ever running code of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.core.ids import ValueId
from ironflow_nb.core.texts import plain
from ironflow_nb.execution.parameters import CLOSURE
from ironflow_nb.execution.recorded import own_arguments
from ironflow_nb.values.store import JSON, NOT_KEPT, REFERENCE
from ironflow_nb.values.stored import StoredValue
from ironflow_nb.values.tagged import TAG, untag

LENGTH: Final = 200
CONTENT_LIMIT: Final = 4 * 1024
"""Values above this are described by what was noted of them, and not read."""

GRAPH: Final = "graph"
"""The kind of runs whose only argument is a mapping with the names of all inputs."""
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
_CLOSURE: Final = CLOSURE.encode()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_ARGUMENT_LENGTH: Final = 60
_BRACKETS: Final = {"tuple": "()", "set": "{}", "frozenset": ("frozenset({", "})")}


def preview(stored: StoredValue | None) -> str | None:
    """Return a few words about the value; None only where there is none."""
    if stored is None:
        return None
    if stored.preview is not None:
        return clip(stored.preview)
    if stored.codec == JSON and stored.content is not None:
        try:
            return clip(sketch(msgspec.json.decode(stored.content)))
        except Exception:  # noqa: BLE001 -- of a form that is not known here; its JSON still says something
            return clip(bytes(stored.content).decode("utf-8", "replace"))
    return f"{stored.type_name} ({stored.size} bytes)"


def fields_of_call(record: StoredValue, kind: str) -> Mapping[str, Any] | None:
    """Return the arguments that were recorded of a call of that kind of run, as trees; None if that is not known."""
    if record.content is None:
        return None
    try:
        fields = _DECODER.decode(record.content)
    except msgspec.MsgspecError:  # of a form that is not known here
        return None
    if _CLOSURE in record.content:
        fields = own_arguments(fields)
    given = fields.get("input")
    # What a graph is called with is one mapping, and people write its items.
    return given if kind == GRAPH and type(given) is dict and TAG not in given else fields


def references(fields: Mapping[str, Any]) -> Iterator[ValueId]:
    """Yield the ids of the arguments that are values of their own."""
    for tree in fields.values():
        if type(tree) is dict and tree.get(TAG) == REFERENCE:
            yield ValueId(bytes.fromhex(tree["v"]))


def call_preview(fields: Mapping[str, Any], values: Mapping[ValueId, StoredValue]) -> str:
    """Return the arguments as they would stand in a call, ``x=3, path='a.csv'``; `values` are those referred to."""
    return clip(", ".join([f"{name}={_argument(tree, values)}" for name, tree in fields.items()]))


def _argument(tree: Any, values: Mapping[ValueId, StoredValue]) -> str:
    if type(tree) in _SCALARS:
        return _cut(repr(tree), _ARGUMENT_LENGTH)
    try:
        text = sketch(tree) if type(tree) is not dict else _of_dict(tree, values)
    except Exception:  # noqa: BLE001 -- as above
        text = "..."
    return _cut(text, _ARGUMENT_LENGTH)


def _of_dict(tree: Mapping[str, Any], values: Mapping[ValueId, StoredValue]) -> str:
    kind = tree.get(TAG)
    if kind == REFERENCE:
        return preview(values.get(ValueId(bytes.fromhex(tree["v"])))) or "<missing>"
    return f"<{tree['c'].rpartition('.')[2]}, not stored>" if kind == NOT_KEPT else sketch(tree)


def sketch(tree: Any) -> str:
    """Return the repr of a value from its tagged form; what has a class of the user is shown without that class."""
    if type(tree) is list:
        return f"[{_listed(tree)}]"
    if type(tree) is not dict:
        return repr(tree)
    kind = tree.get(TAG)
    if kind is None:
        return f"{{{', '.join(f'{key!r}: {sketch(item)}' for key, item in tree.items())}}}"
    if "c" in tree:
        return _of_class(tree)
    if kind == "dict":
        return f"{{{', '.join(f'{sketch(key)}: {sketch(item)}' for key, item in tree['v'])}}}"
    if kind in _BRACKETS and tree["v"]:
        opening, closing = _BRACKETS[kind]
        lonely = "," if kind == "tuple" and len(tree["v"]) == 1 else ""
        return f"{opening}{_listed(tree['v'])}{lonely}{closing}"
    return repr(untag(tree))


def _of_class(tree: Mapping[str, Any]) -> str:
    name, value = tree["c"].rpartition(".")[2], tree["v"]
    if tree[TAG] == "enum":
        return f"{name}.{value}"
    if tree[TAG] == "flag":
        return f"{name}({sketch(value)})"
    return f"{name}({', '.join(f'{field}={sketch(item)}' for field, item in value.items())})"


def _listed(trees: list[Any]) -> str:
    return ", ".join(map(sketch, trees))


def clip(text: str) -> str:
    """Return the text on one line, with an ellipsis where it is too long."""
    return _cut(plain(" ".join(text.split())), LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
