"""Arrays and frames of numpy and pandas: their canonical form for digests, and the npy format.

A frame's digest covers its columns and index (labels, names, dtypes, contents) and its ``attrs``. It does not depend on
the memory layout, nor on the version of pandas or pyarrow.

A text column in Arrow memory has the hash of the canonical JSON list of its texts, like the same texts in a column of
objects. Where JSON needs no escapes, its bytes are the texts joined by `","`, and no text becomes a Python object.
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
# Stands for a missing text. Texts with control characters are escaped, and so never joined with it.
_NULL: Final = "\0"


def hash_of_texts(column: Any, encode: Callable[[list[str | None]], bytes]) -> str:
    """Return the hash, as hex, that `encode` of the Arrow text column as a list would have."""
    state = blake2b(b"[", digest_size=19)
    for number, batch in enumerate(_text_batches(column)):
        if number:
            state.update(b",")
        state.update(_joined_texts(batch) if _needs_no_escapes(batch) else encode(batch.to_pylist())[1:-1])
    state.update(b"]")
    return state.hexdigest()


def _text_batches(column: Any) -> Iterator[Any]:
    import pyarrow as pa

    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for start in range(0, len(chunk), _N_ROWS):
            yield chunk.slice(start, _N_ROWS).cast(pa.large_string())


def _needs_no_escapes(texts: Any) -> bool:
    """Return True if the texts contain no quotes, backslashes or control characters."""
    _, bounds, content = texts.buffers()
    places = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    codes = np.frombuffer(content or b"", np.uint8)[places[0] : places[-1]]
    return not ((codes < ord(" ")).any() or (codes == ord('"')).any() or (codes == ord("\\")).any())


def _joined_texts(texts: Any) -> bytes:
    """Return texts that need no escapes as the inside of a JSON list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = texts.fill_null(_NULL) if texts.null_count else texts
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(texts)], pa.int64()), filled)
    joined = b'"%b"' % pc.binary_join(whole, pa.scalar('","', pa.large_string()))[0].as_buffer()
    return joined.replace(b'"\0"', b"null") if texts.null_count else joined


def canonical(value: Any, rules: Rules) -> Tree | None:
    """Return the canonical tree of an array, scalar, frame, series or index of numpy or pandas, or None."""
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
    # Since pandas 3 the `__module__` of its classes is "pandas" itself.
    is_of_pandas = type(value).__module__.partition(".")[0] == "pandas"
    return _pandas_tree(value, rules) if is_of_pandas else None


def _array_tree(array: np.ndarray[Any, Any], rules: Rules) -> Tree:
    head = {TAG: "ndarray", "t": str(array.dtype), "s": list(array.shape)}
    if array.dtype.hasobject or array.dtype.fields:
        return head | {"v": _items_hash(array.ravel().tolist(), rules)}
    return head | {"v": _buffer_hash(array)}


# On x86 an extended float has ten significant bytes; the padding holds random memory.
_LONG: Final = np.dtype(np.longdouble).itemsize
_LONG_USED: Final = 10 if np.finfo(np.longdouble).nmant == 63 else _LONG


def _buffer_hash(array: np.ndarray[Any, Any]) -> str:
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.size or not flat.dtype.itemsize:
        return ""
    content = flat.view(np.uint8)
    if flat.dtype.char in "gG":
        content = np.ascontiguousarray(content.reshape(-1, _LONG)[:, :_LONG_USED]).reshape(-1)
    return blake2b(content.data, digest_size=19).hexdigest()


def _items_hash(items: list[Any], rules: Rules) -> str:
    """Return the hash of a long list of values, in the place of their trees."""
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
        return _labels_tree("frame", value, rules) | {"columns": _index_tree(value.columns, rules), "v": columns}
    if type(value) is pd.Series:
        name = tag(value.name, rules)
        return _labels_tree("series", value, rules) | {"name": name, "v": _column_tree(value.array, rules)}
    if isinstance(value, pd.Index):
        return {TAG: "index", "v": _index_tree(value, rules)}
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return {TAG: "array", "v": _column_tree(value, rules)}
    if isinstance(value, pd.Period):
        return {TAG: "period", "t": value.freqstr, "v": value.ordinal}
    if isinstance(value, pd.Interval):
        return {TAG: "interval", "t": value.closed, "v": tag([value.left, value.right], rules)}
    return None


def _labels_tree(kind: str, value: Any, rules: Rules) -> dict[str, Tree]:
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
        content = _items_hash(plain.tolist(), rules) if dtype.hasobject else _buffer_hash(plain)
        return [str(dtype), content]
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _index_tree(dtype.categories, rules)
        return ["category", bool(dtype.ordered), categories, _buffer_hash(np.asarray(array.codes))]
    if isinstance(dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
        return [str(dtype), _buffer_hash(array.asi8)]
    if isinstance(dtype, pd.IntervalDtype):
        return [str(dtype), _column_tree(array.left.array, rules), _column_tree(array.right.array, rules)]
    if hasattr(array, "_mask") and hasattr(array, "_data"):
        # Values under the mask are leftovers of computations.
        mask = np.asarray(array.isna())
        filled = array.to_numpy(dtype=array._data.dtype, na_value=array._data.dtype.type(0))  # noqa: SLF001
        return [str(dtype), _buffer_hash(mask), _buffer_hash(filled)]
    if isinstance(dtype, pd.StringDtype) and dtype.storage != "python":
        return [str(dtype), hash_of_texts(array.__arrow_array__(), rules.encode)]
    items = np.array(array, dtype=object)
    if isinstance(dtype, pd.StringDtype):
        items[np.asarray(array.isna())] = None
    return [str(dtype), _items_hash(items.tolist(), rules)]


# -- codecs ------------------------------------------------------------------------------------------------------


def is_npy(value: Any) -> bool:
    """Return True if the npy format restores the array exactly."""
    return type(value) is np.ndarray and not value.dtype.hasobject and not value.dtype.fields


def to_npy(value: np.ndarray[Any, Any]) -> bytes:
    """Return the array in the npy format."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue()


def from_npy(content: bytes) -> np.ndarray[Any, Any]:
    """Return the array that the npy bytes contain."""
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
