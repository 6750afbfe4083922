"""Measured values: what is recorded once, what is refused, and the frame."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab


def rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return step, attempt, name and value of each row."""
    short = frame.assign(step=frame["step"].str.rpartition(".")[2])
    return [
        tuple(None if pd.isna(each) and not isinstance(each, float) else each for each in row)
        for row in short[["step", "attempt", "name", "value"]].itertuples(index=False)
    ]


def test_a_frame_has_the_values_of_steps_and_flows_in_order(lab: Lab) -> None:
    @step
    def train(n: int) -> int:
        for epoch in range(2):
            iron.metric("loss", n / (epoch + 1))
        return n

    @flow
    def work(n: int) -> None:
        train(n)
        iron.metric("total", 10 * n)

    work(1)
    work(2)
    frame = work.last.metrics()  # type: ignore[union-attr]
    assert {str(name): str(dtype) for name, dtype in frame.dtypes.items()} == {
        "run_id": "string", "step": "string", "attempt": "Int64", "name": "string", "at": "datetime64[us, UTC]",
        "value": "float64",
    }  # fmt: skip
    assert rows(frame) == [("train[0]", 1, "loss", 2.0), ("train[0]", 1, "loss", 1.0), (None, None, "total", 20.0)]
    assert list(iron.metrics(work)["value"]) == [2.0, 1.0, 20.0, 1.0, 0.5, 10.0]
    assert list(iron.metrics(work, limit=1)["value"]) == [2.0, 1.0, 20.0]
    assert list(iron.metrics(run=iron.runs()["run_id"][1])["value"]) == [1.0, 0.5, 10.0]
    assert iron.metrics("nobody").empty
    assert dict(iron.metrics("nobody").dtypes) == dict(frame.dtypes)


def test_a_replay_records_no_value_of_the_flow_twice(lab: Lab, world: World) -> None:
    @step
    def count(n: int) -> int:
        iron.metric("n", n)
        return n

    @flow
    def work() -> None:
        for n in range(3):
            count(n)
            iron.metric("seen", n)
            iron.metric("tries", len(world.log) if n == 1 else 0)
        world.did("end")
        if world.is_broken:
            raise LookupError

    with pytest.raises(LookupError):
        work()
    first = work.last.metrics()  # type: ignore[union-attr]
    world.is_broken = False
    lab.cell()
    work()
    frame = work.last.metrics()  # type: ignore[union-attr]
    assert list(frame[frame["name"] == "n"]["value"]) == [0, 1, 2]
    assert list(frame[frame["name"] == "seen"]["value"]) == [0, 1, 2]
    assert sorted(frame[frame["name"] == "tries"]["value"]) == [0, 0, 1]  # what differs replaces what was recorded
    same = frame["name"] == "seen"
    assert list(frame[same]["at"]) == list(first[first["name"] == "seen"]["at"])


def test_branches_of_a_flow_have_values_of_their_own(lab: Lab) -> None:
    def branch(n: int) -> None:
        iron.metric("n", n)
        iron.metric("n", 10 * n)

    @flow
    def work() -> None:
        iron.gather(lambda: branch(1), lambda: branch(2))

    work()
    assert sorted(work.last.metrics()["value"]) == [1, 2, 10, 20]  # type: ignore[union-attr]


def test_each_attempt_has_its_values(lab: Lab, world: World) -> None:
    @step(retries=iron.Retry(attempts=2, delay_s=0.0))
    def shaky() -> None:
        world.did("try")
        iron.metric("try", len(world.log))
        if len(world.log) == 1:
            raise OSError("once")

    @flow
    def work() -> None:
        shaky()

    work()
    assert rows(work.last.metrics()) == [("shaky[0]", 1, "try", 1.0), ("shaky[0]", 2, "try", 2.0)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (math.nan, math.nan), (math.inf, math.inf), (-math.inf, -math.inf), (-0.0, -0.0), (2**63, 2.0**63),
        (-(2**70), -(2.0**70)), (2**53 + 1, 2.0**53), (True, 1.0), (Decimal("0.5"), 0.5), (Decimal("NaN"), math.nan),
        (Fraction(1, 4), 0.25), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (np.uint64(2**63), 2.0**63),
        (np.bool_(True), 1.0), (np.array(2.5), 2.5), (np.float16("nan"), math.nan), (5e-324, 5e-324),
    ],
)  # fmt: skip
def test_every_number_is_kept(lab: Lab, given: Any, kept: float) -> None:
    @step
    def measure() -> None:
        iron.metric("value", given)

    flow(lambda: measure(), name="work")()
    (found,) = iron.metrics()["value"]
    assert math.isnan(kept) if math.isnan(found) else found == kept


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("1", TypeError, "the metric 'value' is one number, not str '1'"),
        (None, TypeError, "not NoneType None"),
        (1j, TypeError, "not complex 1j"),
        (np.complex64(1), TypeError, "not a complex64"),
        ([1], TypeError, "not list"),
        (np.array([1.0, 2.0]), TypeError, r"not a ndarray of the shape \(2,\)"),
        (np.array([1.0]), TypeError, r"of the shape \(1,\)"),
        (pd.Series([1.0]), TypeError, r"not a Series of the shape \(1,\)"),
        (Decimal("sNaN"), TypeError, "one number, not Decimal"),
        (pd.NA, TypeError, "not NAType"),
        (10**400, ValueError, "larger than any float"),
    ],
)
def test_what_is_no_number_is_refused(lab: Lab, in_step: bool, given: Any, error: type[Exception], said: str) -> None:
    measure = step(lambda: iron.metric("value", given), name="measure")
    with pytest.raises(error, match=said):
        flow(lambda: measure(), name="work")() if in_step else iron.metric("value", given)


@pytest.mark.parametrize("name", ["", 5, None, "a\nb", "half \udc80"])
def test_what_is_no_name_is_refused(lab: Lab, name: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        iron.metric(name, 1.0)


def test_outside_of_a_run_nothing_is_recorded(lab: Lab) -> None:
    iron.metric("loss", 1.0)
    assert iron.metrics().empty
