"""Events that a projection can't fold: it stops before them, or skips them and says which."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.projection_follower import Backoff
from ironflow_nb.deciders.store import deciders_of
from tests.conftest import Lab
from tests.deciders.orders import Place, orders
from tests.deciders.test_projections import placed


def picky(refused: set[float], **options: Any) -> iron.Projection[list[float]]:
    """Return a read model of totals that changes its state before it finds out that it can't."""

    @iron.projection("picky", initial=[], **options)
    def totals(state: list[float], event: iron.ProjectionEvent) -> list[float]:
        state.append(event.data["total"])
        if event.data["total"] in refused:
            raise ValueError("not this one")
        return state

    return totals


def test_it_stops_at_the_event_that_fails_and_keeps_the_last_good_one(lab: Lab) -> None:
    refused = {3.0}
    placed(orders(), 5)
    totals = picky(refused)
    with pytest.raises(
        iron.errors.ProjectionFailed, match=r"event 1 of order o-2 .*ValueError: not this one"
    ) as caught:
        totals.catch_up()
    assert isinstance(caught.value.__cause__, ValueError)
    names = ("projection", "decider", "instance", "sequence", "position")
    found = [getattr(caught.value, name) for name in names]
    assert found[:4] == ["picky", "order", "o-2", 1]
    assert totals.stored_state == [1.0, 2.0]
    assert totals.position < found[4]
    assert totals.lag == 3
    assert totals.error == str(caught.value)
    assert list(iron.projections()["status"]) == ["failed"]
    with pytest.raises(iron.errors.ProjectionFailed):
        totals.state  # noqa: B018
    refused.clear()
    assert picky({99.0}).state == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert totals.error is None


def test_the_very_first_event_may_fail(lab: Lab) -> None:
    placed(orders(), 1)
    totals = picky({1.0})
    for _ in range(2):
        with pytest.raises(iron.errors.ProjectionFailed):
            totals.catch_up()
    assert (totals.position, totals.stored_state, totals.lag) == (0, [], 1)


def test_new_code_that_fails_as_the_old_one_did_is_begun_nevertheless(lab: Lab) -> None:
    placed(orders(), 1)

    def failing(beginning: int) -> iron.Projection[int]:
        @iron.projection("failing", initial=beginning)
        def folded(state: int, event: iron.ProjectionEvent) -> int:
            raise ValueError("not this one")

        return folded

    for beginning in (1, 2):
        projection = failing(beginning)
        for _ in range(2):
            with pytest.raises(iron.errors.ProjectionFailed):
                projection.catch_up()
        assert list(iron.projections()["status"]) == ["failed"]
        assert projection.stored_state == beginning
    with lab.engine.reading() as reader:
        stored = deciders_of(reader).projection("failing")
    assert stored is not None
    assert stored.generation == 2, "and it is not begun again at every attempt"


def test_skipped_events_are_kept_with_their_errors(lab: Lab) -> None:
    placed(orders(), 5)
    totals = picky({1.0, 3.0, 4.0}, on_error="skip")
    assert totals.state == [2.0, 5.0]
    frame = totals.skipped()
    assert list(frame) == ["position", "decider", "instance", "sequence", "event", "error", "skipped_at"]
    assert list(frame["instance"]) == ["o-0", "o-2", "o-3"]
    assert set(frame["error"]) == {"ValueError: not this one"}
    assert totals.error is None
    assert totals.lag == 0
    lab.die()
    assert len(totals.skipped()) == 3
    totals.rebuild()
    assert len(totals.skipped()) == 3
    assert totals.stored_state == [2.0, 5.0]


def test_a_fold_that_forgets_to_return_the_state_is_told(lab: Lab) -> None:
    placed(orders(), 1)

    @iron.projection("forgetful", initial={})
    def forgetful(state: dict[str, Any], event: iron.ProjectionEvent) -> Any:
        state[event.instance] = 1

    with pytest.raises(iron.errors.ProjectionFailed, match="it has to return the state"):
        forgetful.catch_up()


def test_without_its_decider_an_event_has_only_its_data(lab: Lab) -> None:
    from ironflow_nb.execution.registry import REGISTRY

    orders("gone").send(Place("o-1", 5.0))
    REGISTRY.forget("decider", "gone")

    @iron.projection("raw", initial=0.0, of="gone")
    def raw(state: float, event: iron.ProjectionEvent) -> float:
        return state + float(event.data["total"])

    @iron.projection("object", initial=0.0, of="gone")
    def of_objects(state: float, event: iron.ProjectionEvent) -> float:
        return state + float(event.event.total)

    assert raw.state == 5.0
    with pytest.raises(iron.errors.ProjectionFailed, match="decider gone is not defined here"):
        of_objects.catch_up()


def test_a_state_that_nothing_stores_is_an_error_and_nothing_is_written(lab: Lab) -> None:
    placed(orders(), 1)

    @iron.projection("odd", initial=0)
    def odd(state: Any, event: iron.ProjectionEvent) -> Any:
        return iter([1])

    with pytest.raises(iron.errors.ValueNotStorable):
        odd.catch_up()
    assert odd.position == 0


def test_attempts_in_the_background_come_after_longer_and_longer_waits() -> None:
    waits, backoff = [], Backoff()
    for _ in range(7):
        backoff = backoff.failed()
        waits.append(backoff.wait_s)
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert Backoff().wait_s == 0.0
