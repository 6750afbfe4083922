"""A run knows the arguments that it was called with, and so two calls of one flow are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.errors import InputsNotStored, ValueUnreadable
from tests.conftest import Lab
from tests.deciders.orders import Place, orders
from tests.graphs.playing import graph_of, work

TOO_LARGE = 2_000_000


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@flow
def main(x: int, path: str = "a.csv", *rest: object, **options: object) -> int:
    return x


def listed(run: iron.Run[Any] | None) -> str:
    assert run is not None
    [text] = iron.runs(run=run.id)["arguments"]
    return str(text)


def test_the_arguments_of_a_run_are_those_of_its_call_with_defaults(lab: Lab) -> None:
    main(3)
    main(4, "b.csv", 5, Point(1), deep={"a": [1, (2,)]})
    runs = iron.runs()
    assert list(runs["arguments"]) == [
        "x=4, path='b.csv', rest=(5, Point(x=1, y=0)), options={'deep': {'a': [1, (2,)]}}",
        "x=3, path='a.csv', rest=(), options={}",
    ]
    run = main.last
    assert run is not None
    assert run.arguments == {
        "x": 4, "path": "b.csv", "rest": (5, Point(1)), "options": {"deep": {"a": [1, (2,)]}},
    }  # fmt: skip
    assert list(run.arguments) == ["x", "path", "rest", "options"]
    assert repr(run.arguments) == f"Arguments({runs['arguments'][0]})"


def test_an_argument_that_is_a_value_of_its_own_is_shown_by_its_kind_and_read_in_full(lab: Lab) -> None:
    main(1, "long " * 2000, np.arange(5000))
    run = main.last
    assert run is not None
    assert listed(run).startswith("x=1, path=")
    assert "long" not in listed(run)
    assert run.arguments["path"] == "long " * 2000
    assert run.arguments["rest"][0].shape == (5000,)


def test_an_argument_that_was_not_stored_is_named_and_raises_when_it_is_asked_for(lab: Lab) -> None:
    main(1, "x" * TOO_LARGE)
    run = main.last
    assert run is not None
    assert listed(run).startswith("x=1, path=<str, not stored>, rest=()")
    assert repr(run.arguments).startswith("Arguments(x=1, path=<str, not stored>")
    assert run.arguments["x"] == 1
    assert "path" in run.arguments
    with pytest.raises(InputsNotStored, match=r"the argument path of run .* was not stored"):
        run.arguments["path"]
    with pytest.raises(KeyError):
        run.arguments["nothing"]


def test_an_argument_that_cant_be_read_here_raises_by_itself_and_hides_no_other(lab: Lab) -> None:
    class Local:
        def __reduce__(self) -> Any:
            return (Local, ())

    main(1, "a", Local())
    run = main.last
    assert run is not None
    lab.engine.signer._key = b"somebody else"  # type: ignore[attr-defined]
    assert listed(run).startswith("x=1, path='a', rest=")
    assert run.arguments["x"] == 1
    with pytest.raises(ValueUnreadable):
        run.arguments["rest"]


def test_the_text_of_a_long_call_is_cut(lab: Lab) -> None:
    @flow
    def wide(**options: object) -> None:
        """Take whatever comes."""

    wide(**{f"name_{n}": "v" * 100 for n in range(30)})
    [text] = iron.runs(wide)["arguments"]
    assert len(text) <= 200
    assert text.startswith("options={'name_0': 'vvv")
    assert text.endswith("…")


def test_the_input_of_a_graph_is_shown_as_people_write_it(lab: Lab) -> None:
    graph = graph_of(work("a"), functions={"did": lambda name, value: value})
    graph(team="blue", n=3)
    run = graph.last
    assert run is not None
    assert listed(run) == "team='blue', n=3"
    assert run.arguments == {"team": "blue", "n": 3}
    graph(notes="long " * 2000)
    assert graph.last is not None
    assert graph.last.arguments == {"notes": "long " * 2000}


def test_async_flows_children_and_deciders_have_them_too(lab: Lab) -> None:
    @flow
    async def child(n: int) -> int:
        return n

    @flow
    async def parent(n: int) -> int:
        return await child(n + 1)

    asyncio.run(_awaited(parent(1)))
    of_name = dict(zip(iron.runs()["name"].str.rpartition(".")[2], iron.runs()["arguments"], strict=True))
    assert of_name == {"parent": "n=1", "child": "n=2"}
    order = orders()
    order.send(Place("o-1", 5.0))
    [instance] = iron.runs(order.name)["run_id"]
    assert iron.runs(order.name)["arguments"].isna().all()
    assert iron.get_run(instance).arguments == {}


async def _awaited(call: Any) -> Any:
    return await call


def test_a_preview_of_arguments_costs_no_read_for_each_run(lab: Lab) -> None:
    for n in range(30):
        main.options(fresh=True)(n, "long " * 2000 + str(n))
    calls: list[int] = []
    with lab.engine.reading() as reader:
        read = type(reader).values

    def counted(self: Any, ids: Any, **options: Any) -> Mapping[Any, Any]:
        calls.append(len(ids))
        return read(self, ids, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(reader), "values", counted)
        assert len(iron.runs()) == 30
        n_first = len(calls)
        calls.clear()
        iron.runs(limit=1)
    assert n_first == len(calls)
