"""The diagram of a flow, read from its source: conditions, loops, and leaving early."""

from __future__ import annotations

import pytest

from tests.flows.sources import labels, read, ways


def test_a_condition_has_a_way_for_yes_and_one_for_no() -> None:
    assert ways(read("if x > 1:\n    fetch(1)\nelse:\n    parse(2)\nclean(3)")) == {
        "start -> x > 1",
        "x > 1 ->[yes] fetch",
        "x > 1 ->[no] parse",
        "fetch -> clean",
        "parse -> clean",
        "clean -> end",
    }


def test_a_condition_without_else_leads_past() -> None:
    assert "x ->[no] end" in ways(read("if x:\n    fetch(1)"))


def test_an_elif_is_a_condition_on_the_way_of_no() -> None:
    diagram = read("if x > 1:\n    fetch(1)\nelif x > 0:\n    parse(2)\nelse:\n    clean(3)")
    assert {"x > 1 ->[no] x > 0", "x > 0 ->[yes] parse", "x > 0 ->[no] clean"} <= ways(diagram)
    assert [node.depth for node in diagram.nodes[1:-1]] == [0, 1, 0, 1, 1]


def test_a_condition_that_decides_about_nothing_recorded_is_not_drawn() -> None:
    assert labels(read("if x:\n    y = 1\nelse:\n    print(x)\nfetch(1)")) == ["fetch"]


def test_a_step_in_a_test_comes_before_the_condition() -> None:
    assert labels(read("if check(x):\n    publish(x)")) == ["check", "check(x)", "publish"]
    assert labels(read("if check(x):\n    y = 1")) == ["check"]


def test_a_conditional_expression_is_a_condition() -> None:
    assert ways(read("y = fetch(1) if x else parse(2)\nclean(y)")) >= {
        "x ->[yes] fetch",
        "x ->[no] parse",
        "fetch -> clean",
        "parse -> clean",
    }


def test_the_second_operand_of_and_and_or_is_reached_or_not() -> None:
    assert ways(read("y = fetch(1) and parse(2)\nclean(y)")) >= {
        "fetch ->[if true] parse",
        "fetch ->[if false] clean",
        "parse -> clean",
    }
    assert ways(read("y = x and fetch(1) and x and parse(2)")) >= {"start ->[if true] fetch", "start ->[if false] end"}
    assert ways(read("y = fetch(1) or parse(2)")) >= {"fetch ->[if false] parse", "fetch ->[if true] end"}


def test_every_case_of_a_match_is_a_way() -> None:
    body = """
        match x:
            case 1:
                fetch(1)
            case [a, *_] if a:
                parse(2)
            case _:
                clean(3)
    """
    assert ways(read(body)) >= {
        "match x ->[case 1] fetch",
        "match x ->[case [a, *_] if a] parse",
        "match x ->[case _] clean",
    }


def test_a_match_that_may_match_nothing_leads_past() -> None:
    assert "match x ->[else] end" in ways(read("match x:\n    case 1:\n        fetch(1)"))
    assert labels(read("match x:\n    case 1:\n        y = 1\nfetch(1)")) == ["fetch"]


# -- loops -------------------------------------------------------------------------------------------------------


def test_a_for_loop_has_a_head_a_way_back_and_a_way_on() -> None:
    assert ways(read("for x in xs:\n    fetch(x)\n    parse(x)\nclean(1)")) == {
        "start -> for x in xs",
        "for x in xs -> fetch",
        "fetch -> parse",
        "parse => for x in xs",
        "for x in xs ->[done] clean",
        "clean -> end",
    }


def test_what_a_loop_runs_over_is_evaluated_before_it() -> None:
    assert labels(read("for x in fetch(1):\n    parse(x)")) == ["fetch", "for x in fetch(1)", "parse"]
    assert labels(read("for x in fetch(1):\n    pass")) == ["fetch"]


def test_the_test_of_a_while_loop_belongs_to_every_round() -> None:
    assert ways(read("while check(x):\n    fetch(x)\nclean(1)")) == {
        "start -> while check(x)",
        "while check(x) -> check",
        "check -> fetch",
        "fetch => while check(x)",
        "check ->[done] clean",
        "clean -> end",
    }


def test_an_endless_loop_is_left_by_break_only() -> None:
    assert ways(read("while True:\n    fetch(1)\n    if x:\n        break\nclean(2)")) == {
        "start -> while True",
        "while True -> fetch",
        "fetch -> x",
        "x =>[no] while True",
        "x ->[yes] clean",
        "clean -> end",
    }
    assert "end" not in {way.rpartition(" ")[2] for way in ways(read("while True:\n    fetch(1)\nclean(2)"))}


def test_continue_goes_back_and_break_passes_the_else_of_a_loop() -> None:
    body = """
        for x in xs:
            if x > 1:
                continue
            if x > 2:
                break
            fetch(x)
        else:
            parse(1)
        clean(2)
    """
    assert ways(read(body)) >= {
        "x > 1 =>[yes] for x in xs",
        "x > 2 ->[yes] clean",
        "fetch => for x in xs",
        "for x in xs ->[done] parse",
        "parse -> clean",
    }


