"""Scalars, arrays and frames of many kinds, for the catalogue of values."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from tests.values.catalogue_classes import bits


def _array(values: Any, dtype: Any) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=dtype)


# numpy warns of it where it is written down; who has one has it from a file.
NAT_WITHOUT_UNIT = np.frombuffer(bytes.fromhex("0000000000000080"), "M8")[0]
_RECORD = [("a", "<i4"), ("b", "<f8")]

NUMPY: dict[str, Callable[[], Any]] = {
    **{
        f"scalar {kind}": (lambda kind=kind: np.dtype(kind).type(1))
        for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16", "G")
    },
    "scalar nan": lambda: np.float64(bits("fff8000000000000")),
    "scalar text": lambda: np.str_("ab"),
    "scalar empty text": lambda: np.str_(""),
    "scalar bytes": lambda: np.bytes_(b"ab"),
    "scalar day": lambda: np.datetime64("2020-01-01", "D"),
    "scalar nanosecond": lambda: np.datetime64("2020-01-01", "ns"),
    "scalar not a time": lambda: np.datetime64("NaT", "ns"),
    "scalar not a time without unit": lambda: NAT_WITHOUT_UNIT,
    "scalar span": lambda: np.timedelta64(5, "s"),
    "scalar record": lambda: np.array([(1, 2.0)], dtype=_RECORD)[0],
    "scalar void": lambda: np.void(b"abc"),
    **{
        f"array {kind}": (lambda kind=kind: _array([1, 0, 1], kind))
        for kind in ("?", "i1", "i2", "i4", "i8", ">i8", "u1", "u8", "f2", "f4", "f8", ">f8", "g", "c8", "c16", "G")
    },
    "array of no dimension": lambda: np.array(1),
    "array of two": lambda: np.arange(6).reshape(2, 3),
    "array of two, other": lambda: np.arange(6).reshape(3, 2),
    "array transposed": lambda: np.arange(6).reshape(2, 3).T,
    "array of floats": lambda: np.array([0.0, bits("fff8000000000000")]),
    "array of other floats": lambda: np.array([-0.0, bits("7ff8000000000000")]),
    "array empty": lambda: np.zeros((0,)),
    "array empty in two": lambda: np.zeros((0, 3)),
    "array empty in two, other": lambda: np.zeros((3, 0)),
    "array of texts": lambda: np.array(["a", "bc"]),
    "array of longer texts": lambda: np.array(["a", "bc"], dtype="U5"),
    "array of empty texts": lambda: np.array(["", ""]),
    "array of bytes": lambda: np.array([b"a", b"bc"]),
    "array of days": lambda: np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    "array of seconds": lambda: np.array(["2020-01-01", "NaT"], dtype="M8[s]"),
    "array of spans": lambda: np.array([1, 2], dtype="m8[s]"),
    "array of objects": lambda: np.array([1, "a", None, (1,)], dtype=object),
    "array of other objects": lambda: np.array([1, "a", None, [1]], dtype=object),
    "array of records": lambda: np.array([(1, 2.0), (3, 4.0)], dtype=_RECORD),
    "array of other records": lambda: np.array([(1, 2.0), (3, 5.0)], dtype=_RECORD),
    "array of records, other names": lambda: np.array([(1, 2.0)], dtype=[("a", "<i4"), ("c", "<f8")]),
    "array of records in records": lambda: np.zeros(2, dtype=[("a", [("b", "i2"), ("c", "f4", (2,))])]),
    "array of void": lambda: np.array([b"abc"], dtype="V3"),
    "array masked": lambda: np.ma.array([1, 2], mask=[True, False]),
    "array masked elsewhere": lambda: np.ma.array([1, 2], mask=[False, True]),
    "array masked nowhere": lambda: np.ma.array([1, 2]),
    "array of records by name": lambda: np.rec.array([(1, 2.0), (3, 4.0)], dtype=_RECORD),
    "matrix": lambda: np.arange(6).reshape(2, 3).view(np.matrix),
    "dtype": lambda: np.dtype("f8"),
    "dtype of a record": lambda: np.dtype(_RECORD),
}


def _frame(**more: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan]}, **more)


PANDAS: dict[str, Callable[[], Any]] = {
    "timestamp": lambda: pd.Timestamp("2020-01-01"),
    "timestamp in seconds": lambda: pd.Timestamp("2020-01-01").as_unit("s"),
    "timestamp in nanoseconds": lambda: pd.Timestamp("2020-01-01 00:00:00.000000001"),
    "timestamp in utc": lambda: pd.Timestamp("2020-01-01", tz=dt.UTC),
    "timestamp in a place": lambda: pd.Timestamp("2020-01-01", tz=ZoneInfo("Europe/Berlin")),
    "timestamp, second": lambda: pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert(ZoneInfo("Europe/Berlin")),
    "timedelta of pandas": lambda: pd.Timedelta("1s"),
    "timedelta in ms": lambda: pd.Timedelta("1s").as_unit("ms"),
    "not a time": lambda: pd.NaT,
    "not there": lambda: pd.NA,
    "period": lambda: pd.Period("2020-01", "M"),
    "period of a day": lambda: pd.Period("2020-01-01", "D"),
    "interval": lambda: pd.Interval(0, 1),
    "interval, other": lambda: pd.Interval(0, 1, closed="left"),
    "frame": _frame,
    "frame of other values": lambda: _frame() + 1,
    "frame of other labels": lambda: _frame().rename(columns={"b": "c"}),
    "frame of other order": lambda: _frame()[["b", "a"]],
    "frame of other dtype": lambda: _frame().astype({"a": "int32"}),
    "frame with index": lambda: _frame(index=[5, 6]),
    "frame with named index": lambda: _frame(index=pd.Index([5, 6], name="i")),
    "frame with texts as index": lambda: _frame(index=["x", "y"]),
    "frame with a range as index": lambda: _frame(index=pd.RangeIndex(0, 4, 2)),
    "frame with a named range": lambda: _frame(index=pd.RangeIndex(2, name="i")),
    "frame with several indices": lambda: _frame(
        index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["k", None])
    ),
    "frame with floats as index": lambda: _frame(index=[0.5, math.nan]),
    "frame with bits of nan": lambda: pd.DataFrame({"a": [1, 2], "b": [0.5, bits("fff8000000000000")]}),
    "frame with attributes": lambda: _with_attrs(attrs={"source": "x"}),
    "frame with unique labels": lambda: _frame().set_flags(allows_duplicate_labels=False),
    "frame with equal labels": lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "frame with labels of ints": lambda: pd.DataFrame([[1, 2]], columns=[0, 5]),
    "frame with a range of labels": lambda: pd.DataFrame([[1, 2]]),
    "frame with named labels": lambda: _frame().rename_axis("n", axis=1),
    "frame with labels of two": lambda: pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
    "frame empty": lambda: pd.DataFrame(),
    "frame without rows": lambda: pd.DataFrame({"a": pd.Series([], dtype="int64")}),
    "frame without columns": lambda: pd.DataFrame(index=pd.RangeIndex(3)),
    "frame of times": lambda: pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None])}),
    "frame of times in utc": lambda: pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None], utc=True)}),
    "frame of times in seconds": lambda: pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None]).astype("M8[s]")}),
    "frame of objects": lambda: pd.DataFrame({"o": pd.Series([(1,), None, "a"], dtype=object)}),
    "frame of mixed columns": lambda: pd.DataFrame({"a": [1], "b": ["x"], "c": [True], "d": [1.5]}),
    **{
        f"series {dtype}": (lambda dtype=dtype: pd.Series([1, 0, 1], dtype=dtype, name="s"))
        for dtype in ("int64", "int8", "uint16", "float32", "float64", "bool", "Int64", "Float64", "boolean", "object")
    },
    "series with a gap": lambda: pd.Series([1, None], dtype="Int64", name="s"),
    "series with another gap": lambda: pd.Series([None, 1], dtype="Int64", name="s"),
    "series of texts": lambda: pd.Series(["a", None, "b"], dtype="string", name="s"),
    "series of other texts": lambda: pd.Series(["a", "", "b"], dtype="string", name="s"),
    "series of text objects": lambda: pd.Series(["a", None, "b"], dtype=object, name="s"),
    "series of categories": lambda: pd.Series(["a", "b", None], dtype="category", name="s"),
    "series of ordered categories": lambda: pd.Series(pd.Categorical(["a", "b", None], ordered=True), name="s"),
    "series of other categories": lambda: pd.Series(pd.Categorical(["a", "b", None], ["b", "a"]), name="s"),
    "series in a place": lambda: pd.Series(pd.date_range("2020", periods=2, tz="Europe/Berlin"), name="s"),
    "series in another place": lambda: pd.Series(pd.date_range("2020", periods=2, tz="Europe/Paris"), name="s"),
    "series of periods": lambda: pd.Series(pd.period_range("2020-01", periods=2, freq="M"), name="s"),
    "series of intervals": lambda: pd.Series(pd.interval_range(0, 2), name="s"),
    "series of sparse": lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1]), name="s"),
    "series of complex": lambda: pd.Series([1j, 2], name="s"),
    "series of spans": lambda: pd.Series(pd.to_timedelta([1, 2], unit="s"), name="s"),
    "series without name": lambda: pd.Series([1, 0, 1]),
    "series named by a tuple": lambda: pd.Series([1, 0, 1], name=("a", 1)),
    "series named by an int": lambda: pd.Series([1, 0, 1], name=0),
    "index": lambda: pd.Index([1, 2]),
    "index by name": lambda: pd.Index([1, 2], name="i"),
    "index of texts": lambda: pd.Index(["a", "b"]),
    "index as range": lambda: pd.RangeIndex(1, 3),
    "index of times": lambda: pd.DatetimeIndex(["2020-01-01", "2020-01-02"]),
    "index of times with rhythm": lambda: pd.date_range("2020-01-01", periods=2),
    "index of categories": lambda: pd.CategoricalIndex(["a", "b"]),
    "index of intervals": lambda: pd.interval_range(0, 2),
    "index of periods": lambda: pd.period_range("2020-01", periods=2, freq="M"),
    "index of two": lambda: pd.MultiIndex.from_product([[1, 2], ["a"]]),
    "array of pandas": lambda: pd.array([1, None], dtype="Int64"),
    "rhythm": lambda: pd.offsets.MonthEnd(2),
}


def _with_attrs(*, attrs: dict[str, Any]) -> pd.DataFrame:
    frame = _frame()
    frame.attrs.update(attrs)
    return frame
