"""Large frames and arrays travel to workers and back as references, if the journal has a place that both reach."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.value_store.value_references import LIMIT, pickled_by_reference
from tests.executors.conftest import HoldingExecutor
from tests.value_store.conftest import BUCKET
from tests.waits.conftest import until

N = 200_000


def table(seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"a": np.random.default_rng(seed).random(N), "b": np.arange(N)})


@step
def load(seed: int) -> pd.DataFrame:
    return table(seed)


@step
def doubled(frame: pd.DataFrame, beside: dict[str, Any]) -> dict[str, Any]:
    frame["a"] *= 2
    beside["array"][0] = 7.0
    return {"frame": frame, "array": beside["array"], "n": len(frame)}


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("bucket")
        return f"s3://{BUCKET}/a"
    return str(tmp_path / "a")


class Weighing(HoldingExecutor):
    """Performs at once, and notes how many bytes went there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = super().submit(pickle.loads(pickle.dumps(fn)), *args, **kwargs)
        self.perform()
        self.sizes.append((len(pickle.dumps(fn)), len(future.result())))
        return future


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def results(executor: Any) -> dict[str, Any]:
    @flow(name="main")
    def main() -> dict[str, Any]:
        return doubled.options(executor=executor)(load(1), {"array": np.ones(N)})

    return main()


def is_doubled(found: dict[str, Any]) -> bool:
    expected = table(1)
    expected["a"] *= 2
    pd.testing.assert_frame_equal(found["frame"], expected)
    return bool(found["array"].sum() == N + 6) and found["n"] == N


def test_only_references_travel(opened: Any, place: str) -> None:
    opened(values=place)
    weighing = Weighing()
    assert is_doubled(results(weighing))
    ((there, back),) = weighing.sizes
    assert there < 20_000
    assert back < 2_000
    opened()
    assert is_doubled(results(None))


def test_without_a_place_the_values_travel(opened: Any) -> None:
    opened()
    weighing = Weighing()
    assert is_doubled(results(weighing))
    assert all(size > N * 16 for size in weighing.sizes[0])


@pytest.mark.slow
def test_a_process_reads_and_writes_them(opened: Any, bucket: Any, processes: ProcessPoolExecutor) -> None:
    opened(values=f"s3://{BUCKET}/a")
    assert is_doubled(results(processes))


def test_what_is_small_or_has_no_codec_travels_in_the_pickle(tmp_path: Path) -> None:
    small, odd = np.zeros(LIMIT // 8 - 1), np.array([object()] * 3)
    found, _, frame = pickle.loads(pickled_by_reference([small, odd, pd.DataFrame({1: [2]})], str(tmp_path / "a")))
    assert found.tolist() == small.tolist()
    assert frame.equals(pd.DataFrame({1: [2]}))
    assert not (tmp_path / "a").exists()


def test_a_place_that_can_not_be_written_to_is_done_without(bucket: Any) -> None:
    content = pickled_by_reference(table(), "s3://no-such-bucket/a")
    assert len(content) > N * 16
    assert pickle.loads(content).equals(table())


def test_a_reference_whose_content_was_damaged_is_refused(tmp_path: Path) -> None:
    content = pickled_by_reference([table(), np.ones(N)], str(tmp_path / "a"))
    for path in [each for each in (tmp_path / "a").rglob("*") if each.is_file()]:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueUnreadable, match="has other bytes than were written"):
        pickle.loads(content)


def test_an_argument_that_many_items_share_is_written_once(opened: Any, bucket: Any) -> None:
    opened(values=f"s3://{BUCKET}/a")
    weighing = Weighing()

    @step
    def total(n: int, frame: pd.DataFrame) -> float:
        return n + float(frame["b"].sum())

    @flow(name="main")
    def main() -> list[float]:
        return list(total.options(executor=weighing).map([1, 2, 3], fixed={"frame": table()}, concurrency=1))

    assert main()[0] == N * (N - 1) / 2 + 1
    until(lambda: len(weighing.sizes) == 3)
    assert all(there < 20_000 for there, _ in weighing.sizes)
    assert len(list(bucket.objects.all())) == 1
    assert iron.steps()["status"].to_list() == ["completed"] * 3
