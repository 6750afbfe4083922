"""Columns of values as DataFrames, with dtypes that are said and not guessed.

Stored values in a few words, without ever running code of theirs.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.core.identity import ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.execution import CLOSURE
from ironflow_nb.history.lookup import own_arguments
from ironflow_nb.values.codecs import JSON, NOT_KEPT, REFERENCE
from ironflow_nb.values.stored_value import StoredValue
from ironflow_nb.values.tagged import TAG, untag

if TYPE_CHECKING:
    import pandas as pd

LENGTH: Final = 200
CONTENT_LIMIT: Final = 4 * 1024
"""Values above this are described by what was noted of them, and not read."""

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
    return given if kind == RunKind.GRAPH and type(given) is dict and TAG not in given else fields


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


TEXT: Final = "string"
INSTANT: Final = "datetime64[us, UTC]"
COUNT: Final = "Int64"
_NUMBER: Final = "int64"
_INTEGERS: Final = {INSTANT, COUNT, _NUMBER}


def frame_of_records(columns: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame with a row for each record.

    Raises:
        JournalCorrupt: a value is of another type than its column.
    """
    return frame_of_pieces(columns, [{name: [record[name] for record in records] for name in columns}])


def frame_of_pieces(columns: Mapping[str, str], pieces: Iterable[Mapping[str, list[Any]]]) -> pd.DataFrame:
    """Return the frame of the pieces, at least one, below each other; `columns` are names and dtypes.

    A piece is converted before the next one is made, so that its objects die young and their memory is used again.

    Raises:
        JournalCorrupt: a value is of another type than its column.
    """
    parts: dict[str, list[Any]] = {name: [] for name in columns}
    with _collector_paused():
        for piece in pieces:
            for name, dtype in columns.items():
                with _named(name):
                    parts[name].append(_part(piece[name], dtype))
    data = {}
    for name, dtype in columns.items():
        with _named(name):
            data[name] = _joined(parts[name], dtype)
    import pandas as pd

    return pd.DataFrame(data, columns=list(columns), copy=False)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the collector from looking at each new object again and again, though none of them can be garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _named(column: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise JournalCorrupt(
            f"a row of the journal has in the column {column} what the package never wrote ({error}); iron.doctor() "
            "looks at the whole journal, and run= chooses the runs that can be listed"
        ) from error


def _part(values: list[Any], dtype: str) -> Any:
    """Return the values in the form in which many of them take little space, and are joined fast."""
    if dtype == TEXT and _has_arrow():
        import pyarrow as pa

        return pa.array(values, pa.large_string())
    if dtype in _INTEGERS:
        is_missing = [value is None for value in values] if dtype != _NUMBER and None in values else None
        # An array of the standard library takes integers only, where others would round or read texts.
        return array("q", [0 if value is None else value for value in values] if is_missing else values), is_missing
    return values


def _joined(parts: list[Any], dtype: str) -> Any:
    import pandas as pd

    if dtype == TEXT and _has_arrow():
        import pyarrow as pa

        return pd.arrays.ArrowStringArray(pa.chunked_array(parts).combine_chunks())
    if dtype in _INTEGERS:
        return _integers(parts, dtype)
    return pd.Series(list(chain.from_iterable(parts)), dtype=dtype)


def _integers(parts: list[tuple[array[int], list[bool] | None]], dtype: str) -> Any:
    import numpy as np
    import pandas as pd

    numbers = np.concatenate([np.frombuffer(part, dtype=_NUMBER) for part, _ in parts])
    if dtype == _NUMBER:
        return numbers
    is_missing = np.concatenate([np.array(gaps or [False] * len(part), dtype=bool) for part, gaps in parts])
    if dtype == COUNT:
        return pd.arrays.IntegerArray(numbers, is_missing)
    instants = numbers.view("datetime64[us]")
    instants[is_missing] = np.datetime64("NaT", "us")
    return pd.DatetimeIndex(instants, tz="UTC")


def _has_arrow() -> bool:
    import pandas as pd

    return pd.StringDtype().storage == "pyarrow"
