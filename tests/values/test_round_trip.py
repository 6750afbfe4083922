"""What is stored comes back: equal in type and content, and with the digest that it had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace

from ironflow_nb.errors import ValueNotStorable, ValueUnreadable
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.values.catalogue import CATALOGUE
from tests.values.catalogue_classes import Plain, Point, Reducing, WithCache
from tests.values.workshop import new_values, same

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

EACH = pytest.mark.parametrize("name", CATALOGUE)

MADE_BY_VALUE = {"dataclass made by a function", "dataclass made with another field", "named tuple with other fields"}
"""Their classes come back as other classes of that name, because nothing else has it."""


@pytest.mark.sampled(60)
@EACH
def test_every_value_of_the_catalogue_comes_back_in_another_process(name: str) -> None:
    value = CATALOGUE[name]()
    stored, _ = new_values().store(value)
    elsewhere = new_values()
    back = elsewhere.decode(stored)
    assert elsewhere.digester.digest(back) == new_values().digester.digest(CATALOGUE[name]())
    assert same(back, value) or name in MADE_BY_VALUE or type(value).__name__ in {"function", "method"}


@pytest.mark.sampled(60)
@EACH
def test_the_caller_gets_what_a_replay_will_see(name: str) -> None:
    values = new_values()
    stored, echo = values.store(CATALOGUE[name]())
    assert values.digester.digest(echo) == values.digester.digest(values.decode(stored))
    assert type(echo).__qualname__ == type(CATALOGUE[name]()).__qualname__


@pytest.mark.sampled(60)
@EACH
def test_storing_does_not_change_the_digest_of_the_value_itself(name: str) -> None:
    values = new_values()
    value = CATALOGUE[name]()
    before = values.digester.digest(value)
    stored, echo = values.store(value)
    assert values.digester.digest(value) == before == values.digester.digest(echo)
    assert values.digester.digest(values.decode(stored)) == before


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        ({"a": [1, None, True, 0.5, "x"]}, "json"),
        ((1, 2), "json"),
        (Point(1, (2,)), "json"),
        (b"bytes", "bytes"),
        (np.arange(3), "npy"),
        (np.array([1, None]), "pickle"),
        (pd.DataFrame({"a": [1.0]}), "arrow"),
        (pd.Series(["x"], name="s"), "arrow"),
        (pd.DataFrame({"a": pd.Categorical(["x"])}), "pickle"),
        (Plain(a=1), "pickle"),
        ([np.arange(3)], "pickle"),
    ],
    ids=["dict", "tuple", "dataclass", "bytes", "array", "objects", "frame", "series", "categories", "plain", "list"],
)
def test_a_value_takes_the_first_codec_that_gives_it_back(value: object, codec: str) -> None:
    assert new_values().encode(value).codec == codec


def large_values() -> dict[str, Any]:
    """Return values above the limit, one for each way of storing them."""
    n = INLINE_LIMIT
    return {
        "plain": {"a": list(range(n))},
        "tagged": [(i, Point(i)) for i in range(n // 20)],
        "bytes": bytes(n),
        "npy": np.arange(n, dtype=float),
        "arrow": pd.DataFrame({"a": np.arange(n, dtype=float)}),
        "arrow with gaps": pd.DataFrame({"a": np.where(np.arange(n) % 2, -np.nan, np.arange(n))}),
        "pickle": [Plain(n=i, text=f"{i:50}") for i in range(n // 50)],
        "pickle of odd ones": [Reducing(i) for i in range(n // 5)],
        "pickle of a frame": pd.DataFrame({"a": pd.Categorical(map(str, range(n)))}),
    }


@pytest.mark.parametrize("kind", large_values())
def test_a_large_value_identifies_alike_live_and_read_back(kind: str) -> None:
    values = new_values()
    value = large_values()[kind]
    stored, live = values.store(value)
    assert stored.size >= INLINE_LIMIT
    elsewhere = new_values()
    assert values.digester.digest(live) == elsewhere.digester.digest(elsewhere.decode(stored))
    assert values.digester.digest(live) == values.digester.digest(value)


def test_a_value_below_the_limit_is_handed_on_as_a_copy() -> None:
    value = {"a": [1]}
    _, echo = new_values().store(value)
    assert echo == value
    assert echo is not value
    assert echo["a"] is not value["a"]


class Shared:
    """Something that pickles otherwise than what it unpickles to: the pickle shares the text, the copy does not."""

    def __init__(self, text: str) -> None:
        self.__dict__[text] = text

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:
        return object.__new__, (Shared,), dict(vars(self))


def shared() -> Shared:
    return Shared(sys.intern("a rare text"))


def test_an_object_keeps_its_identity_though_its_copy_pickles_otherwise() -> None:
    from ironflow_nb.values.signed_pickles import pickled, unpickled

    assert pickled(shared()) != pickled(unpickled(pickled(shared())))
    values, elsewhere = new_values(), new_values()
    stored, echo = values.store(shared())
    expected = values.digester.digest(shared())
    assert values.digester.digest(echo) == expected
    assert elsewhere.digester.digest(elsewhere.decode(stored)) == expected


def test_the_parts_of_a_pickle_identify_alike_live_and_read_back() -> None:
    values, elsewhere = new_values(), new_values()
    stored, echo = values.store([shared(), shared()])
    assert values.digester.digest(echo[0]) == elsewhere.digester.digest(elsewhere.decode(stored)[0])


def test_an_object_that_was_changed_since_is_not_the_recorded_one() -> None:
    values = new_values()
    _, echo = values.store(Reducing(1))
    recorded = values.digester.digest(echo)
    echo.n = 2
    assert values.digester.digest(echo) == values.digester.digest(Reducing(2)) != recorded
    echo.n = 1
    assert values.digester.digest(echo) == recorded


@pytest.mark.parametrize("kind", [kind for kind, value in large_values().items() if type(value) is not bytes])
def test_a_large_value_that_was_changed_since_is_not_the_recorded_one(kind: str) -> None:
    values = new_values()
    _, live = values.store(large_values()[kind])
    recorded = values.digester.digest(live)
    if isinstance(live, dict):
        live["a"][0] = -1
    elif isinstance(live, pd.DataFrame):
        live.iloc[0, 0] = live.iloc[1, 0]
    else:
        live[0] = live[1]
    assert values.digester.digest(live) != recorded


def test_a_cached_property_does_not_identify() -> None:
    looked_at, values = WithCache(n=1), new_values()
    before = values.digester.digest(looked_at)
    assert looked_at.doubled == 2
    assert values.digester.digest(looked_at) == before


@pytest.mark.parametrize(
    "value", [pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([1, 2], name="s"), np.arange(2)], ids=repr
)
def test_arrays_and_frames_that_were_read_back_can_be_changed(value: Any) -> None:
    values = new_values()
    back = values.decode(values.store(value)[0])
    if isinstance(back, np.ndarray | pd.Series):
        back[0] = 7
        assert back[0] == 7
    else:
        back.loc[0, "a"] = 7
        assert back.loc[0, "a"] == 7


def test_without_pyarrow_everything_is_stored_all_the_same() -> None:
    program = """
