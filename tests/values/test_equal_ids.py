"""What was loaded and is stored again has the id that it had, so that it lies in the journal once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.values.catalogue_frames import NUMPY, PANDAS
from tests.values.workshop import new_values

ROOT = Path(__file__).parents[2]
N = 2_000
COUNT = np.arange(N)


def texts() -> pd.Series:
    return pd.Series(COUNT).map("é{}".format).where(COUNT % 7 > 0)


LONG: dict[str, Callable[[], Any]] = {
    "numbers with gaps": lambda: pd.DataFrame(
        {"a": pd.array(COUNT, "Int64"), "b": pd.array([1.5, None] * (N // 2), "Float64")}
    ),
    "truth with gaps": lambda: pd.DataFrame({"a": pd.array([True, None] * (N // 2), "boolean"), "b": COUNT}),
    "categories": lambda: pd.DataFrame({"a": pd.Categorical(COUNT % 7), "b": pd.Categorical(texts())}),
    "texts as objects": lambda: pd.DataFrame({"a": texts().astype(object), "b": COUNT}),
    "texts of Python": lambda: pd.DataFrame({"a": texts().astype("string[python]")}),
    "times in a place": lambda: pd.DataFrame({"a": pd.date_range("2020", periods=N, tz="Europe/Berlin")}),
    "periods": lambda: pd.DataFrame({"a": pd.period_range("2020", periods=N, freq="D")}),
    "intervals": lambda: pd.DataFrame({"a": pd.interval_range(0, N)}),
    "sparse": lambda: pd.DataFrame({"a": pd.arrays.SparseArray(COUNT % 2), "b": COUNT * 1j}),
    "labels of ints": lambda: pd.DataFrame(COUNT.reshape(-1, 4)),
    "an index of two": lambda: pd.DataFrame({"a": COUNT}, pd.MultiIndex.from_arrays([COUNT // 7, texts()])),
    "an index with gaps": lambda: pd.DataFrame({"a": COUNT}, pd.Index(COUNT, dtype="Int64")),
    "an index of categories": lambda: pd.DataFrame({"a": COUNT}, pd.CategoricalIndex(COUNT % 7)),
    "an index of times": lambda: pd.DataFrame({"a": COUNT}, pd.date_range("2020", periods=N)),
    "every second row": lambda: pd.DataFrame({"a": pd.array(COUNT, "Int64"), "b": COUNT * 1j})[::2],
    "a list of frames": lambda: [pd.DataFrame({"a": pd.array([1, None], "Int64")}) for _ in range(3)],
    "a dict of frames": lambda: {"train": pd.DataFrame({"a": pd.Categorical(["x"])}), "n": 1},
}
EVERY = {**NUMPY, **PANDAS, **LONG}


@pytest.mark.sampled(60)
@pytest.mark.parametrize("name", EVERY)
def test_a_value_that_was_loaded_has_the_id_it_had(name: str) -> None:
    values = new_values()
    first, echo = values.store(EVERY[name]())
    assert values.encode(values.decode(first)).value_id == first.value_id
    assert values.encode(echo).value_id == first.value_id


def frame() -> pd.DataFrame:
    return pd.DataFrame({"n": COUNT, "x": COUNT / 3, "text": list(texts())})


SAME: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "put together": lambda whole: pd.concat([whole[:700], whole[700:]]),
    "column by column": lambda whole: pd.DataFrame({name: whole[name].copy() for name in whole}),
    "sliced": lambda whole: pd.concat([whole, whole], ignore_index=True)[:N],
    "filtered": lambda whole: pd.concat([whole, whole])[np.arange(2 * N) < N].set_index(whole.index),
    "every second row": lambda whole: whole.loc[whole.index.repeat(2)][::2].set_index(whole.index),
}
WHOLE: dict[str, Callable[[], pd.DataFrame]] = {
    "arrow": frame,
    "pickle": lambda: frame().assign(z=COUNT * 1j, c=pd.Categorical(COUNT % 5)),
}


@pytest.mark.parametrize("codec", WHOLE)
@pytest.mark.parametrize("how", SAME)
def test_the_way_in_which_a_frame_was_made_does_not_change_its_id(how: str, codec: str) -> None:
    whole = WHOLE[codec]()
    other = SAME[how](whole)
    values = new_values()
    assert values.digester.digest(other) == values.digester.digest(whole)
    assert values.encode(other).value_id == values.encode(whole).value_id
    # Before pandas 3 a column of texts is one of objects.
    assert values.encode(whole).codec == (codec if whole["text"].dtype == "str" else "pickle")


@pytest.mark.slow
def test_it_is_so_without_pyarrow() -> None:
    program = """
import sys
sys.modules["pyarrow"] = None
from tests.values.test_equal_ids import EVERY, test_a_value_that_was_loaded_has_the_id_it_had as check
for name in EVERY:
    check(name)
print(len(EVERY))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.split() == [str(len(EVERY))], found.stderr
