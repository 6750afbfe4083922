"""What differs between two values: paths into nested ones, rows of frames, elements of arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ironflow_nb.values.stored_value import legible

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST: Final = 1000
_DEEPEST: Final = 100
_N_SHOWN: Final = 3
_LENGTH: Final = 60


class Difference(NamedTuple):
    """One place in which two values differ. The path of the values themselves is empty."""

    path: str
    words: str

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.path else self.words


def differences(a: object, b: object, *, most: int = MOST) -> list[Difference]:
    """Return where the values differ, in the order of `a`, at most `most` places; nothing if they are equal.

    Mappings, sequences, sets, dataclasses and other objects with attributes are compared part by part, DataFrames,
    Series and arrays as wholes: shape, dtypes, and which rows or elements differ. NaN equals NaN. Values of different
    types differ.
    """
    return list(islice(_walk(a, b, "", ()), most))


def _walk(a: Any, b: Any, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[Difference]:
    pair = id(a), id(b)
    if a is b or pair in above:  # a part that contains itself is compared where it was met first
        return
    if type(a) is not type(b):
        yield Difference(path, f"{type(a).__name__} {_short(a)} -> {type(b).__name__} {_short(b)}")
        return
    if len(above) == _DEEPEST:
        yield Difference(path, f"it is more than {_DEEPEST} levels deep, and was not compared further")
        return
    compared = _tables(a, b, path)
    yield from _parts(a, b, path, (*above, pair)) if compared is None else compared


def _parts(a: Any, b: Any, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[Difference]:
    match a:
        case str() | bytes() | bytearray() | memoryview() | range():
            yield from _whole(a, b, path)
        case Mapping():
            yield from _by_key(a, b, path, above, "[{!r}]".format)
        case Sequence():
            yield from _by_position(a, b, path, above)
        case Set():
            yield from _members(a, b, path)
        case type() | BaseException():
            yield from _whole(a, b, path)
        case _ if (parts := _attributes(a)) is not None and (others := _attributes(b)) is not None:
            yield from _by_key(parts, others, path, above, ".{}".format)
        case _:
            yield from _whole(a, b, path)


def _whole(a: Any, b: Any, path: str) -> Iterator[Difference]:
    if not _is_equal(a, b):
        yield Difference(path, f"{_short(a)} -> {_short(b)}")


def _by_key(
    a: Mapping[Any, Any],
    b: Mapping[Any, Any],
    path: str,
    above: tuple[tuple[int, int], ...],
    step: Callable[[Any], str],
) -> Iterator[Difference]:
    for key, part in a.items():
        if key in b:
            yield from _walk(part, b[key], f"{path}{step(key)}", above)
        else:
            yield Difference(f"{path}{step(key)}", f"only in a: {_short(part)}")
    for key, part in b.items():
        if key not in a:
            yield Difference(f"{path}{step(key)}", f"only in b: {_short(part)}")


def _by_position(
    a: Sequence[Any], b: Sequence[Any], path: str, above: tuple[tuple[int, int], ...]
) -> Iterator[Difference]:
    if len(a) != len(b):
        yield Difference(path, f"{len(a)} items -> {len(b)} items")
    for position, (part, other) in enumerate(zip(a, b, strict=False)):
        yield from _walk(part, other, f"{path}[{position}]", above)


def _members(a: Set[Any], b: Set[Any], path: str) -> Iterator[Difference]:
    for words, found in (("only in a", a - b), ("only in b", b - a)):
        if found:
            yield Difference(path, f"{words}: {_listed(sorted(map(_short, found)))}")


def _attributes(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of an object, or None if nothing says what they are."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    named = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__match_args__", None)
    found = getattr(value, "__dict__", None)
    if found is None and not named:
        return None
    return {name: getattr(value, name, None) for name in named or ()} | (found or {})


def _is_equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b) or bool(a != a and b != b)  # noqa: PLR0124 -- NaN is the value that differs from itself
    except Exception:  # noqa: BLE001 -- the values are of any class
        return False


def _short(value: Any) -> str:
    numpy = sys.modules.get("numpy")
    try:
        plain_value = value.item() if numpy is not None and isinstance(value, numpy.generic) else value
        return legible(repr(plain_value), _LENGTH)
    except Exception:  # noqa: BLE001 -- as above
        return f"<{type(value).__name__}>"


def _listed(texts: Iterable[str]) -> str:
    shown = [*islice(texts, _N_SHOWN + 1)]
    return ", ".join([*shown[:_N_SHOWN], "..."] if len(shown) > _N_SHOWN else shown)


# -- frames and arrays -------------------------------------------------------------------------------------------


def _tables(a: Any, b: Any, path: str) -> Iterator[Difference] | None:
    """Return the differences of frames, series or arrays; None for other values."""
    pandas, numpy = (
        sys.modules.get("pandas"),
        sys.modules.get("numpy"),
    )  # a value of a library that is not loaded is not there
    if pandas is not None:
        if isinstance(a, pandas.DataFrame):
            return _frames(a, b, path)
        if isinstance(a, pandas.Series):
            name = "value" if a.name is None else a.name
            return _frames(a.to_frame(name), b.to_frame("value" if b.name is None else b.name), path)
        if isinstance(a, pandas.Index):
            return _frames(a.to_frame(index=False), b.to_frame(index=False), path)
    if numpy is not None and isinstance(a, numpy.ndarray):
        return _arrays(a, b, path)
    to_pandas = getattr(a, "to_pandas", None)  # a table of polars or Arrow
    if pandas is not None and callable(to_pandas) and callable(getattr(a, "equals", None)):
        return iter(()) if a.equals(b) else _converted(a, b, path)
    return None


def _converted(a: Any, b: Any, path: str) -> Iterator[Difference]:
    found = list(_tables(a.to_pandas(), b.to_pandas(), path) or ())
    yield from found or [Difference(path, f"{_short(a)} -> {_short(b)}")]


def _frames(a: pd.DataFrame, b: pd.DataFrame, path: str) -> Iterator[Difference]:
    if a.shape != b.shape:
        yield Difference(path, f"{_shape(a)} -> {_shape(b)}")
    if not (a.columns.is_unique and b.columns.is_unique):
        if not a.equals(b):
            yield Difference(path, "the frames differ; columns of one name were not compared one by one")
        return
    yield from _schemas(a, b, path)
    n_a, n_b = len(a), len(b)
    a, b = _same_rows(a, b)
    for words, n_left in (("only in a", n_a - len(a)), ("only in b", n_b - len(b))):
        if n_left:
            yield Difference(path, f"{n_left} {_rows(n_left)} {words}")
    yield from _cells(a, b, path)


def _schemas(a: pd.DataFrame, b: pd.DataFrame, path: str) -> Iterator[Difference]:
    for column in a.columns:
        if column not in b.columns:
            yield Difference(f"{path}[{column!r}]", f"only in a: a column of {a[column].dtype}")
        elif a[column].dtype != b[column].dtype:
            yield Difference(f"{path}[{column!r}]", f"{a[column].dtype} -> {b[column].dtype}")
    for column in b.columns:
        if column not in a.columns:
            yield Difference(f"{path}[{column!r}]", f"only in b: a column of {b[column].dtype}")
    if list(a.columns) != list(b.columns) and set(a.columns) == set(b.columns):
        yield Difference(path, "the columns are in another order")


def _same_rows(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that both have: by their labels, or by position where a label stands for several rows."""
    if a.index.equals(b.index):
        return a, b
    if not (a.index.is_unique and b.index.is_unique):
        n = min(len(a), len(b))
        return a.iloc[:n], b.iloc[:n]
    shared = a.index.intersection(b.index, sort=False)
    return a.loc[shared], b.loc[shared]


