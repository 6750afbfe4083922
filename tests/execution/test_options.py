"""Options: each is right or refused where it is given, and None is not the same as not given."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from inspect import signature
from math import nan
from pathlib import Path
from typing import Any, Union

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.testing.clock import SimClock
from tests.cells import World
from tests.conftest import Lab


async def is_worth_it(error: BaseException) -> bool:
    await asyncio.sleep(0)
    return bool(error)


ON: list[Any] = [ValueError, (ValueError,), [OSError, ValueError], {ValueError}, OSError | ValueError, Exception]
ON += [Union[OSError, ValueError], partial(lambda kind, error: isinstance(error, kind), ValueError)]  # noqa: UP007


@pytest.mark.parametrize("on", [*ON, lambda error: isinstance(error, ValueError)])
def test_a_retry_takes_exceptions_in_every_usual_way(lab: Lab, world: World, on: Any) -> None:
    @step(retries=iron.Retry(attempts=3, delay_s=0, on=on))
    def work() -> int:
        world.did("tried")
        if len(world.log) < 3:
            raise ValueError
        return len(world.log)

    @flow
    def main() -> int:
        return work()

    assert main() == 3


@pytest.mark.parametrize(
    "on", ["ValueError", ValueError(), ["ValueError"], [ValueError, "OSError"], [], (), int, [int], 5, is_worth_it,
          Union[ValueError, None], lambda: True, lambda error, n: True, partial(isinstance, 1, int)],  # noqa: UP007
)  # fmt: skip
def test_a_retry_on_what_is_no_exception_is_refused_where_it_is_defined(on: Any) -> None:
    with pytest.raises(ValueError, match="on is a class of exceptions, several of them in a list"):
        iron.Retry(on=on)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": ""}, "name is a text"), ({"name": 5}, "name is a text"), ({"name": "\ud800"}, "half a character"),
        ({"key": 5}, "key is a format string or a function"), ({"key": is_worth_it}, "key is a format string or a"),
        ({"key": ["{n}"]}, "key is a format string or a"), ({"key": ""}, "key is a text"),
        ({"key": "{m}"}, "names 'm', and the arguments are n"), ({"key": "{}"}, "the arguments are n"),
        ({"key": "{n"}, "is no format string"), ({"key": "\ud800{n}"}, "half a character"),
        ({"once": "no"}, "once is True or False"),
        ({"retries": True}, "retries is how often"),
        ({"retries": "3"}, "retries is how often"), ({"cache": "often"}, "is no duration"), ({"cache": 0}, "cache is"),
        ({"on_change": "never"}, 'on_change is "guard"'), ({"on_change": 5}, 'on_change is "guard"'),
        ({"depends": 5}, "depends is a list"),
        ({"retry": 3}, "unexpected keyword"), ({"timeout_s": 0}, "timeout_s is more than 0 seconds"),
        ({"timeout_s": -1}, "timeout_s: a duration must"), ({"deadline_s": nan}, "deadline_s: a duration must"),
        ({"timeout_s": True}, "timeout_s: a duration is seconds"), ({"deadline_s": "soon"}, "deadline_s: 'soon' is no"),
        ({"timeout_s": 61, "deadline_s": "1m"}, "can't be more than deadline_s='1m'"),
        ({"overlap": 1}, "overlap is True or False"), ({"compensate": 1}, "is made of a function"),
        ({"lane": 3}, "lane is a name or"), ({"lane": ""}, "name is a text"),
    ],
)  # fmt: skip
def test_an_option_of_a_step_that_can_not_be_is_refused_at_once(options: dict[str, Any], match: str) -> None:
    def work(n: int) -> int:
        return n

    for define in (lambda: step(**options)(work), lambda: step(work).options(**options)):
        with pytest.raises((TypeError, ValueError, iron.IronflowError), match=match):
            define()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"on_rerun": "never"}, 'on_rerun is "continue"'),
        ({"durability": "paper"}, 'durability is "power"'),
        ({"continue_within": -1}, "zero or more"), ({"timeout_s": 0}, "timeout_s is more than 0"),
        ({"deadline_s": nan}, "deadline_s: a duration"), ({"timeout_s": 9, "deadline_s": 8}, "can't be more than"),
        ({"fresh": 1}, "fresh is True or False"), ({"key": ""}, "key is a text"), ({"key": 5}, "key is a text"),
        ({"key": "\udfff"}, "half a character"), ({"resume": True}, "unexpected keyword"),
        ({"compensate_on_cancel": 1}, "compensate_on_cancel is True or False"),
        ({"lane": 3}, "lane is a name or"), ({"priority": 1.5}, "priority is a whole number"),
    ],
)  # fmt: skip
def test_an_option_of_a_flow_or_graph_that_can_not_be_is_refused_at_once(options: dict[str, Any], match: str) -> None:
    graph = iron.Graph.from_yaml("graph: some\nnodes: [{id: a, value: 1}]")
    for definition in (flow(name="some")(lambda: None), graph):
        with pytest.raises((TypeError, ValueError), match=match):
            definition.options(**options)


def test_what_was_given_can_be_taken_back(lab: Lab) -> None:
    @step(key="{n}", cache="1d", on_change="keep", name="other", depends=[1], retries=2)
    def work(n: int) -> int:
        return n

    kept = work.options()
    assert (kept.name, kept.spec.options) == ("other", work.spec.options)
    plain = work.options(key=None, cache=None, on_change=None, name=None, depends=(), retries=0)
    assert plain.name.endswith("work")
    assert (plain.spec.key, plain.spec.cache_s, plain.spec.on_change, plain.spec.depends) == (None, None, None, ())
    assert plain.spec.retry.attempts == 1

    @flow
    def main() -> str:
        return str(iron.uuid4())

    keyed = main.options(key="k", durability="power", fresh=True, on_rerun="new")
    same = keyed.options()
    assert same.policy == keyed.policy
    assert keyed.options(fresh=False)() == keyed.options(fresh=False)()
    unkeyed = keyed.options(key=None, durability=None, fresh=False)
    assert (unkeyed.policy.key, unkeyed.policy.durability, unkeyed.policy.fresh) == (None, None, False)
    assert len({unkeyed(), unkeyed()}) == 2


def work_on(n: int) -> int:
    return n


def print_result(result: int) -> None:
    """Undo what `work_on` did."""


def settings(definition: Any) -> dict[str, Any]:
    """Return what the options of a definition have come to."""
    if isinstance(definition, iron.Step):
        spec = definition.spec
        return {
            "name": spec.name, "key": spec.key, "retries": spec.retry, "once": spec.once, "cache": spec.cache_s,
            "on_change": spec.on_change, "depends": spec.depends, "timeout_s": spec.limits.timeout_s,
            "deadline_s": spec.limits.deadline_s, "overlap": spec.overlaps, "executor": spec.executor,
            "breaker": spec.breaker, "lane": spec.lane,
            "compensate": None if spec.compensate is None else spec.options.compensate,
        }  # fmt: skip
    policy = definition.policy
    limits = {"timeout_s": policy.timeout_s, "deadline_s": policy.deadline_s}
    return {name.removesuffix("_s"): getattr(policy, name) for name in policy.__struct_fields__} | limits


DEFINED = {
    "step": step(work_on), "flow": flow(work_on),
    "graph": iron.Graph.from_yaml("graph: some\nnodes: [{id: a, value: 1}]"),
}  # fmt: skip
VALUES: dict[str, tuple[Any, Any]] = {
    "name": ("one", "other"), "key": ("{n}", "k{n}"), "retries": (2, iron.Retry(attempts=9)), "once": (True, False),
    "cache": ("1d", True), "depends": ([1], [2]), "fresh": (True, False), "on_rerun": ("new", "reuse"),
    "continue_within": ("3d", 60), "reuse_within": (5, "2d"), "on_change": ("keep", "strict"),
    "durability": ("power", "process"), "timeout_s": (5, "2m"), "deadline_s": ("1h", 60), "overlap": (True, False),
    "executor": (ThreadPoolExecutor(1), ThreadPoolExecutor),
    "breaker": ("one", iron.Breaker("other", failures=2)), "lane": ("one", iron.Lane("other", limit=2)),
    "priority": (1, -1),
    "compensate": (print_result, step(print_result)), "compensate_on_cancel": (True, False),
}  # fmt: skip
"""Two values of every option that any `options()` has, for an option that has none here is not proved."""
OPTIONS = [(style, name) for style, each in DEFINED.items() for name in signature(each.options).parameters]
OPTIONS.remove(("graph", "executor"))  # it is refused


@pytest.mark.parametrize(("style", "option"), OPTIONS)
def test_every_option_can_be_set_overridden_and_taken_back(style: str, option: str) -> None:
    plain = DEFINED[style]
    usual = settings(plain)
    first, second = ({option: value} for value in VALUES[option])
    given = plain.options(**first)
    assert settings(given)[option] != usual[option]
    assert settings(given.options()) == settings(given)
    other = given.options(**second)
    assert settings(other)[option] != settings(given)[option]
    assert settings(other.options(**{option: None})) == usual
    assert settings(plain) == usual


@pytest.mark.parametrize("decorate", [step, flow])
def test_an_option_of_a_decorator_that_is_none_has_its_default(decorate: Any) -> None:
    names = [name for name, each in signature(decorate).parameters.items() if each.kind is each.KEYWORD_ONLY]
    assert names
    assert settings(decorate(**dict.fromkeys(names))(work_on)) == settings(decorate(work_on))


def test_flows_and_graphs_have_the_same_options() -> None:
    assert iron.Flow.options is iron.Graph.options


def test_a_key_of_every_node_that_is_none_is_not_there() -> None:
    bare = iron.Graph("some").node("a", log="x")
    given = iron.Graph("some").node("a", log="x", retry=None, timeout_s=None, when=None, once=None, cache=None)
    assert given.data == bare.data
    assert iron.Graph("some").node("a", log=None).data["nodes"] == [{"id": "a", "log": None}]


def test_an_engine_keeps_the_durability_that_it_was_opened_with(lab: Lab, tmp_path: Path) -> None:
    engine = iron.open(tmp_path / "other.db", durability="process")
    before = iron.engine()
    with pytest.raises(ValueError, match=r'opened with durability="process".*iron.use\(path, durability="power"\)'):
        iron.use(engine, durability="power")
    assert iron.engine() is before
    with pytest.raises(ValueError, match='durability is "power" or "process"'):
        iron.use(tmp_path / "fourth.db", durability="paper")
    with pytest.raises(ValueError, match=r"mysql:// names no journal; .*postgresql://user@host/database") as refused:
        iron.use("mysql://ann:secret@host/runs")
    assert "secret" not in str(refused.value)
    engine.close()


def test_an_engine_is_opened_with_a_clock_of_its_own(tmp_path: Path) -> None:
    @step(retries=iron.Retry(attempts=3, delay_s=3600))
    def work() -> int:
        raise ValueError

    @flow
    def main() -> int:
        try:
            return work()
        except ValueError:
            return 1

    with iron.open(tmp_path / "journal.db", clock=SimClock()):
        assert main() == 1
        waited = iron.attempts()["started_at"].diff().max()
        assert waited.total_seconds() >= 3600
    with pytest.raises(TypeError, match="clock has the methods now, monotonic and wait"):
        iron.open(tmp_path / "journal.db", clock=5)  # type: ignore[arg-type]
