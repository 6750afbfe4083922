"""Lineage: what went into the calls of a run, found by the values that are recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab


@step(name="fetch")
def fetch(page: int) -> dict[str, int]:
    return {"page": page, "words": 100 * page + 7}


@step(name="total")
def total(pages: list[dict[str, int]], unit: str) -> str:
    return f"{sum(page['words'] for page in pages)} {unit}"


@step(name="shout")
def shout(text: str) -> str:
    return text.upper()


@flow
def report(n: int, unit: str) -> str:
    return shout(total([fetch(page) for page in range(n)], unit))


@flow
async def report_on_a_loop(n: int, unit: str) -> str:
    pages = await asyncio.gather(*[fetch.submit(page) for page in range(n)])
    return await shout.submit(await total.submit(list(pages), unit))


def ended(definition: Any, *arguments: Any) -> iron.Run[Any]:
    run: iron.Run[Any] = definition.start(*arguments)
    run.result()
    return run


def edges(lineage: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    rows = pd.DataFrame(lineage)
    sources = rows["source"].str.rpartition(".")[2]
    return list(zip(rows["target"].str.rpartition(".")[2], rows["argument"], sources, rows["match"], strict=True))


@pytest.mark.parametrize("style", [report, report_on_a_loop])
def test_results_and_arguments_are_found_in_later_calls(lab: Lab, style: Any) -> None:
    lineage = ended(style, 2, "words").lineage()
    assert edges(lineage) == [
        ("total[0]", "pages", "fetch[0]", "part"), ("total[0]", "pages", "fetch[1]", "part"),
        ("total[0]", "unit", "argument unit", "whole"), ("shout[0]", "text", "total[0]", "whole"),
        ("result", "", "shout[0]", "whole"),
    ]  # fmt: skip
    assert lineage["is_sure"].all()
    assert lineage.picture is not None
    assert lineage.picture.svg is not None


def test_the_lineage_of_a_step_is_what_went_into_it_and_where_its_output_went(lab: Lab) -> None:
    run = ended(report, 2, "words")
    assert edges(run.lineage("fetch[1]")) == [
        ("total[0]", "pages", "fetch[1]", "part"), ("shout[0]", "text", "total[0]", "whole"),
        ("result", "", "shout[0]", "whole"),
    ]  # fmt: skip
    assert {source for _, _, source, _ in edges(run.lineage(total))} == {
        "fetch[0]", "fetch[1]", "argument unit", "total[0]", "shout[0]",
    }  # fmt: skip
    with pytest.raises(iron.errors.StepNotFound):
        run.lineage("nothing")


def test_what_several_sources_have_and_what_is_common_is_not_sure(lab: Lab) -> None:
    @step
    def number(n: int) -> int:
        return 7 if n else 0

    @step
    def use(a: int, b: list[int]) -> int:
        return a

    @flow
    def main() -> None:
        one, two, nothing = number(1), number(2), number(0)
        use(one, [two, nothing])

    lineage = ended(main).lineage()
    assert [edge[:3] for edge in edges(lineage) if edge[0] == "use[0]"] == [
        ("use[0]", "a", "number[0]"), ("use[0]", "a", "number[1]"),
        ("use[0]", "b", "number[0]"), ("use[0]", "b", "number[1]"),
    ]  # fmt: skip
    assert not pd.DataFrame(lineage)["is_sure"].any()


def test_after_an_edit_the_calls_that_count_have_the_lineage(lab: Lab) -> None:
    run = ended(report, 2, "words")
    run.inject("fetch[1]", {"page": 1, "words": 12345}, reason="wrong")
    run.resume()
    run.result()
    found = edges(run.lineage())
    assert ("total[1]", "pages", "fetch[1]", "part") in found
    assert "total[0]" not in {end for edge in found for end in edge}


def test_large_values_and_parts_of_them_are_found(lab: Lab) -> None:
    @step
    def make(n: int) -> str:
        return f"{n}" * 5_000

    @step
    def join(texts: list[str]) -> int:
        return len(texts)

    @step
    def measure(text: str) -> int:
        return len(text)

    @flow
    def main() -> None:
        texts = list(make.map(range(3)))
        join(texts)
        measure(texts[1])

    found = edges(ended(main).lineage())
    assert [edge[2:] for edge in found if edge[0] == "join[0]"] == [(f"make[{n}]", "part") for n in range(3)]
    assert ("measure[0]", "text", "make[1]", "whole") in found


def test_arguments_that_were_not_stored_have_no_source(lab: Lab) -> None:
    @step
    def use(data: bytes) -> int:
        return len(data)

    @flow
    def main(data: bytes) -> int:
        use(data)
        return use(data + b"more")

    assert edges(ended(main, b"x" * 2_000_000).lineage()) == [("result", "", "use[1]", "whole")]


def test_the_picture_of_many_steps_has_a_node_for_each_name(lab: Lab) -> None:
    lineage = ended(report, 60, "words").lineage()
    assert len(lineage) == 60 + 3
    assert lineage.picture is not None
    assert "fetch \N{MULTIPLICATION SIGN}60" in lineage.picture.text


def test_nodes_of_a_graph_have_a_lineage(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(
        "graph: traced\nnodes:\n  - {id: numbers, transform: '{{ input.numbers }}'}\n"
        "  - {id: each, loop: '{{ numbers }}', as: n, do: [{id: pair, transform: '{{ [n, n] }}'}]}\n"
        "  - {id: all, transform: '{{ each[].pair }}'}\n"
    )
    graph(numbers=[11, 22])
    assert graph.last is not None
    assert edges(graph.last.lineage()) == [
        ("numbers[0]", "value", "argument numbers", "whole"), ("all[0]", "value", "pair[0]", "part"),
        ("all[0]", "value", "pair[1]", "part"), ("result", "", "all[0]", "whole"),
    ]  # fmt: skip


def test_a_run_without_steps_has_no_lineage(lab: Lab) -> None:
    @flow
    def main() -> None:
        pass

    lineage = ended(main).lineage()
    assert lineage.empty
    assert "0 arguments with a known source" in repr(lineage)
    assert lineage._repr_html_() is not None
