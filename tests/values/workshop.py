"""What the tests of values share: codecs with a key of their own, and equality that asks for type and every bit."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import itertools
import struct
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from ironflow_nb.code_identity.tracker import CODE
from ironflow_nb.values.codecs import ValueCodec
from ironflow_nb.values.digest import Digester, Provenance
from ironflow_nb.values.signed_pickles import Signer

_COUNT = itertools.count()


def entropy(n: int) -> bytes:
    """Return bytes that never come again."""
    return blake2b(str(next(_COUNT)).encode(), digest_size=n).digest()


def new_values() -> ValueCodec:
    """Return codecs as those of another process would be: they know nothing of where objects came from."""
    signer = Signer(entropy)
    return ValueCodec(Digester(Provenance(entropy), CODE, signer.digest_of_secret), signer)


def same(a: Any, b: Any) -> bool:
    """Tell whether two values have equal types and equal content, NaN and zeros by their bits."""
    if isinstance(a, np.generic) or isinstance(b, np.generic):
        return isinstance(a, np.generic) and isinstance(b, np.generic) and _same_array(np.asarray(a), np.asarray(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, Enum) or a is b:
        return a is b
    match a:
        case float():
            return struct.pack(">d", a) == struct.pack(">d", b)
        case complex():
            return same(a.real, b.real) and same(a.imag, b.imag)
        case Decimal():
            return a.as_tuple() == b.as_tuple()
        case range():
            return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
        case dt.datetime() | dt.time() if not isinstance(a, pd.Timestamp):
            return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
        case ZoneInfo():
            return a.key == b.key
        case dt.timezone():
            return a.utcoffset(None) == b.utcoffset(None) and a.tzname(None) == b.tzname(None)
        case list() | tuple():
            return len(a) == len(b) and all(map(same, a, b)) and same_state(a, b)
        case set() | frozenset():
            return _same_bag(list(a), list(b))
        case collections.deque():
            return a.maxlen == b.maxlen and same(list(a), list(b))
        case dict():
            pairs = [list(value.items()) for value in (a, b)]
            alike = same(*pairs) if isinstance(a, collections.OrderedDict) else _same_bag(*pairs)
            factories = [getattr(value, "default_factory", None) for value in (a, b)]
            return alike and same(*factories) and same_state(a, b)
        case np.ndarray():
            return _same_array(a, b)
        case types.FunctionType():
            return a.__code__ == b.__code__ and same(_bindings(a), _bindings(b))
        case types.MethodType():
            return same(a.__func__, b.__func__) and same(a.__self__, b.__self__)
        case types.BuiltinFunctionType():
            return a.__name__ == b.__name__ and same(a.__self__, b.__self__)
        case functools.partial():
            return same([a.func, a.args, a.keywords], [b.func, b.args, b.keywords])
        case pd.DataFrame() | pd.Series() | pd.Index() | pd.api.extensions.ExtensionArray():
            return _same_pandas(a, b)
        case pd.Timestamp():
            zones = a.tzinfo, b.tzinfo
            return a.unit == b.unit and a.value == b.value and a.fold == b.fold and str(zones[0]) == str(zones[1])
        case pd.Timedelta():
            return a.unit == b.unit and a == b
    if is_dataclass(a) or type(a).__eq__ is object.__eq__:
        return same_state(a, b)
    return bool(a == b) and (not isinstance(a, str | int) or same_state(a, b))


def same_state(a: Any, b: Any) -> bool:
    """Tell whether two objects have the same attributes."""
    return _same_state(object.__getstate__(a), object.__getstate__(b))


def _same_state(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return all(map(_same_state, a, b))
    return not a and not b


def _same_bag(a: list[Any], b: list[Any]) -> bool:
    """Tell whether two lists hold the same, in any order."""
    left = list(b)
    for item in a:
        place = next((n for n, other in enumerate(left) if same(item, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _same_array(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    if isinstance(a, np.ma.MaskedArray):
        return _same_array(np.ma.getmaskarray(a), np.ma.getmaskarray(b)) and _same_array(a.filled(), b.filled())
    if a.dtype != b.dtype or str(a.dtype) != str(b.dtype) or a.shape != b.shape:
        return False
    if a.dtype.hasobject or a.dtype.fields or a.dtype.char in "gG":
        return (
            all(map(same, a.ravel().tolist(), b.ravel().tolist())) if a.dtype.char not in "gG" else bool((a == b).all())
        )
    return a.tobytes() == b.tobytes()


def _bindings(function: types.FunctionType) -> list[Any]:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [cells, function.__defaults__, function.__kwdefaults__]


def _same_pandas(a: Any, b: Any) -> bool:
    if a.dtype != b.dtype if hasattr(a, "dtype") else list(a.dtypes) != list(b.dtypes):
        return False
    if isinstance(a, pd.DataFrame):
        columns = all(_same_pandas(a.iloc[:, n], b.iloc[:, n]) for n in range(a.shape[1]) if a.shape == b.shape)
        flags = a.flags.allows_duplicate_labels == b.flags.allows_duplicate_labels
        return a.shape == b.shape and _same_pandas(a.columns, b.columns) and columns and flags and a.attrs == b.attrs
    if isinstance(a, pd.Series):
        same_index = len(a) == len(b) and same(a.index, b.index)
        return same_index and same(a.name, b.name) and same(a.array, b.array) and a.attrs == b.attrs
    if isinstance(a, pd.Index):
        freqs = getattr(a, "freq", None) == getattr(b, "freq", None)
        return list(a.names) == list(b.names) and freqs and _same_items(a, b)
    return _same_items(a, b)


def _same_items(a: Any, b: Any) -> bool:
    if isinstance(a, pd.arrays.NumpyExtensionArray):
        return _same_array(a.to_numpy(), b.to_numpy())
    if isinstance(a.dtype, np.dtype) and not a.dtype.hasobject:
        return _same_array(np.asarray(a), np.asarray(b))
    if isinstance(a.dtype, pd.CategoricalDtype) and not a.categories.equals(b.categories):
        return False
    gaps = [pd.isna(np.asarray(value, dtype=object)) for value in (a, b)]
    if isinstance(a.dtype, pd.StringDtype | pd.CategoricalDtype) or not isinstance(a.dtype, np.dtype):
        kept = [list(np.asarray(value, dtype=object)[~gap]) for value, gap in zip((a, b), gaps, strict=True)]
        return len(a) == len(b) and bool((gaps[0] == gaps[1]).all()) and all(map(same, *kept))
    return len(a) == len(b) and all(map(same, list(a), list(b)))
