"""Context variables: a body beside the flow sees what its caller sees, and keeps what it sets to itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@step
def who(n: int) -> str:
    found = f"{TENANT.get()} {n}"
    TENANT.set("a body")
    return found


@step
async def who_async(n: int) -> str:
    await asyncio.sleep(0)
    found = f"{TENANT.get()} {n}"
    TENANT.set("a body")
    return found


def named() -> Iterator[int]:
    for n in range(20):
        TENANT.set(f"item {n}")
        yield n


@pytest.mark.parametrize("ask", [who, who_async])
def test_bodies_of_a_def_flow_see_the_context_of_their_call(lab: Lab, ask: object) -> None:
    @flow
    def main() -> list[list[str]]:
        TENANT.set("ann")
        mapped = ask.map(range(3), concurrency=2)  # type: ignore[attr-defined]
        submitted = [ask.submit(3)]  # type: ignore[attr-defined]
        TENANT.set("ben")
        submitted.append(ask.submit(4))  # type: ignore[attr-defined]
        return [list(mapped), [each.result() for each in submitted], [TENANT.get()]]

    assert main() == [["ann 0", "ann 1", "ann 2"], ["ann 3", "ben 4"], ["ben"]]
    assert TENANT.get() == "ben"  # as after any function that is called


@pytest.mark.parametrize("ask", [who, who_async])
def test_bodies_of_an_async_flow_see_the_context_of_their_call(lab: Lab, ask: object) -> None:
    @flow
    async def main() -> list[list[str]]:
        TENANT.set("ann")
        mapped = ask.map(range(3), concurrency=2)  # type: ignore[attr-defined]
        submitted = [ask.submit(3)]  # type: ignore[attr-defined]
        TENANT.set("ben")
        submitted.append(ask.submit(4))  # type: ignore[attr-defined]
        return [await mapped, [await each for each in submitted], [TENANT.get()]]

    assert main.start().result() == [["ann 0", "ann 1", "ann 2"], ["ann 3", "ben 4"], ["ben"]]


@pytest.mark.parametrize("ask", [who, who_async])
def test_a_body_of_a_map_sees_what_its_items_were_pulled_with(lab: Lab, ask: object) -> None:
    @flow
    def main() -> list[str]:
        return list(ask.map(named(), concurrency=3))  # type: ignore[attr-defined]

    assert main() == [f"item {n} {n}" for n in range(20)]


def test_branches_and_their_maps_see_the_context_of_their_flow(lab: Lab) -> None:
    def branch() -> list[str]:
        before = TENANT.get()
        TENANT.set(f"{before}'s branch")
        return [*who.map([1]), who.submit(2).result()]

    @flow
    def main() -> list[list[str]]:
        TENANT.set("cid")
        return iron.gather(branch, branch)

    assert main() == [["cid's branch 1", "cid's branch 2"]] * 2


def test_a_retry_sees_the_context_of_its_call(lab: Lab) -> None:
    seen: list[str] = []

    @step(retries=iron.Retry(attempts=2, delay_s=0))
    def flaky(n: int) -> str:
        seen.append(TENANT.get())
        if len(seen) == 1:
            raise OSError(n)
        return TENANT.get()

    @flow
    def main() -> list[str]:
        TENANT.set("dan")
        return list(flaky.map([1]))

    assert main() == ["dan"]
    assert seen == ["dan", "dan"]