def _cells(a: pd.DataFrame, b: pd.DataFrame, path: str) -> Iterator[Difference]:
    import numpy as np

    changed = np.zeros(len(a), dtype=bool)
    of_columns = []
    for column in a.columns.intersection(b.columns, sort=False):
        differs = _differing(a[column], b[column])
        if differs.any():
            changed |= differs
            of_columns.append((column, differs))
    if not of_columns:
        return
    n = int(changed.sum())
    labels = (_short(label) for label in a.index[changed][: _N_SHOWN + 1])
    yield Difference(path, f"{n} of {len(a)} {_rows(len(a))} differ: {_listed(labels)}")
    for column, differs in of_columns:
        first = int(differs.argmax())
        shown = f"{_short(a.index[first])}: {_short(a[column].iloc[first])} -> {_short(b[column].iloc[first])}"
        yield Difference(f"{path}[{column!r}]", f"{int(differs.sum())} differ, first {shown}")


def _differing(x: pd.Series[Any], y: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """Return which of the values differ, by position; two missing values are equal."""
    import numpy as np

    y = y.set_axis(x.index)
    try:
        equal = (x == y).to_numpy(dtype=bool, na_value=False)
        return ~(equal | (x.isna() & y.isna()).to_numpy(dtype=bool))
    except Exception:  # noqa: BLE001 -- categories that differ, or objects whose == is no truth value
        pairs = zip(x.astype(object), y.astype(object), strict=True)
        return np.fromiter((bool(differences(one, other, most=1)) for one, other in pairs), dtype=bool, count=len(x))


def _arrays(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], path: str) -> Iterator[Difference]:
    import numpy as np

    if a.dtype != b.dtype:
        yield Difference(path, f"{a.dtype} -> {b.dtype}")
    if a.shape != b.shape:
        yield Difference(path, f"shape {a.shape} -> {b.shape}")
        return
    differs = ~_equal_elements(a, b)
    n = int(np.count_nonzero(differs))
    if n == 0:
        return
    first = tuple(int(each) for each in np.argwhere(differs)[0])
    most = ""
    if a.dtype.kind in "iufc" and b.dtype.kind in "iufc":
        with np.errstate(all="ignore"):
            most = f", by at most {np.nanmax(np.abs(a[differs].astype(complex) - b[differs])):.6g}"
    where = f" at {list(first)}" if first else ""
    yield Difference(
        path, f"{n} of {a.size} elements differ{most}; first{where}: {_short(a[first])} -> {_short(b[first])}"
    )


def _equal_elements(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    if a.dtype.hasobject or b.dtype.hasobject:
        pairs = zip(a.ravel(), b.ravel(), strict=True)
        found = np.fromiter((not differences(x, y, most=1) for x, y in pairs), dtype=bool, count=a.size)
        return found.reshape(a.shape)
    equal = np.asarray(a == b)
    if a.dtype.kind in "fcmM" and b.dtype.kind == a.dtype.kind:
        equal |= np.isnan(a) & np.isnan(b) if a.dtype.kind in "fc" else np.isnat(a) & np.isnat(b)
    return equal


def _shape(frame: pd.DataFrame) -> str:
    return f"{len(frame)} x {frame.shape[1]}"


def _rows(n: int) -> str:
    return "row" if n == 1 else "rows"
