"""Steps and flows that are methods, class methods and static methods, and functions that something is bound to."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab


@dataclass
class Scaler:
    """Every kind of definition that a class can have, in both orders of decorators."""

    k: int

    @step
    def method(self, n: int = 1) -> Any:
        return self.k * n

    @step
    async def async_method(self, n: int = 1) -> Any:
        return self.k * n

    @step
    @classmethod
    def class_method(cls, n: int = 1) -> Any:
        return cls.__name__, n

    @classmethod
    @step
    def class_method_around(cls, n: int = 1) -> Any:
        return cls.__name__, n

    @step
    @staticmethod
    def static_method(n: int = 1) -> Any:
        return -n

    @staticmethod
    @step
    def static_method_around(n: int = 1) -> Any:
        return -n

    twice = functools.partialmethod(method, 2)

    @flow
    def flow_method(self, n: int = 1) -> Any:
        return self.method(n)

    @flow
    async def async_flow_method(self, n: int = 1) -> Any:
        return await self.async_method(n)

    @flow
    @classmethod
    def class_flow(cls, n: int = 1) -> Any:
        return cls.class_method(n)

    @classmethod
    @flow
    def class_flow_around(cls, n: int = 1) -> Any:
        return cls.class_method(n)

    @flow
    @staticmethod
    def static_flow(n: int = 1) -> Any:
        return -n

    @staticmethod
    @flow
    def static_flow_around(n: int = 1) -> Any:
        return -n


class Inheriting(Scaler):
    """A class that has it all from its base."""


def expected(found: Any, name: str, n: int) -> Any:
    if "class" in name:
        return (found if isinstance(found, type) else type(found)).__name__, n
    return -n if "static" in name else found.k * n


STEPS = [name for name in vars(Scaler) if "method" in name and "flow" not in name]
FLOWS = [name for name in vars(Scaler) if "flow" in name]
AROUND = {"class_method_around", "class_flow_around"}
OBJECTS = [Scaler(10), Inheriting(3)]


def bound_everywhere(names: list[str]) -> list[tuple[Any, str]]:
    """Return each name with what it may be taken of: of a class no plain method."""
    of_classes = [(Inheriting, name) for name in names if "class" in name or "static" in name]
    every = [*((found, name) for found in OBJECTS for name in names), *of_classes]
    # Since Python 3.13 a class method binds nothing but functions.
    return [(found, name) for found, name in every if name not in AROUND or sys.version_info < (3, 13)]


@pytest.mark.parametrize(("found", "name"), bound_everywhere(STEPS))
def test_a_step_of_a_class_is_bound_in_every_way_of_calling_it(lab: Lab, found: Any, name: str) -> None:
    bound = getattr(found, name)

    @flow
    def main() -> list[Any]:
        called = [] if "async" in name else [bound(2), bound.fn(2)]
        changed = bound.options(retries=1)
        return [*called, *bound.map([2]), bound.submit(2).result(), changed.submit(2).result(), *changed.map([2])]

    assert set(main()) == {expected(found, name, 2)}


@pytest.mark.parametrize(("found", "name"), bound_everywhere(FLOWS))
def test_a_flow_of_a_class_is_bound_in_every_way_of_calling_it(lab: Lab, found: Any, name: str) -> None:
    bound = getattr(found, name)
    assert "new run" in bound.plan(2).headline
    results = [bound.start(2).result(), bound.options(fresh=True).start(2).result()]
    if "async" not in name:
        results += [bound(2), bound.fn(2)]
    assert set(results) == {expected(found, name, 2)}


def test_a_flow_of_an_object_is_a_child_in_another_flow(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        return [Scaler(k).flow_method(3) for k in (2, 5)]

    assert main() == [6, 15]


def test_a_method_of_the_class_takes_objects_as_items(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        return [*Scaler.method.map([Scaler(2), Scaler(3)], [10, 10]), Scaler.method(Scaler(4), 10), Scaler(5).twice()]

    assert main() == [20, 30, 40, 10]


class Job:
    """A plain object; what it did is noted in a world."""

    def __init__(self, world: World, k: int) -> None:
        self.world = world
        self.k = k

    @step
    def work(self, n: int) -> int:
        self.world.did(self.k, n)
        if n == 3 and self.world.is_broken:
            self.world.die()
        return self.k * n

    @flow
    def main(self) -> list[int]:
        return [self.work(n) for n in (1, 2, 3)]


def test_after_a_restart_a_method_is_recognised_by_what_its_object_is(lab: Lab, world: World) -> None:
    with pytest.raises(SystemExit):
        Job(world, 10).main()
    world.is_broken = False
    assert Job(world, 10).main() == [10, 20, 30]
    assert world.log == [(10, 1), (10, 2), (10, 3), (10, 3)]
    assert Job(world, 7).main() == [7, 14, 21]


def test_a_run_of_a_method_is_resumed_with_its_recorded_object(lab: Lab, tmp_path: Any) -> None:
    switch = tmp_path / "switch"

    @step
    def check(path: Any) -> None:
        if not path.exists():
            raise OSError("off")

    global Kept

    @dataclass
    class Kept:
        path: Any
        k: int

        @flow(name="kept")
        def main(self, n: int) -> int:
            check(self.path)
            return self.k * n

    Kept.__qualname__ = "Kept"
    with pytest.raises(OSError, match="off"):
        Kept(switch, 6).main(7)
    switch.touch()
    assert Kept(switch, 0).main.resume().result() == 42


def test_branches_of_different_objects_are_told_apart(lab: Lab, world: World) -> None:
    jobs = [Job(world, 2), Job(world, 5)]

    @flow
    def main() -> list[int]:
        return iron.gather(*(functools.partial(job.work, 4) for job in jobs))

    assert main() == [8, 20]


@pytest.mark.parametrize("kind", ["method", "object", "partial"])
def test_what_a_function_is_bound_to_identifies_its_calls(lab: Lab, world: World, kind: str) -> None:
    class Tool:
        def __init__(self, k: list[int]) -> None:
            self.k = k

        def work(self, n: int) -> int:
            return self.k[0] * n

        def __call__(self, n: int) -> int:
            return self.k[0] * n

    def define(k: int) -> Any:
        given = {
            "method": Tool([k]).work,
            "object": Tool([k]),
            "partial": functools.partial(lambda k, n: k[0] * n, [k]),
        }[kind]
        return step(given, name="work")

    @flow(name="main")
    def main() -> int:
        worked: int = world.work(3)
        if world.is_broken:
            raise OSError("off")
        return worked

    world.work = define(2)
    with pytest.raises(OSError, match="off"):
        main()
    world.is_broken = False
    lab.cell()
    world.work = define(7)
    assert main() == 21


def test_a_partial_needs_a_name() -> None:
    with pytest.raises(iron.errors.DuplicateName, match="every partial has the same name"):
        step(functools.partial(print, 1))


def test_an_object_that_is_called_async_is_an_async_step(lab: Lab) -> None:
    class Ask:
        async def __call__(self, n: int) -> int:
            return n + 1

    ask = step(Ask())

    @flow
    def main() -> list[int]:
        return list(ask.map([1, 2]))

    assert main() == [2, 3]


def lost(name: str) -> Any:
    """Return the class method as Python binds it since 3.13, where a definition is wrapped in it."""
    return types.MethodType(vars(Scaler)[name].__func__, Scaler)


@pytest.mark.parametrize(
    "use",
    [
        lambda: lost("class_method_around").map([1]),
        lambda: lost("class_method_around").submit(1),
        lambda: lost("class_method_around").options(retries=1),
        lambda: lost("class_flow_around").start(1),
        lambda: lost("class_flow_around").plan(1),
        lambda: lost("class_flow_around").options(fresh=True),
    ],
)
def test_a_class_method_that_lost_its_class_is_refused_with_what_to_do(lab: Lab, use: Callable[[], Any]) -> None:
    with pytest.raises(iron.errors.DefinitionError, match="above @classmethod"):
        use()
    assert lost("class_flow_around")(1) == ("Scaler", 1)


def test_a_function_that_takes_a_class_is_no_class_method(lab: Lab) -> None:
    @step
    def name_of(cls: type) -> str:
        return cls.__name__

    @flow
    def main(cls: type) -> list[str]:
        return list(name_of.options(retries=1).map([cls, Scaler]))

    assert main.start(Inheriting).result(timeout_s=20) == ["Inheriting", "Scaler"]