def test_a_loop_without_a_recorded_call_is_not_drawn_but_its_return_is() -> None:
    assert labels(read("for x in xs:\n    if x:\n        break\nfetch(1)")) == ["fetch"]
    assert "x ->[yes] end" in ways(read("for x in xs:\n    if x:\n        return\nfetch(1)"))


def test_a_comprehension_is_a_loop() -> None:
    assert ways(read("ys = [parse(fetch(x)) for x in xs if x]\nclean(ys)")) == {
        "start -> for x in xs",
        "for x in xs -> fetch",
        "fetch -> parse",
        "parse => for x in xs",
        "for x in xs ->[done] clean",
        "clean -> end",
    }


@pytest.mark.parametrize(
    ("expression", "order"),
    [
        ("{fetch(x) for x in xs}", ["for x in xs", "fetch"]),
        ("{fetch(x): parse(x) for x in xs}", ["for x in xs", "fetch", "parse"]),
        ("list(fetch.submit(x) for x in xs)", ["for x in xs", "fetch"]),
        ("[1 for x in xs if check(x)]", ["for x in xs", "check"]),
        ("[fetch(y) for x in xs for y in parse(x)]", ["for x in xs for y in parse(x)", "parse", "fetch"]),
        ("[x for x in fetch(1)]", ["fetch"]),
    ],
)
def test_comprehensions_of_every_sort(expression: str, order: list[str]) -> None:
    assert labels(read(f"ys = {expression}")) == order


def test_what_stands_in_a_loop_is_deeper() -> None:
    diagram = read("fetch(1)\nfor x in xs:\n    if x:\n        parse(x)\n    [clean(y) for y in x]")
    assert [node.depth for node in diagram.nodes[1:-1]] == [0, 0, 1, 2, 1, 2]


# -- leaving early -----------------------------------------------------------------------------------------------


def test_an_early_return_leads_to_the_end_and_nothing_follows_it() -> None:
    assert ways(read("if not xs:\n    return []\nreturn fetch(xs)\nparse(1)")) == {
        "start -> not xs",
        "not xs ->[yes] end",
        "not xs ->[no] fetch",
        "fetch -> end",
    }


def test_a_raise_leads_to_the_end_by_a_dashed_edge() -> None:
    assert "fetch ~>[raise ValueError] end" in ways(read("fetch(1)\nraise ValueError('no')"))


def test_a_handler_is_reached_from_the_steps_that_it_guards() -> None:
    body = """
        try:
            fetch(1)
            parse(2)
        except ValueError as e:
            notify(e)
        except (OSError, KeyError):
            pass
        clean(3)
    """
    assert ways(read(body)) == {
        "start -> fetch",
        "fetch -> parse",
        "parse -> clean",
        "fetch ~> notify",
        "parse ~>[except ValueError] notify",
        "notify -> clean",
        "fetch ~> clean",
        "parse ~>[except (OSError, KeyError)] clean",
        "clean -> end",
    }


def test_a_long_try_block_leads_to_its_handler_from_its_last_step() -> None:
    body = """
        try:
            fetch(1)
            parse(2)
            clean(3)
            check(4)
        except:
            notify(5)
    """
    assert [way for way in ways(read(body)) if "~>" in way] == ["check ~>[except] notify"]


def test_else_follows_the_try_block_and_finally_follows_everything() -> None:
    body = """
        try:
            fetch(1)
        except ValueError:
            notify(2)
        else:
            parse(3)
        finally:
            clean(4)
        publish(5)
    """
    assert ways(read(body)) == {
        "start -> fetch",
        "fetch -> parse",
        "fetch ~>[except ValueError] notify",
        "parse -> clean",
        "notify -> clean",
        "clean -> publish",
        "publish -> end",
    }


def test_what_leaves_a_try_block_passes_its_finally() -> None:
    body = """
        for x in xs:
            try:
                if x:
                    return fetch(x)
                if not x:
                    break
            finally:
                clean(1)
        parse(2)
    """
    assert ways(read(body)) >= {
        "fetch -> clean",
        "not x ->[yes] clean",
        "clean ~>[return] end",
        "clean ~>[break] parse",
        "clean => for x in xs",
    }


def test_a_try_block_that_always_returns_does_not_go_on_after_its_finally() -> None:
    assert ways(read("try:\n    return fetch(1)\nfinally:\n    clean(2)\nparse(3)")) == {
        "start -> fetch",
        "fetch -> clean",
        "clean ~>[return] end",
    }


def test_a_raise_in_a_try_block_leads_to_the_handlers() -> None:
    body = """
        try:
            if x:
                raise ValueError
            fetch(1)
        except ValueError:
            notify(2)
    """
    assert "x ~>[except ValueError] notify" in ways(read(body))


def test_a_raise_in_a_handler_leads_out() -> None:
    assert "notify ~>[raise] end" in ways(read("try:\n    fetch(1)\nexcept ValueError:\n    notify(2)\n    raise"))
