"""The laws of digests and codecs, over any values that can be put together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Hashable
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.values.catalogue_classes import (
    Colour,
    Flags,
    Frozen,
    FrozenSlotted,
    Inherited,
    Level,
    Mapping,
    Pair,
    Plain,
    Point,
    Slotted,
    Twin,
    bits,
)
from tests.values.workshop import new_values, same

# The digests of one example are compared with each other, so that one digester will do.
VALUES = new_values()
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=5)
KINDS = (np.int8, np.int64, np.float32, np.float64, np.bool_)
ZONES = st.one_of(
    st.none(),
    st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")]),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)), st.just("a name")),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
)
FLOATS = st.one_of(
    st.floats(), st.binary(min_size=8, max_size=8).map(bytes.hex).map(bits)
)  # fmt: skip

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    FLOATS,
    st.builds(complex, FLOATS, FLOATS),
    ANY_TEXT,
    st.sampled_from(["", "~", "v", "1", "None", "tuple", "2020-01-01"]),
    st.binary(max_size=4),
    st.dates(),
    st.builds(
        dt.datetime.replace, st.datetimes(), tzinfo=ZONES, fold=st.sampled_from([0, 1])
    ),
    st.builds(dt.time.replace, st.times(), tzinfo=ZONES, fold=st.sampled_from([0, 1])),
    st.timedeltas(),
    st.decimals(),
    st.sampled_from([Decimal("sNaN"), Decimal("-0"), Decimal("1.0"), Decimal("1.00")]),
    st.uuids(),
    st.text("ab/.", max_size=4).map(PurePosixPath),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 3)),
    st.sampled_from([*Colour, *Level, *Flags, Flags(0), Flags.A | Flags.B]),
    st.builds(np.ndarray.__getitem__, st.sampled_from([np.arange(2, dtype=kind) for kind in KINDS]), st.integers(0, 1)),
    st.sampled_from([pd.Timestamp(0), pd.Timestamp(0, tz="UTC"), pd.NaT, pd.NA, pd.Timedelta(0)]),
    st.sampled_from([UUID(int=0), Frozen(), FrozenSlotted(), pd.Timestamp(1)]),
)  # fmt: skip


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return isinstance(value, Hashable)


def made_of(kind: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what makes a container of items; an empty one of those that can't be compared, as Decimal and np.int64."""

    def make(items: Any) -> Any:
        try:
            return kind(items)
        except TypeError:
            return kind()

    return make


def containers(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = items.filter(is_hashable)
    return st.one_of(
        st.lists(items, max_size=3),
        st.lists(items, max_size=3).map(tuple),
        st.lists(keys, max_size=3).map(made_of(set)),
        st.lists(keys, max_size=3).map(made_of(frozenset)),
        st.dictionaries(ANY_TEXT, items, max_size=3),
        st.dictionaries(st.sampled_from(["~", "v", "a"]), items, max_size=3),
        st.lists(st.tuples(keys, items), max_size=3).map(made_of(dict)),
        st.builds(bytearray, st.binary(max_size=2)),
        st.builds(Point, items, items),
        st.builds(Inherited, items, items, items),
        st.builds(Frozen, items),
        st.builds(Slotted, items),
        st.builds(FrozenSlotted, items),
        st.builds(Pair, items, items),
        st.builds(Twin, items, items),
    )


def array_of(items: list[Any]) -> Any:
    made = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):  # all at once, numpy would look into ranges
        made[place] = item
    return made


def anything(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return containers too that only a pickle stores."""
    return st.one_of(
        containers(items),
        st.builds(Plain, a=items, b=items),
        st.lists(items, max_size=2).map(array_of),
        st.dictionaries(ANY_TEXT, items, max_size=2).map(Mapping),
    )


TAGGABLE = st.recursive(SCALARS, containers, max_leaves=8)
ANYTHING = st.recursive(SCALARS, anything, max_leaves=8)

# Few and close to each other, so that two of them are often equal, or nearly so.
CLOSE = st.recursive(
    st.sampled_from([0, 0.0, -0.0, False, None, "", "0", b"", np.int64(0), Decimal(0), (), frozenset()]),
    lambda items: st.one_of(
        st.lists(items, max_size=2),
        st.lists(items, max_size=2).map(tuple),
        st.lists(items.filter(is_hashable), max_size=2).map(made_of(set)),
        st.dictionaries(st.sampled_from(["a", "~", 0]), items, max_size=2),
        st.builds(Point, items),
        st.builds(Frozen, items),
        st.builds(Twin, items, items),
    ),
    max_leaves=4,
)


@calm
@given(CLOSE, CLOSE)
def test_two_values_digest_alike_exactly_if_they_are_the_same(a: Any, b: Any) -> None:
    assert (VALUES.digester.digest(a) == VALUES.digester.digest(b)) == same(a, b)


@calm
@given(ANYTHING, ANYTHING)
def test_two_values_of_any_kind_digest_alike_exactly_if_they_are_the_same(a: Any, b: Any) -> None:
    assert (VALUES.digester.digest(a) == VALUES.digester.digest(b)) == same(a, b)


def rebuilt(value: Any) -> Any:
    """Return a value that is the same, and shares nothing that could be made anew; dicts and sets run backwards."""
    match value:
        case str() | bytes() if type(value) in {str, bytes}:
            return (value + value[:1])[: len(value)] if len(value) > 1 else value
        case list() if type(value) is list:
            return [rebuilt(item) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(rebuilt(item) for item in value)
        case set() | frozenset():
            return type(value)(rebuilt(item) for item in reversed(list(value)))
        case dict():
            return type(value)((rebuilt(key), rebuilt(item)) for key, item in reversed(value.items()))
        case Pair() | Twin():
            return type(value)(*map(rebuilt, value))
        case Plain():
            return Plain(**{name: rebuilt(item) for name, item in reversed(vars(value).items())})
        case Point():
            return type(value)(*map(rebuilt, vars(value).values()))
        case Frozen() | Slotted() | FrozenSlotted():
            return type(value)(rebuilt(value.x))
        case np.ndarray():
            return array_of([rebuilt(item) for item in value])
    return value


@calm
@given(ANYTHING)
def test_a_value_that_was_made_otherwise_digests_alike(value: Any) -> None:
    assert VALUES.digester.digest(rebuilt(value)) == VALUES.digester.digest(value)


@calm
@given(ANYTHING)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    stored, echo = VALUES.store(value)
    elsewhere = new_values()
    back = elsewhere.decode(stored)
    assert same(back, value)
    assert same(echo, value)
    assert elsewhere.digester.digest(back) == VALUES.digester.digest(value)


@calm
@given(TAGGABLE)
def test_what_has_a_tagged_form_needs_no_pickle(value: Any) -> None:
    assert VALUES.encode(value).codec in {"json", "bytes"}


@calm
@given(ANYTHING)
def test_a_value_stored_twice_has_one_id(value: Any) -> None:
    stored, echo = VALUES.store(value)
    if stored.codec != "pickle":  # whose bytes tell what shares what
        assert VALUES.encode(echo).value_id == stored.value_id
