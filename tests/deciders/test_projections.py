"""Projections: read models folded from the events of all deciders, in their order, each event once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb.deciders import projector
from ironflow_nb.deciders.store import deciders_of
from tests.conftest import Lab
from tests.deciders.orders import Expired, Pay, Place, Placed, orders


def placed(order: Any, n_orders: int, start: int = 0) -> None:
    """Place orders of 1, 2, 3, ... each."""
    for n in range(start, start + n_orders):
        order.send(Place(f"o-{n}", float(n + 1)))


def tally(name: str = "tally", **options: Any) -> iron.Projection[Any]:
    """Return a read model that keeps the positions it was folded from."""

    @iron.projection(name, initial=[], **options)
    def folded(state: list[Any], event: iron.ProjectionEvent) -> list[Any]:
        state.append([event.position, event.instance, event.sequence, event.name])
        return state

    return folded


def test_events_are_folded_in_global_order_once_each(lab: Lab) -> None:
    order, bill = orders(), orders("bill")
    seen = tally()
    assert seen.state == []
    placed(order, 2)
    bill.send(Place("o-0", 9.0))
    order.send(Pay("o-0"))
    expected = [["o-0", 1, "Placed"], ["o-1", 1, "Placed"], ["o-0", 1, "Placed"], ["o-0", 2, "Paid"]]
    assert [row[1:] for row in seen.state] == expected
    positions = [row[0] for row in seen.state]
    assert positions == sorted(set(positions))
    assert len(seen.state) == 4


def test_an_event_says_where_it_is_from_and_is_an_object_of_its_class(lab: Lab) -> None:
    order, found = orders(), []

    @iron.projection("look", initial=0)
    def look(state: int, event: iron.ProjectionEvent) -> int:
        found.append((event.decider, event.instance, event.event, event.data, event.at.utcoffset() is not None))
        return state + 1

    order.send(Place("o-1", 5.0))
    assert look.state == 1
    assert found == [("order", "o-1", Placed(5.0), {"total": 5.0}, True)]
    with pytest.raises(AttributeError):
        look.fn(0, iron.ProjectionEvent(**_fields())).decider = "x"  # type: ignore[attr-defined]


def _fields() -> dict[str, Any]:
    from datetime import UTC, datetime

    at = datetime(2030, 1, 1, tzinfo=UTC)
    return {
        "decider": "order", "instance": "o", "sequence": 1, "position": 1, "at": at, "name": "Placed",
        "_json": '{"total":1.0}', "_codec": orders("order").event_codec,
    }  # fmt: skip


def test_only_events_of_deciders_are_folded(lab: Lab) -> None:
    @iron.flow
    def unrelated() -> int:
        return 1

    unrelated()
    order = orders()
    order.send(Place("o-1", 5.0))
    unrelated()
    seen = tally()
    assert [row[3] for row in seen.state] == ["Placed"]
    assert seen.lag == 0


def test_of_narrows_to_deciders_and_classes_of_events(lab: Lab) -> None:
    order, bill = orders(), orders("bill")
    for each in (order, bill):
        each.send(Place("o", 1.0))
        each.send(Pay("o"))
    assert len(tally("all").state) == 4
    assert len(tally("orders", of=order).state) == 2
    assert len(tally("by name", of="bill").state) == 2
    assert [row[3] for row in tally("placed", of=Placed).state] == ["Placed", "Placed"]
    assert [row[2:] for row in tally("both", of=[order, Placed, Expired]).state] == [[1, "Placed"]]
    for wrong in (3, [], [order, 3]):
        with pytest.raises(iron.errors.DefinitionError, match="of="):
            tally("wrong", of=wrong)
    with pytest.raises(iron.errors.DefinitionError, match="on_error"):
        tally("wrong", on_error="ignore")


def test_a_restart_continues_where_it_stopped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "BATCH", 3)
    placed(orders(), 7)
    calls: list[int] = []

    def define() -> iron.Projection[int]:
        @iron.projection("sum", initial=0)
        def total(state: int, event: iron.ProjectionEvent) -> int:
            calls.append(event.position)
            return state + 1

        return total

    assert define()._current_projector().step()
    assert len(calls) == 3
    lab.die()
    total = define()
    assert total.lag == 4
    assert total.state == 7
    assert len(calls) == len(set(calls)) == 7
    placed(orders(), 2, 7)
    assert total.state == 9
    assert len(calls) == 9


def test_a_rebuild_makes_the_same_read_model(lab: Lab) -> None:
    placed(orders(), 5)
    seen = tally()
    before = seen.frame()
    n_generations = _generation(lab, "tally")
    assert seen.rebuild().position == seen.position
    pd.testing.assert_frame_equal(seen.frame(), before)
    assert _generation(lab, "tally") == n_generations + 1


def _generation(lab: Lab, name: str) -> int:
    with lab.engine.reading() as reader:
        found = deciders_of(reader).projection(name)
    assert found is not None
    return found.generation


def test_new_code_folds_from_the_beginning_and_says_so_once(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ironflow_nb")
    placed(orders(), 3)

    @iron.projection("sum", initial=0.0)
    def total(state: float, event: iron.ProjectionEvent) -> float:
        return state + float(event.data["total"])

    assert total.state == 6.0

    @iron.projection("sum", initial=0.0)
    def changed(state: float, event: iron.ProjectionEvent) -> float:
        return state + 10 * float(event.data["total"])

    assert list(iron.projections()["status"]) == ["outdated"]
    assert changed.lag == 3
    assert changed.state == 60.0
    assert changed.state == 60.0
    said = [line for line in caplog.messages if "from the beginning" in line]
    assert said == ["projection sum: its code has changed; it is folded again from the beginning"]


@dataclass(frozen=True)
class Balance:
    total: float = 0.0
    n_orders: int = 0


def test_states_are_kept_with_the_codecs_of_step_outputs(lab: Lab) -> None:
    placed(orders(), 3)

    @iron.projection("balances", initial={})
    def balances(state: dict[str, Balance], event: iron.ProjectionEvent) -> dict[str, Balance]:
        before = state.get(event.instance, Balance())
        return state | {event.instance: replace(before, total=before.total + event.event.total)}

    @iron.projection("rows", initial=pd.DataFrame({"total": pd.Series(dtype="float64")}))
    def rows(state: pd.DataFrame, event: iron.ProjectionEvent) -> pd.DataFrame:
        return pd.concat([state, pd.DataFrame({"total": [event.data["total"]]})], ignore_index=True)

    assert balances.state == {"o-0": Balance(1.0), "o-1": Balance(2.0), "o-2": Balance(3.0)}
    assert balances.frame().to_dict("list") == {
        "key": ["o-0", "o-1", "o-2"], "total": [1.0, 2.0, 3.0], "n_orders": [0, 0, 0],
    }  # fmt: skip
    pd.testing.assert_frame_equal(rows.frame(), pd.DataFrame({"total": [1.0, 2.0, 3.0]}))
    with lab.engine.reading() as reader:
        assert deciders_of(reader).projection_state("rows").codec == "arrow"  # type: ignore[union-attr]
    lab.die()
    pd.testing.assert_frame_equal(rows.stored_state, pd.DataFrame({"total": [1.0, 2.0, 3.0]}))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([{"a": 1}, {"a": 2}], {"a": [1, 2]}),
        ([Balance(1.0, 2)], {"total": [1.0], "n_orders": [2]}),
        ({"x": 1, "y": 2}, {"key": ["x", "y"], "value": [1, 2]}),
        (Balance(1.0, 2), {"total": [1.0], "n_orders": [2]}),
        (7, {"value": [7]}),
    ],
)
def test_a_state_of_any_kind_has_a_frame(lab: Lab, state: Any, expected: dict[str, list[Any]]) -> None:
    shown = iron.projection("shown", initial=state)(lambda before, _: before)
    assert shown.frame().to_dict("list") == expected


def test_what_was_accepted_is_in_the_read_model_that_waited_for_its_position(lab: Lab) -> None:
    order, seen = orders(), tally()
    accepted = order.send(Place("o-1", 5.0), key="k").unwrap()
    assert accepted.position == int(iron.events()["position"].max())
    assert len(seen.catch_up(wait_for=accepted.position).stored_state) == 1
    assert seen.position >= accepted.position
    again = order.send(Place("o-1", 5.0), key="k").unwrap()
    assert again.is_repeated
    assert again.position >= accepted.position
    with pytest.raises(iron.ResultTimeout, match="position 999"):
        seen.catch_up(wait_for=999, timeout_s=0.05)


def test_projections_are_listed_with_their_places(lab: Lab) -> None:
    assert list(iron.projections()) == ["name", "position", "lag", "status", "error", "updated_at"]
    placed(orders(), 2)
    seen = tally()
    row = iron.projections().query("name == 'tally'").iloc[0]
    assert (row["position"], row["lag"], row["status"]) == (0, 2, "behind")
    seen.catch_up()
    row = iron.projections().query("name == 'tally'").iloc[0]
    assert (row["position"], row["lag"], row["status"]) == (seen.position, 0, "current")
    assert row["updated_at"].tzinfo is not None
