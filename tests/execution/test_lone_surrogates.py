"""Texts with half a character in them, as broken decoders leave them: kept as values, refused as names."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab
from tests.deciders.counters import Add, counters

HALF = "\ud800x"


@step
def echo(value: Any) -> Any:
    return value


@step(key="{value}")
def keyed(value: str) -> str:
    return value


@step
def named(**values: Any) -> Any:
    return values


@step
def failing(value: str) -> None:
    error = ValueError(value)
    error.add_note(value)
    error.value = value  # type: ignore[attr-defined]
    raise error


@pytest.mark.parametrize("value", [HALF, {HALF: [HALF]}, (HALF,), {HALF}])
def test_values_are_kept_and_recognised(lab: Lab, world: World, value: Any) -> None:
    @flow
    def main(given: Any) -> list[Any]:
        found = [echo(given), *echo.map([given]), echo.submit(given).result(), keyed(HALF), named(**{HALF: given})]
        if world.is_broken:
            world.die()
        return found

    with pytest.raises(SystemExit):
        main(value)
    world.is_broken = False
    assert main(value) == [value, value, value, HALF, {HALF: value}]
    assert set(iron.steps(flow=main)["status"]) == {"completed"}


def test_failures_are_kept(lab: Lab, world: World) -> None:
    @flow
    def main() -> None:
        try:
            failing(HALF)
        except ValueError as error:
            world.plan.append((error.args, error.value, error.__notes__))  # type: ignore[attr-defined]
        echo(1)
        if world.is_broken:
            world.die()

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    main()
    assert world.plan == [((HALF,), HALF, ["\\ud800x"])] * 2

    @flow
    def fails() -> None:
        raise ValueError(HALF)

    with pytest.raises(ValueError, match=HALF):
        fails()
    assert fails.last is not None
    assert isinstance(fails.last.error, ValueError)


def test_names_and_keys_are_refused_before_anything_runs(lab: Lab, world: World) -> None:
    def work() -> None:
        world.did("worked")

    def misnamed() -> None:
        """Have a name that nothing can be called."""

    misnamed.__qualname__ = HALF
    counter, echo = counters(), flow(lambda value: value, name="echo")
    in_lane = step(lambda value: world.did("in a lane"), name="in_lane", lane=iron.Lane("lane", key="value"))
    asked = [
        lambda: iron.Lane(HALF),
        lambda: iron.Breaker(HALF),
        lambda: iron.emit(HALF),
        lambda: iron.emit("a.b", key=HALF),
        lambda: echo.schedule(every_s=60, args=(1,), name=HALF),
        lambda: echo.sweep([{"value": HALF}], key="value"),
        lambda: step(name=HALF)(work),
        lambda: step(misnamed),
        lambda: flow(misnamed),
        lambda: flow(name=HALF)(work),
        lambda: flow(work).options(key=HALF),
        lambda: iron.Decider(HALF, initial=None),
        lambda: iron.projection(HALF, initial={})(lambda state, event: state),
        lambda: counter.send(Add(HALF, 1)),
        lambda: counter.send(Add("i", 1), key=HALF),
        lambda: counter.state(HALF),
        lambda: counter.history(HALF),
        lambda: counter.observations(HALF),
        lambda: counter.requeue(key=HALF),
        lambda: iron.runs(flow=HALF),
        lambda: iron.steps(flow=HALF),
        lambda: iron.get_run(HALF),
    ]
    for ask in asked:
        with pytest.raises((ValueError, LookupError, iron.IronflowError)) as refused:
            ask()
        assert not isinstance(refused.value, UnicodeError), refused.value
    assert world.log == []
    assert iron.runs().empty
    with pytest.raises(ValueError, match=r"the key of lane 'lane' for .* has half a character"):
        flow(lambda: in_lane(HALF), name="main")()
    with pytest.raises(ValueError, match=r"half a character|the name of a signal"):
        flow(lambda: iron.wait_for(HALF), name="waits")()
    assert world.log == []
    assert counter.instances().empty
