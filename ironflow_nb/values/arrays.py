"""Arrays and frames: digests by dtype and buffers, codecs by npy and Arrow.

A frame's digest covers its columns and index (labels, names, dtypes, contents) and its ``attrs``, and nothing of how
pandas lays it out in memory, nor of the version of pandas or pyarrow.

Columns of text in Arrow's memory, hashed as the canonical JSON of the list of their texts.

No text becomes an object of Python: where JSON writes texts as they are, it is their bytes with `","` between them. So
the hash is the one that the same texts have wherever else they are kept.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from ironflow_nb.values.classes import class_name
from ironflow_nb.values.tagged import TAG, Rules, Tree, is_plain, tag

_N_ROWS: Final = 1 << 16
# No text that JSON writes as it is has a zero in it, so this can only be a gap.
_GAP: Final = "\0"


def hash_of_texts(column: Any, encode: Callable[[list[str | None]], bytes]) -> str:
    """Return the hash of an Arrow column of texts, which is that of what `encode` makes of it as a list."""
    state = blake2b(b"[", digest_size=19)
    for number, part in enumerate(_parts(column)):
        if number:
            state.update(b",")
        state.update(_as_json(part) if _is_bare(part) else encode(part.to_pylist())[1:-1])
    state.update(b"]")
    return state.hexdigest()


def _parts(column: Any) -> Iterator[Any]:
    import pyarrow as pa

    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for start in range(0, len(chunk), _N_ROWS):
            yield chunk.slice(start, _N_ROWS).cast(pa.large_string())


def _is_bare(texts: Any) -> bool:
    """Tell whether JSON writes the texts as they are: no quotes, no backslashes, no control characters."""
    _, bounds, content = texts.buffers()
    places = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    codes = np.frombuffer(content or b"", np.uint8)[places[0] : places[-1]]
    return not ((codes < ord(" ")).any() or (codes == ord('"')).any() or (codes == ord("\\")).any())


def _as_json(texts: Any) -> bytes:
    """Return the texts, none of which JSON changes, as the inside of a JSON list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = texts.fill_null(_GAP) if texts.null_count else texts
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(texts)], pa.int64()), filled)
    joined = b'"%b"' % pc.binary_join(whole, pa.scalar('","', pa.large_string()))[0].as_buffer()
    return joined.replace(b'"\0"', b"null") if texts.null_count else joined


def canonical(value: Any, rules: Rules) -> Tree | None:
    """Return the canonical tree of an array, frame, series or index of numpy's or pandas' own classes, or None."""
    if type(value) is np.ndarray:
        return _array_tree(value, rules)
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        return {TAG: "masked", "v": _array_tree(value.filled(), rules), "mask": _array_tree(mask, rules)}
    if isinstance(value, np.ndarray):
        return {TAG: "subarray", "c": class_name(type(value)), "v": _array_tree(np.asarray(value), rules)}
    if isinstance(value, np.generic):
        return {TAG: "scalar", "v": _array_tree(np.asarray(value), rules)}
    if isinstance(value, np.dtype):
        return {TAG: "dtype", "v": str(value)}
    # Since pandas 3 its classes say that they live in "pandas" itself.
    is_of_pandas = type(value).__module__.partition(".")[0] == "pandas"
    return _pandas_tree(value, rules) if is_of_pandas else None


def _array_tree(array: np.ndarray[Any, Any], rules: Rules) -> Tree:
    head = {TAG: "ndarray", "t": str(array.dtype), "s": list(array.shape)}
    if array.dtype.hasobject or array.dtype.fields:
        return head | {"v": _sequence(array.ravel().tolist(), rules)}
    return head | {"v": _buffer(array)}


# The bytes that count of one extended float: on x86 it is ten, padded with whatever was in memory.
_LONG: Final = np.dtype(np.longdouble).itemsize
_LONG_USED: Final = 10 if np.finfo(np.longdouble).nmant == 63 else _LONG


def _buffer(array: np.ndarray[Any, Any]) -> str:
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.size or not flat.dtype.itemsize:
        return ""
    content = flat.view(np.uint8)
    if flat.dtype.char in "gG":
        content = np.ascontiguousarray(content.reshape(-1, _LONG)[:, :_LONG_USED]).reshape(-1)
    return blake2b(content.data, digest_size=19).hexdigest()


