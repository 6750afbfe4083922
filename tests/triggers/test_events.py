"""Emitted events start one run of each flow that wants them, and cancel the runs that they concern."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution import Engine
from ironflow_nb.testing.simulated_time import pass_time


def given(definition: Any) -> list[Any]:
    """Return what the runs of a flow were given, oldest first."""
    found = [iron.get_run(run).arguments for run in definition.runs()["run_id"][::-1]]
    return [next(iter(arguments.values()), None) for arguments in found]


def statuses(definition: Any) -> list[str]:
    return definition.runs()["status"].tolist()[::-1]


def test_an_event_starts_one_run_of_each_flow_that_wants_it(engine: Engine) -> None:
    @flow(on="order.placed")
    def fulfil(order: dict[str, Any]) -> int:
        return int(order["id"])

    @flow(on="order.placed")
    async def count() -> str:
        return "counted"

    @flow(on="order.paid")
    def other(order: object) -> None:
        pass

    event = iron.emit("order.placed", {"id": 7})
    pass_time(engine, 0)
    assert [each.last and each.last.result() for each in (fulfil, count, other)] == [7, "counted", None]
    assert fulfil.runs()["key"].tolist() == [f"event order.placed {event}"]
    assert iron.work().empty


def test_the_same_key_is_one_event_for_ever(engine: Engine) -> None:
    @flow(on="order.placed")
    def fulfil(order: object) -> None:
        pass

    first = iron.emit("order.placed", 1, key="a")
    pass_time(engine, "300d")
    assert [iron.emit("order.placed", n, key="a") for n in (1, 2)] == [first, first]
    assert iron.emit("order.paid", 1, key="a") != first
    iron.emit("order.placed", 3, key="b")
    pass_time(engine, 0)
    assert given(fulfil) == [1, 3]


def test_where_selects_events_and_one_that_raises_is_told_and_blocks_no_other(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(on="order.placed", where="length(lines) > `1`")
    def large(order: object) -> None:
        pass

    @flow(on="order.placed")
    def each(order: object) -> None:
        pass

    orders = [{"lines": [1]}, {"lines": 5}, {"lines": [1, 2]}, None]
    for order in orders:
        iron.emit("order.placed", order)
    pass_time(engine, 0)
    assert given(large) == [{"lines": [1, 2]}]
    assert given(each) == orders
    assert "length()" in caplog.text
    assert iron.work()["state"].tolist() == ["dead", "dead"]
    assert iron.work()["run_name"].tolist() == [large.name] * 2


@pytest.mark.parametrize("debounce_s", [None, 5])
def test_an_event_that_is_a_dead_letter_starts_its_run_once_it_is_requeued(
    engine: Engine, debounce_s: float | None
) -> None:
    def define(where: str) -> Any:
        return flow(on="order.placed", debounce_s=debounce_s, where=where, name="fulfil")(lambda n: n)

    wrong = define("length(@) > `0`")
    iron.emit("order.placed", 1)
    pass_time(engine, 60)
    assert iron.work()["state"].tolist() == ["dead"]
    assert wrong.requeue() == 1
    pass_time(engine, 60)
    assert iron.work()["state"].tolist() == ["dead"]
    right = define("@ > `0`")
    assert right.requeue() == 1
    pass_time(engine, 60)
    assert given(right) == [1]
    assert iron.work().empty


WORKS: list[bool] = []


@step
def ship() -> None:
    if not WORKS:
        raise ConnectionError


def test_an_emit_in_a_flow_happens_once_and_a_replay_does_not_repeat_it(engine: Engine) -> None:
    @flow
    def order(n: int) -> str:
        event = iron.emit("order.placed", n)
        ship()
        return event

    @flow(on="order.placed")
    def fulfil(n: int) -> None:
        pass

    WORKS.clear()
    with pytest.raises(ConnectionError):
        order(1)
    WORKS.append(True)
    assert order.last is not None
    event = order.last.resume().result()
    pass_time(engine, 0)
    assert fulfil.runs()["key"].tolist() == [f"event order.placed {event}"]
    assert order.last.steps()["step"].tolist() == ["iron.emit[0]", f"{ship.spec.name}[0]"]


def test_an_emit_is_drawn_and_planned_as_a_step(engine: Engine) -> None:
    @flow
    def order(n: int) -> None:
        iron.emit("order.placed", n)

    order(1)
    assert order.last is not None
    assert "✓ emit('order.placed'): completed" in order.last.diagram().text
    assert order.last.plan()["action"].tolist() == ["reuse"]


def test_an_async_flow_emits_by_a_plain_call(engine: Engine) -> None:
    @flow(on="order.placed")
    def fulfil(n: int) -> None:
        pass

    @flow
    async def order(n: int) -> None:
        for number in range(n):
            iron.emit("order.placed", number)

    order.start(3).wait()
    pass_time(engine, 0)
    assert given(fulfil) == [0, 1, 2]


def test_of_events_that_follow_each_other_the_newest_starts_one_run(engine: Engine) -> None:
    @flow(on="saved", debounce_s=10)
    def build(n: int) -> None:
        pass

    for number in range(5):
        iron.emit("saved", number)
        pass_time(engine, 6)
    assert given(build) == []
    pass_time(engine, 6)
    assert given(build) == [4]
    iron.emit("saved", 5)
    pass_time(engine, 10)
    assert given(build) == [4, 5]


def test_max_wait_bounds_how_long_a_run_is_put_off(engine: Engine) -> None:
    @flow(on="saved", debounce_s=10, max_wait_s=25)
    def build(n: int) -> None:
        pass

    for number in range(10):  # at 0, 6, 12, 18, 24 | 30, ...
        iron.emit("saved", number)
        pass_time(engine, 6)
    pass_time(engine, 60)
    assert given(build) == [4, 9]


def test_events_that_do_not_match_keep_no_window_open(engine: Engine) -> None:
    @flow(on="saved", where="kind == 'source'", debounce_s=10)
    def build(file: dict[str, Any]) -> None:
        pass

    iron.emit("saved", {"kind": "source"})
    for _ in range(3):
        pass_time(engine, 4)
        iron.emit("saved", {"kind": "log"})
    assert given(build) == [{"kind": "source"}]


def test_an_event_cancels_the_live_runs_that_it_agrees_with(engine: Engine) -> None:
    @flow(on="order.placed", cancel_on="order.cancelled")
    def fulfil(order: dict[str, Any]) -> None:
        iron.wait_for("paid")

    for number in (1, 2, 3):
        iron.emit("order.placed", {"id": number, "total": 5})
    pass_time(engine, 0)
    iron.emit("order.cancelled", {"id": 2, "why": "too late"})
    iron.emit("order.cancelled", {"other": 1})
    pass_time(engine, 0)
    assert statuses(fulfil) == ["waiting", "cancelled", "waiting"]
    iron.emit("order.placed", {"id": 2, "total": 5})
    pass_time(engine, 0)
    assert statuses(fulfil) == ["waiting", "cancelled", "waiting", "waiting"]
    iron.emit("order.cancelled")
    pass_time(engine, 0)
    assert statuses(fulfil) == ["cancelled"] * 4


def test_an_expression_says_what_a_cancelling_event_and_a_run_have_in_common(engine: Engine) -> None:
    @flow(cancel_on={"order.cancelled": "order.id"})
    def fulfil(message: dict[str, Any]) -> None:
        iron.wait_for("paid")

    runs = [fulfil.start({"order": {"id": number}, "state": "new"}) for number in (1, 2)]
    pass_time(engine, 1)
    iron.emit("order.cancelled", {"order": {"id": 1}, "state": "gone"})
    iron.emit("order.cancelled", {"state": "new"})
    pass_time(engine, 0)
    assert [run.status for run in runs] == ["cancelled", "waiting"]


def test_a_cancelling_event_ends_what_waits_for_the_end_of_its_window(engine: Engine) -> None:
    @flow(on="order.placed", debounce_s=60, cancel_on="order.cancelled")
    def fulfil(order: dict[str, Any]) -> None:
        pass

    iron.emit("order.placed", {"id": 1})
    iron.emit("order.cancelled", {"id": 1})
    pass_time(engine, 600)
    assert given(fulfil) == []
    assert iron.work().empty


def test_events_that_nobody_wanted_wait_a_day_for_the_first_flow_that_does(engine: Engine) -> None:
    iron.emit("order.placed", 1)
    pass_time(engine, "30h")
    iron.emit("order.placed", 2)

    @flow(on="order.placed")
    def fulfil(n: int) -> None:
        pass

    pass_time(engine, 0)
    assert given(fulfil) == [2]

    @flow(on="order.placed")
    def later(n: int) -> None:
        pass

    pass_time(engine, 0)
    assert given(later) == []
    iron.emit("order.placed", 3)
    pass_time(engine, 0)
    assert (given(fulfil), given(later)) == ([2, 3], [3])


def test_a_flow_that_wants_other_events_now_is_not_started_by_those_of_before(engine: Engine) -> None:
    def define(event: str | None) -> Any:
        return flow(on=event, name="fulfil")(lambda n: n)

    define("order.placed")
    iron.emit("order.placed", 1)
    pass_time(engine, 0)
    fulfil = define("order.paid")
    iron.emit("order.placed", 2)
    iron.emit("order.paid", 3)
    pass_time(engine, 0)
    assert given(fulfil) == [1, 3]
    fulfil = define(None)
    iron.emit("order.paid", 4)
    pass_time(engine, 0)
    assert given(fulfil) == [1, 3]
    assert iron.work().empty


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on": ""}, "on is a text of one line"),
        ({"on": 3}, "not 3"),
        ({"where": "a"}, 'needs on="NAME'),
        ({"debounce_s": 1}, 'needs on="NAME'),
        ({"on": "a", "where": "a ="}, "where='a =' is no JMESPath"),
        ({"on": "a", "where": "nothing(a)"}, "Unknown function: nothing"),
        ({"on": "a", "debounce_s": 0}, "more than no time"),
        ({"on": "a", "debounce_s": -1}, "not -1"),
        ({"on": "a", "debounce_s": float("nan")}, "not nan"),
        ({"on": "a", "max_wait_s": 3}, "needs debounce_s="),
        ({"on": "a", "debounce_s": 3, "max_wait_s": 2}, "is shorter than"),
        ({"cancel_on": {"a": "["}}, "cancel_on='\\[' is no JMESPath"),
        ({"cancel_on": "a\nb"}, "text of one line"),
    ],
)
def test_options_of_events_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        flow(**options)(lambda n: n)


@pytest.mark.parametrize("function", [lambda a, b: a, lambda *, a: a])
def test_a_flow_that_does_not_take_the_data_of_an_event_is_refused(function: Any) -> None:
    with pytest.raises(iron.errors.DefinitionError, match="takes one argument or none"):
        flow(on="a", name="wrong")(function)


@pytest.mark.parametrize("name", ["", None, 3, "a\nb", "a\x1b[2J"])
def test_an_event_without_a_name_that_can_be_shown_is_refused(engine: Engine, name: Any) -> None:
    with pytest.raises(ValueError, match="the name of an event"):
        iron.emit(name)


def test_data_that_nothing_stores_is_refused_and_no_event_is_recorded(engine: Engine) -> None:
    with pytest.raises(iron.errors.ValueNotStorable):
        iron.emit("order.placed", iter([1]), key="a")
    with pytest.raises(ValueError, match="key is a text"):
        iron.emit("order.placed", 1, key="")
