"""Results of maps and futures as parts of other values, and what a flow returns of them."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import ValueNotStorable
from tests.cells import World
from tests.conftest import Lab


@step
def double(n: int) -> int:
    return 2 * n


@step
async def double_async(n: int) -> int:
    return 2 * n


@step
def total(value: Any) -> int:
    found = value["pages"] if isinstance(value, dict) else value
    return sum(found)


def test_a_flow_that_returns_its_map_returns_the_list(lab: Lab) -> None:
    @flow
    def main() -> Any:
        return double.map([1, 2, 3])

    assert main() == [2, 4, 6]
    assert type(main.last.result()) is list


def test_an_async_flow_that_returns_its_map_returns_the_list(lab: Lab) -> None:
    @flow
    async def main() -> Any:
        return double_async.map([1, 2, 3])

    found = asyncio.run(main())
    assert (found, type(found)) == ([2, 4, 6], list)


def test_the_failure_of_an_item_is_the_failure_of_a_flow_that_returns_the_map(lab: Lab) -> None:
    @step
    def broken(n: int) -> int:
        raise ZeroDivisionError(n)

    @flow
    def main() -> Any:
        return broken.map([1])

    with pytest.raises(ZeroDivisionError):
        main()
    assert main.last.status == "failed"


def test_a_map_that_is_passed_itself_is_a_list(lab: Lab) -> None:
    @flow
    def main() -> int:
        return total(double.map([1, 2, 3]))

    assert main() == 12


@pytest.mark.parametrize(
    "how", ["map in a dict", "map in a tuple", "map fixed in a list", "future", "future in a dict"]
)
def test_in_an_argument_it_is_refused_with_words_that_name_step_and_parameter(lab: Lab, how: str) -> None:
    @flow
    def main() -> Any:
        match how:
            case "map in a dict":
                return total({"pages": double.map([1, 2])})
            case "map in a tuple":
                return total((double.map([1, 2]),))
            case "map fixed in a list":
                return list(added.map([1], fixed={"more": [double.map([1, 2])]}))
            case "future":
                return total(double.submit(1))
        return total({"pages": [double.submit(1)]})

    @step
    def added(n: int, more: Any) -> int:
        return n

    with pytest.raises(
        ValueNotStorable, match=r"step [\w.]*(total: argument value|added: argument more): .*(list\(|its result)"
    ):
        main()


def test_in_a_result_it_is_refused_with_words(lab: Lab) -> None:
    @flow
    def main() -> Any:
        return {"pages": double.map([1, 2])}

    with pytest.raises(ValueNotStorable, match=r"put list\(...\) of them there"):
        main()


class Undecided:
    def __ironflow_digest__(self) -> bytes:
        raise KeyError("nothing")


def test_an_object_that_fails_to_say_what_it_is_names_step_and_argument(lab: Lab) -> None:
    @flow
    def main() -> int:
        return total([Undecided()])

    with pytest.raises(KeyError) as failure:
        main()
    assert "argument value of step" in "".join(failure.value.__notes__)


@attrs.define
class Order:
    items: set[str]
    parent: Any = None


def test_steps_that_get_objects_with_a_state_of_their_own_run_once(lab: Lab) -> None:
    world = World(lab.die)

    @step
    def load() -> Order:
        world.did("load")
        return Order({"a", "b", "c"})

    @step
    def price(order: Order, choose: Any) -> int:
        world.did("price")
        return len(choose(order.items))

    @flow
    def main() -> int:
        found = price(load(), sorted)
        if world.is_broken:
            raise ConnectionError
        return found

    for _ in range(2):
        with pytest.raises(ConnectionError):
            main()
        lab.cell()
    world.is_broken = False
    assert main() == 3
    assert world.log == ["load", "price"]
    assert iron.steps()["status"].tolist() == ["completed", "completed"]