def _sequence(items: list[Any], rules: Rules) -> str:
    """Return the hash of a long list of values, so that the tree stays small."""
    tree = items if is_plain(items) else [tag(item, rules) for item in items]
    try:
        content = rules.encode(tree)
    except UnicodeEncodeError:
        content = rules.encode([tag(item, rules) for item in items])
    return blake2b(content, digest_size=19).hexdigest()


# -- pandas ------------------------------------------------------------------------------------------------------


def _pandas_tree(value: Any, rules: Rules) -> Tree | None:
    import pandas as pd

    if type(value) is pd.DataFrame:
        columns = [_column_tree(value.iloc[:, place].array, rules) for place in range(value.shape[1])]
        return _labelled("frame", value, rules) | {"columns": _index_tree(value.columns, rules), "v": columns}
    if type(value) is pd.Series:
        name = tag(value.name, rules)
        return _labelled("series", value, rules) | {"name": name, "v": _column_tree(value.array, rules)}
    if isinstance(value, pd.Index):
        return {TAG: "index", "v": _index_tree(value, rules)}
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return {TAG: "array", "v": _column_tree(value, rules)}
    if isinstance(value, pd.Period):
        return {TAG: "period", "t": value.freqstr, "v": value.ordinal}
    if isinstance(value, pd.Interval):
        return {TAG: "interval", "t": value.closed, "v": tag([value.left, value.right], rules)}
    return None


def _labelled(kind: str, value: Any, rules: Rules) -> dict[str, Tree]:
    tree = {TAG: kind, "index": _index_tree(value.index, rules)}
    if value.attrs:
        tree["attrs"] = tag(dict(value.attrs), rules)
    if not value.flags.allows_duplicate_labels:
        tree["unique"] = True
    return tree


def _index_tree(index: Any, rules: Rules) -> Tree:
    import pandas as pd

    names = [tag(name, rules) for name in index.names]
    if isinstance(index, pd.RangeIndex):
        return {"kind": "range", "names": names, "v": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        levels = [_column_tree(index.get_level_values(place).array, rules) for place in range(index.nlevels)]
        return {"kind": "multi", "names": names, "v": levels}
    tree = {"kind": type(index).__name__, "names": names, "v": _column_tree(index.array, rules)}
    if getattr(index, "freq", None) is not None:
        tree["freq"] = index.freqstr
    return tree


def _column_tree(array: Any, rules: Rules) -> Tree:
    import pandas as pd

    dtype = array.dtype
    if isinstance(array, pd.arrays.NumpyExtensionArray) and not isinstance(dtype, pd.StringDtype):
        array = array.to_numpy()
        dtype = array.dtype
    if isinstance(dtype, np.dtype):
        plain = np.asarray(array)
        content = _sequence(plain.tolist(), rules) if dtype.hasobject else _buffer(plain)
        return [str(dtype), content]
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _index_tree(dtype.categories, rules)
        return ["category", bool(dtype.ordered), categories, _buffer(np.asarray(array.codes))]
    if isinstance(dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
        return [str(dtype), _buffer(array.asi8)]
    if isinstance(dtype, pd.IntervalDtype):
        return [str(dtype), _column_tree(array.left.array, rules), _column_tree(array.right.array, rules)]
    if hasattr(array, "_mask") and hasattr(array, "_data"):
        # What lies under the mask is left over from some computation and says nothing.
        mask = np.asarray(array.isna())
        filled = array.to_numpy(dtype=array._data.dtype, na_value=array._data.dtype.type(0))  # noqa: SLF001
        return [str(dtype), _buffer(mask), _buffer(filled)]
    if isinstance(dtype, pd.StringDtype) and dtype.storage != "python":
        return [str(dtype), hash_of_texts(array.__arrow_array__(), rules.encode)]
    items = np.array(array, dtype=object)
    if isinstance(dtype, pd.StringDtype):
        items[np.asarray(array.isna())] = None
    return [str(dtype), _sequence(items.tolist(), rules)]


# -- codecs ------------------------------------------------------------------------------------------------------


def is_npy(value: Any) -> bool:
    """Tell whether the npy format gives the array back exactly."""
    return type(value) is np.ndarray and not value.dtype.hasobject and not value.dtype.fields


def to_npy(value: np.ndarray[Any, Any]) -> bytes:
    """Return the array in the npy format."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue()


def from_npy(content: bytes) -> np.ndarray[Any, Any]:
    """Return the array of npy bytes."""
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
