"""The diagram of a flow, read from its source: which calls are recorded, and in which order."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest

from ironflow_nb.diagram.model import NodeKind
from ironflow_nb.flows.diagram_statements import Described, extract
from tests.flows.sources import KNOWN, STEPS, Step, describe, function, labels, read, ways


def test_calls_follow_each_other_between_start_and_end() -> None:
    diagram = read("a = fetch(1)\nb = parse(a)\nreturn publish(b)")
    assert [node.kind for node in diagram.nodes] == [NodeKind.START, *[NodeKind.STEP] * 3, NodeKind.END]
    assert ways(diagram) == {"start -> fetch", "fetch -> parse", "parse -> publish", "publish -> end"}
    assert diagram.name == "main"


def test_arguments_come_before_the_call() -> None:
    assert labels(read("publish(parse(fetch(1)), x=clean(2))")) == ["fetch", "parse", "clean", "publish"]


@pytest.mark.parametrize(
    ("body", "order"),
    [
        ("x = fetch(1) + parse(2)", ["fetch", "parse"]),
        ("x = {fetch(1): parse(2), clean(3): publish(4)}", ["fetch", "parse", "clean", "publish"]),
        ("x[clean(0)] = fetch(1)", ["fetch"]),
        ("print(f'{fetch(1)} and {parse(2)}')", ["fetch", "parse"]),
        ("x = fetch(1) < parse(2)", ["fetch", "parse"]),
        ("fetch(1)(parse(2))", ["fetch", "parse"]),
        ("assert fetch(1), parse(2)", ["fetch", "parse"]),
        ("(y := fetch(1))", ["fetch"]),
        ("x: int = fetch(1)", ["fetch"]),
        ("x += fetch(1)", ["fetch"]),
        ("print(*fetch(1), **parse(2))", ["fetch", "parse"]),
        ("with fetch(1) as a, parse(2):\n    clean(a)", ["fetch", "parse", "clean"]),
    ],
)
def test_calls_come_in_the_order_in_which_python_makes_them(body: str, order: list[str]) -> None:
    assert labels(read(body)) == order


def test_a_map_a_submit_a_child_and_a_wait_are_what_they_are() -> None:
    diagram = read("fetch.map(xs)\nparse.submit(1).result()\nchild(2)\nchild.start(3)\napprove('Publish?', x)")
    kinds = [(node.label, node.kind, node.step) for node in diagram.nodes[1:-1]]
    assert kinds == [
        ("fetch", NodeKind.MAP, "fetch"),
        ("parse", NodeKind.STEP, "parse"),
        ("child", NodeKind.CHILD, "lib.child"),
        ("child", NodeKind.CHILD, "lib.child"),
        ("approve('Publish?')", NodeKind.WAIT, "approve"),
    ]


def test_a_step_called_at_two_places_is_two_nodes_with_one_name() -> None:
    diagram = read("fetch(1)\nfetch(2)")
    first, second = diagram.nodes[1:-1]
    assert first.id != second.id
    assert first.step == second.step == "fetch"


def test_an_async_flow_is_read_through_its_awaits() -> None:
    body = """
        a = await fetch(1)
        async with parse(a) as b:
            await publish(b)
        async for y in clean(b):
            await check(y)
    """
    diagram = read(body, head="async def main(xs):")
    assert labels(diagram) == ["fetch", "parse", "publish", "clean", "async for y in clean(b)", "check"]


def test_options_are_looked_through() -> None:
    diagram = read("fetch.options(retries=3)(1)\nparse.options(name='other').map(xs)\nclean.options(key=x).submit(2)")
    assert [(node.kind, node.step) for node in diagram.nodes[1:-1]] == [
        (NodeKind.STEP, "fetch"),
        (NodeKind.MAP, "other"),
        (NodeKind.STEP, "clean"),
    ]


def test_a_title_says_the_signature_the_call_and_the_line() -> None:
    [call] = extract(function("\n\ndef main():\n\n    fetch(1,\n      2)\n"), describe).nodes[1:-1]
    assert call.title == "signature of fetch\nfetch(1, 2)\nline 5"


# -- names -------------------------------------------------------------------------------------------------------


def test_steps_are_found_in_modules_classes_and_objects() -> None:
    module = types.ModuleType("steps")
    module.fetch = Step("steps.fetch")  # type: ignore[attr-defined]

    class Holder:
        fetch = Step("Holder.fetch")

    body = "m.fetch(1)\nHolder.fetch(2)\nheld.fetch(3)\nlib.fetch.map(xs)"
    found = read(body, m=module, Holder=Holder, held=Holder())
    assert [node.step for node in found.nodes[1:-1]] == ["steps.fetch", "Holder.fetch", "Holder.fetch", "lib.fetch"]


def test_steps_are_found_in_a_closure() -> None:
    source = "def outer(inner_step):\n    def main(x):\n        inner_step(x)\n    return main\nmain = outer(check)\n"
    assert labels(extract(function(source), describe)) == ["check"]


def test_an_empty_closure_cell_is_nothing() -> None:
    source = "def outer():\n    def main(x):\n        late(x)\n    return main\n    late = None\nmain = outer()\n"
    assert labels(extract(function(source), describe)) == []


def test_a_name_that_is_bound_in_the_flow_is_not_the_step_of_that_name() -> None:
    assert labels(read("fetch = print\nfetch(1)")) == []
    assert labels(read("fetch(1)", head="def main(fetch):")) == []
    assert labels(read("[fetch(1) for fetch in xs]")) == []
    assert labels(read("for fetch in xs:\n    fetch(1)")) == []


def test_what_can_not_be_found_is_no_step() -> None:
    assert labels(read("x.map(xs)\nunknown.submit(1)")) == []
    assert labels(read("unknown(1)\nlib.unknown(2)\nfetch.fn(3)\n(lambda: 1)()\nx.fetch(4)\nfetch[0](5)")) == []


def test_looking_runs_no_property_and_swallows_what_a_module_raises() -> None:
    class Holder:
        @property
        def fetch(self) -> Step:
            raise AssertionError("a property was run")

    def lazy(name: str) -> object:
        raise OSError("the module can't be loaded")

    module = types.ModuleType("lazy")
    module.__getattr__ = lazy  # type: ignore[method-assign]
    assert labels(read("held.fetch(1)\nlazy.fetch(2)\nfetch(3)", held=Holder(), lazy=module)) == ["fetch"]


def test_an_object_that_describe_can_not_look_at_is_no_step() -> None:
    def brittle(value: object) -> Described | None:
        if value is STEPS["fetch"]:
            raise RuntimeError("don't look at me")
        return describe(value)

    assert labels(extract(function("def main():\n    fetch(1)\n    parse(2)\n"), brittle)) == ["parse"]


def test_inner_functions_are_read_where_they_are_named_first_and_classes_are_not() -> None:
    body = """
        def helper():
            fetch(1)
        async def other():
            fetch(2)
        class A:
            x = fetch(3)
        f = lambda: fetch(4)
        parse(helper())
        clean(helper())
    """
    assert labels(read(body)) == ["fetch", "parse", "clean"]


# -- what can't be read ------------------------------------------------------------------------------------------


class Hostile:
    """An object that hurts whoever looks at it."""

    def __getattr__(self, name: str) -> object:
        raise OSError("go away")

    def __repr__(self) -> str:
        return "hostile"


def without_source() -> Callable[..., Any]:
    names: dict[str, Any] = dict(KNOWN)
    exec("def main():\n    fetch(1)\n", names)
    return names["main"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "unreadable",
    [without_source(), lambda: fetch(1), len, functools.partial(print, 1), 7, None, type, Hostile()],  # type: ignore[name-defined] # noqa: F821
    ids=["function", "lambda", "C", "partial", "number", "none", "class", "hostile"],
)
def test_what_has_no_source_has_a_start_and_an_end(unreadable: Any) -> None:
    diagram = extract(unreadable, describe)
    assert [node.kind for node in diagram.nodes] == [NodeKind.START, NodeKind.END]
    assert [(edge.source, edge.target) for edge in diagram.edges] == [("start", "end")]


def test_an_expression_too_deep_to_walk_is_not_read() -> None:
    deep = function("def main(x):\n    return fetch(" + "-" * 60 + "x)\n")
    assert labels(extract(deep, describe)) == ["fetch"]
    chain = " + ".join(["fetch(x)"] * 700)
    too_deep = function(f"def main(x):\n    return {chain}\n")
    assert labels(extract(too_deep, describe)) == []


def test_a_decorated_function_is_read_through_its_wrapper() -> None:
    source = (
        "import functools\n"
        "def quiet(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(*args):\n"
        "        return fn(*args)\n"
        "    return wrapper\n"
        "@quiet\n"
        "def main(x):\n"
        "    fetch(x)\n"
    )
    [call] = extract(function(source), describe).nodes[1:-1]
    assert call.label == "fetch"
    assert call.title.endswith("line 9")