import sys
sys.modules["pyarrow"] = None
from tests.values.catalogue import CATALOGUE
from tests.values.workshop import new_values
for name, make in CATALOGUE.items():
    values = new_values()
    stored, echo = values.store(make())
    assert stored.codec != "arrow"
    again = values.digester.digest(values.decode(stored)), values.digester.digest(make())
    assert again[0] == again[1] == values.digester.digest(echo), name
print(len(CATALOGUE))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(len(CATALOGUE)), "")


def test_a_frame_can_not_be_read_without_pyarrow_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = new_values().encode(pd.DataFrame({"a": [1.0]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueUnreadable, match="pyarrow"):
        new_values().decode(stored)


@pytest.mark.parametrize("n_bytes", [0, 1, 10])
def test_cut_content_is_unreadable_whatever_the_codec(n_bytes: int) -> None:
    for value in ({"a": [1, 2, 3]}, (1, 2), np.arange(3), pd.DataFrame({"a": [1.0]}), Plain(a=1)):
        values = new_values()
        stored = values.encode(value)
        cut = replace(stored, content=bytes(stored.content or b"")[:n_bytes])
        with pytest.raises(ValueUnreadable):
            values.decode(cut)


def test_missing_content_and_unknown_codecs_are_unreadable() -> None:
    values = new_values()
    stored = values.encode((1, 2))
    with pytest.raises(ValueUnreadable, match="missing"):
        values.decode(replace(stored, content=None))
    with pytest.raises(ValueUnreadable, match="'parquet'"):
        values.decode(replace(stored, codec="parquet"))
    with pytest.raises(ValueUnreadable, match="from-the-future"):
        values.decode(replace(stored, content=b'{"~": "from-the-future", "v": 1}'))


class NeverPickled:
    def __reduce__(self) -> str:
        raise RuntimeError("no")


class NeverLoaded(Exception):
    def __new__(cls, a: int, b: int) -> NeverLoaded:
        """Refuse to be made from `args`, also by libraries that make exceptions without `__init__`, as that of Dask."""
        return super().__new__(cls, a)

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


@pytest.mark.parametrize(
    "value",
    [NeverPickled(), [NeverPickled()], (NeverPickled(),), [NeverLoaded(1, 2)]],
    ids=["alone", "list", "tuple", "unloadable"],
)
def test_only_what_nothing_stores_is_refused(value: object) -> None:
    with pytest.raises(ValueNotStorable, match=r"can't be stored.*return something that can be pickled"):
        new_values().store(value)


def deep(n: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(n):
        made = [made]
    return made


@pytest.mark.parametrize("n", [50, 200, 500, 1000, 5000])
def test_however_deep_a_value_is_it_is_stored_exactly_or_refused(n: int) -> None:
    values = new_values()
    try:
        stored, _ = values.store(deep(n))
    except ValueNotStorable:
        assert n > 200
        return
    assert values.digester.digest(values.decode(stored)) == values.digester.digest(deep(n))


def test_a_value_that_contains_itself_comes_back_containing_itself() -> None:
    values = new_values()
    loop: list[Any] = [1]
    loop.append(loop)
    _, echo = values.store(loop)
    assert echo[1] is echo
    assert values.digester.digest(loop) == values.digester.digest(echo)
