"""Arrays and frames identify by labels, dtypes and content, and come back bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.values.workshop import new_values, same

pytestmark = pytest.mark.slow

VALUES = new_values()
calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

BITS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">i4", ">f8"]
TIMES = ["M8[s]", "M8[ms]", "M8[us]", "M8[ns]", "m8[s]", "m8[ns]"]
TEXTS = st.lists(st.one_of(st.none(), st.text("ab\0é", max_size=3)), min_size=3, max_size=3)


@st.composite
def arrays(draw: st.DrawFn, kinds: list[str], n: int) -> np.ndarray[Any, Any]:
    """Return an array of any bits."""
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    content = draw(st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize))
    return np.frombuffer(content if dtype != np.dtype("?") else bytes(b & 1 for b in content), dtype=dtype).copy()


@st.composite
def columns(draw: st.DrawFn) -> Any:
    """Return three items of one dtype of pandas."""
    numbers = draw(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=3, max_size=3))
    texts = draw(TEXTS)
    return draw(
        st.one_of(
            arrays([kind for kind in BITS if kind[0] != ">"], 3),
            arrays(TIMES, 3),
            st.sampled_from(["Int64", "UInt8", "Float64"]).map(lambda dtype: pd.array(numbers, dtype=dtype)),
            st.sampled_from(["str", "string", "category", "object"]).map(lambda dtype: pd.Series(texts, dtype=dtype)),
            st.sampled_from(["UTC", "Europe/Berlin"]).map(
                lambda zone: pd.Series(pd.to_datetime(numbers, unit="D")).dt.tz_localize(zone)
            ),
            st.just(pd.array([pd.Period(year=2000 + (n or 0), month=1, freq="M") for n in numbers])),
            st.just(pd.arrays.IntervalArray.from_tuples([(n or 0, 10) for n in numbers])),
            st.just(np.array([(1,), *texts[1:]], dtype=object)),
        )
    )


INDICES = st.one_of(
    st.just(pd.RangeIndex(3)),
    st.builds(pd.RangeIndex, st.just(2), st.just(8), st.just(2), name=st.sampled_from([None, "i", 5])),
    arrays(["i1", "i8", "u4", "f4", "f8", "?"], 3).map(pd.Index),
    TEXTS.map(pd.Index),
    st.builds(pd.Index, st.just([3, 1, 1]), name=st.sampled_from([None, "a", "i", 5, ("a", "b")])),
    st.just(pd.date_range("2020", periods=3)),
    st.just(pd.DatetimeIndex(["2020", None, "2019"], name="when")),
    st.just(pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, None)], names=["k", None])),
    st.just(pd.CategoricalIndex(["a", "b", None])),
)
LABELS = st.one_of(
    st.lists(st.text("ab é_", max_size=3), min_size=2, max_size=2, unique=True),
    st.sampled_from([["a", "a"], [0, 1], ["a", 1], ["__index_level_0__", "b"], [("a", 1), ("b", 2)], [None, "b"]]),
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    first, second = draw(columns()), draw(columns())
    frame = pd.DataFrame({0: first, 1: second})
    frame.index = draw(INDICES)
    frame.columns = draw(LABELS)
    frame.attrs = draw(st.sampled_from([{}, {}, {"source": 1}]))
    return frame


@calm
@given(frames())
def test_any_frame_comes_back_as_it_was(frame: pd.DataFrame) -> None:
    stored, echo = VALUES.store(frame)
    elsewhere = new_values()
    back = elsewhere.decode(stored)
    assert same(back, frame)
    assert elsewhere.digester.digest(back) == VALUES.digester.digest(frame) == VALUES.digester.digest(echo)


@calm
@given(frames())
def test_any_series_comes_back_as_it_was(frame: pd.DataFrame) -> None:
    series = frame.iloc[:, 0]
    stored, _ = VALUES.store(series)
    back = new_values().decode(stored)
    assert same(back, series)
    assert VALUES.digester.digest(back) == VALUES.digester.digest(series)


@calm
@given(frames(), frames())
def test_two_frames_digest_alike_exactly_if_they_are_the_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    assert (VALUES.digester.digest(a) == VALUES.digester.digest(b)) == same(a, b)


@calm
@given(frames())
def test_how_a_frame_lies_in_memory_does_not_identify(frame: pd.DataFrame) -> None:
    expected = VALUES.digester.digest(frame)
    twice = pd.concat([frame, frame])
    twice.attrs = frame.attrs
    halves = pd.concat([frame.iloc[:, :1], frame.iloc[:, 1:]], axis=1)
    halves.columns, halves.attrs = frame.columns, frame.attrs
    for other in (frame.copy(), halves):
        assert VALUES.digester.digest(other) == expected
    if not isinstance(frame.index, pd.RangeIndex | pd.DatetimeIndex):
        assert VALUES.digester.digest(twice.iloc[:3]) == expected


@calm
@given(frames(), st.integers(0, 2), st.integers(0, 1))
def test_a_frame_with_one_other_cell_digests_otherwise(frame: pd.DataFrame, row: int, column: int) -> None:
    other = frame.copy()
    label = pd.RangeIndex(2)
    other.columns = label
    changed = other[column].astype(object).copy()
    changed.iloc[row] = "something else"
    other[column] = changed
    other.columns = frame.columns
    assert VALUES.digester.digest(other) != VALUES.digester.digest(frame)


@calm
@given(arrays([*BITS, *TIMES, "S3", "V3"], 6), st.sampled_from([(6,), (2, 3), (3, 2), (1, 6), (6, 1, 1)]))
def test_any_array_comes_back_and_its_order_and_views_do_not_identify(array: Any, shape: tuple[int, ...]) -> None:
    array = array.reshape(shape)
    expected = VALUES.digester.digest(array)
    back = new_values().decode(VALUES.store(array)[0])
    padded = np.zeros(tuple(2 * n for n in shape), dtype=array.dtype)
    view = padded[tuple(slice(None, None, 2) for _ in shape)]
    view[...] = array
    for other in (back, np.asfortranarray(array), view, array[::-1][::-1], array.T.copy().T):
        assert same(np.ascontiguousarray(other), array)
        assert VALUES.digester.digest(other) == expected
    if array.size > 1 and shape[0] > 1 and not same(array[::-1].copy(), array):
        assert VALUES.digester.digest(array[::-1]) != expected


@pytest.mark.parametrize("kind", ["g", "G"])
def test_the_padding_of_extended_floats_does_not_identify(kind: str) -> None:
    size = np.dtype(kind).itemsize * 2
    dirty, clean = np.frombuffer(b"\xff" * size, dtype=kind).copy(), np.zeros(2, dtype=kind)
    dirty[:] = clean[:] = 1.5
    dirty_bytes = dirty.view(np.uint8)
    if np.finfo(np.longdouble).nmant == 63:
        dirty_bytes[10:16] = 0xAB
        assert dirty.tobytes() != clean.tobytes()
    assert VALUES.digester.digest(dirty) == VALUES.digester.digest(clean)
    assert VALUES.digester.digest(dirty[0]) == VALUES.digester.digest(clean[0])
    assert VALUES.digester.digest(clean + 1) != VALUES.digester.digest(clean)


def test_what_lies_under_the_mask_of_a_gap_does_not_identify() -> None:
    mask = np.array([False, True])
    a = pd.arrays.IntegerArray(np.array([1, 7]), mask)
    b = pd.arrays.IntegerArray(np.array([1, 8]), mask)
    assert VALUES.digester.digest(a) == VALUES.digester.digest(b)
    assert VALUES.digester.digest(pd.Series(a)) == VALUES.digester.digest(pd.Series(b))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="an older numpy")
def test_arrays_of_long_texts_come_back() -> None:
    array = np.array(["a", "b" * 50], dtype=np.dtypes.StringDType())
    back = new_values().decode(VALUES.store(array)[0])
    assert back.dtype == array.dtype
    assert list(back) == list(array)
    assert VALUES.digester.digest(back) == VALUES.digester.digest(array)
    assert VALUES.digester.digest(array) != VALUES.digester.digest(np.array(["a", "c"], dtype=array.dtype))


def test_columns_backed_by_arrow_come_back() -> None:
    frame = pd.DataFrame(
        {"a": pd.array([1, None], dtype="int64[pyarrow]"), "b": pd.array(["x", None], "string[pyarrow]")}
    )
    back = new_values().decode(VALUES.store(frame)[0])
    assert list(back.dtypes) == list(frame.dtypes)
    assert VALUES.digester.digest(back) == VALUES.digester.digest(frame)


def test_where_texts_are_kept_does_not_identify() -> None:
    kept = [pd.Series(["a", None], dtype=f"string[{where}]") for where in ("python", "pyarrow")]
    assert VALUES.digester.digest(kept[0]) == VALUES.digester.digest(kept[1])


def test_texts_that_utf8_does_not_have_are_told_apart() -> None:
    kept = [pd.Series([text], dtype=object) for text in ("\ud800", "\ud801", "a")]
    assert len({VALUES.digester.digest(series).digest for series in kept}) == 3
    assert same(new_values().decode(VALUES.store(kept[0])[0]), kept[0])


class OwnFrame(pd.DataFrame):
    @property
    def _constructor(self) -> Any:
        return OwnFrame


def test_a_subclass_is_not_taken_for_a_frame() -> None:
    own = OwnFrame({"a": [1.0]})
    assert VALUES.digester.digest(own) != VALUES.digester.digest(pd.DataFrame({"a": [1.0]}))
    assert type(new_values().decode(VALUES.store(own)[0])) is OwnFrame


def test_a_large_frame_is_stored_compressed_and_handed_on_as_it_is() -> None:
    frame = pd.DataFrame({"a": np.arange(100_000), "b": np.zeros(100_000)})
    stored, live = VALUES.store(frame)
    assert live is frame
    assert INLINE_LIMIT < stored.size < frame.memory_usage().sum()
    assert stored.preview == "DataFrame 100000 x 2 (a, b)"
