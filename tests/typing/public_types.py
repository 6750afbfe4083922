"""Checked by mypy, never run: what type checkers see of flows and steps."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

import pandas as pd

import ironflow_nb as iron
from ironflow_nb import Flow, MapResult, Run, Step, StepFuture, flow, gather, step


@step
def fetch(url: str, *, timeout: float = 1.0) -> dict[str, int]:
    return {url: int(timeout)}


@step
async def summarise(page: dict[str, int]) -> str:
    return str(page)


@step(name="other", key="{n}")
def named(n: int) -> int:
    return n


@step(depends=[named, "v1"])
def declared(n: int) -> int:
    return n


class Scaler:
    @step
    def scale(self, n: int) -> int:
        return n

    @flow
    def main(self, n: int) -> int:
        return self.scale(n)


def methods(scaler: Scaler) -> None:
    assert_type(scaler.scale(1), int)
    assert_type(scaler.scale.map([1]), MapResult[int])
    assert_type(Scaler.scale(scaler, 1), int)
    assert_type(scaler.main(1), int)
    assert_type(scaler.main.start(1), Run[int])


@flow
def digest(urls: list[str]) -> list[str]:
    pages = fetch.map(urls, concurrency=8)
    assert_type(pages, MapResult[dict[str, int]])
    notes = summarise.map(pages)
    assert_type(notes, MapResult[str])
    assert_type(notes[0], str)
    assert_type(fetch("u", timeout=2), dict[str, int])
    assert_type(fetch.submit("u"), StepFuture[dict[str, int]])
    assert_type(summarise.submit({"a": 1}), StepFuture[str])
    assert_type(summarise.submit({"a": 1}).result(), str)
    assert_type(gather(lambda: 1, lambda: 2), list[int])
    assert_type(gather(summarise.submit({"a": 1})), list[str])
    assert_type(named(1), int)
    assert_type(declared(1), int)
    assert_type(declared.options(depends=[])(1), int)
    return list(notes)


@flow(on_change="keep")
async def later(n: int) -> str:
    assert_type(await summarise({"a": n}), str)
    assert_type(await fetch.submit("u"), dict[str, int])
    assert_type(await fetch.map(["u"]), list[dict[str, int]])
    return "done"


@iron.projection("counts", initial={})
def counts(state: dict[str, int], event: iron.ProjectionEvent) -> dict[str, int]:
    return state | {event.instance: event.sequence}


def takes(_flow: Flow[[list[str]], list[str]], _step: Step[[int], int], _later: Coroutine[Any, Any, str]) -> None: ...


def calls() -> None:
    takes(digest, named, later(1))
    assert_type(digest(["u"]), list[str])
    assert_type(digest.start(["u"]), Run[list[str]])
    assert_type(digest.start(["u"]).result(), list[str])
    assert_type(later.start(1), Run[str])
    assert_type(digest.options(key="k")(["u"]), list[str])
    assert_type(iron.runs(digest), pd.DataFrame)
    assert_type(iron.get_run("abc"), Run[Any])
    assert_type(iron.resource(1), int)
    assert_type(digest.fn(["u"]), list[str])
    assert_type(counts, iron.Projection[dict[str, int]])
    assert_type(counts.state, dict[str, int])
    assert_type(counts.catch_up(wait_for=3).frame(), pd.DataFrame)


def options() -> None:
    assert_type(digest.options(key=None, on_rerun=None, continue_within="3d")(["u"]), list[str])
    assert_type(fetch.options(retries=None, depends=None).submit("u"), StepFuture[dict[str, int]])
    assert_type(iron.Graph("some").options(fresh=None), iron.Graph)


async def awaited() -> None:
    assert_type(await digest.start(["u"]), list[str])
    assert_type(await later(1), str)


def wrong() -> None:
    fetch(1)  # type: ignore[arg-type]
    fetch.submit()  # type: ignore[call-arg]
    digest("u")  # type: ignore[arg-type]
    later.start("n")  # type: ignore[call-overload]
    step(3)  # type: ignore[call-overload]
    iron.projection("p", initial=0, on_error="ignore")  # type: ignore[arg-type]
    iron.errors.RunNotFound("no such run", run=3)  # type: ignore[call-arg]
    iron.RunFailed("failed")  # type: ignore[call-arg]


def caught(error: iron.RunFailed | iron.RunCancelled, of_node: iron.NodeFailed, of_graph: iron.GraphInvalid) -> None:
    assert_type(error.run_id, str)
    assert_type(error.message, str)
    assert_type(of_node.retry_after_s, float | None)
    assert_type([(found.path, found.message) for found in of_graph.findings], list[tuple[tuple[str | int, ...], str]])
    assert_type(iron.errors.JournalBusy("busy", pids=[3]).pids, list[int])
