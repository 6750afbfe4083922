"""Steps that stand for each other in a comparison: equal calls, else those of one number."""

from __future__ import annotations

from ironflow_nb.core.identity import Digest, RunId, StepRef, step_ref
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import StepStatus
from ironflow_nb.history.step_pairs import numbers_of_calls, step_pairs


def rows(name: str, asked: dict[int, str]) -> list[StepRow]:
    return [
        StepRow(
            RunId("r"), step_ref(name, index), name, index, 1, 1, StepStatus.COMPLETED, Digest(each.encode()),
            Digest(b"c"), 0,
        )
        for index, each in asked.items()
    ]  # fmt: skip


def paired(steps: dict[int, str], others: dict[int, str], **numbers: dict[int, int]) -> dict[str, str]:
    one, other = (
        numbers.get("one", {each: each for each in steps}),
        numbers.get("other", {each: each for each in others}),
    )
    mine, theirs = ({step_ref("f", at): n for at, n in each.items()} for each in (one, other))
    return {str(key): str(step) for key, step in step_pairs(rows("f", steps), rows("f", others), mine, theirs).items()}


def numbered(began: dict[int, int], *ends: tuple[int, list[int]]) -> dict[int, int]:
    found = numbers_of_calls(
        {step_ref("f", index): version for index, version in began.items()},
        [(version, [step_ref("f", index) for index in unused]) for version, unused in ends],
    )
    return {index: found[step_ref("f", index)] for index in began}


def test_steps_are_paired_by_number() -> None:
    assert paired({0: "a", 1: "b"}, {0: "b", 1: "c", 2: "d"}) == {"f[0]": "f[0]", "f[1]": "f[1]"}


def test_equal_calls_in_another_order_are_paired() -> None:
    assert paired({0: "a", 1: "b", 2: "a"}, {0: "b", 1: "a", 2: "a"}) == {
        "f[0]": "f[1]",
        "f[1]": "f[0]",
        "f[2]": "f[2]",
    }
    assert paired({0: "a", 2: "c", 3: "d"}, {0: "a", 1: "c", 2: "d"}) == {
        "f[0]": "f[0]",
        "f[1]": "f[2]",
        "f[2]": "f[3]",
    }


def test_a_call_in_the_place_of_another_one_is_paired_by_the_number_of_that() -> None:
    assert paired({0: "a", 2: "c", 3: "x"}, {0: "a", 1: "b", 2: "c"}, one={0: 0, 2: 2, 3: 1}) == {
        "f[0]": "f[0]", "f[1]": "f[3]", "f[2]": "f[2]",
    }  # fmt: skip


def test_of_two_calls_with_one_number_the_older_has_it() -> None:
    assert paired({0: "a", 1: "b"}, {0: "c"}, one={0: 0, 1: 0}) == {"f[0]": "f[0]"}


def test_steps_of_other_names_are_not_paired() -> None:
    assert step_pairs(rows("f", {0: "a"}), rows("g", {0: "a"}), {}, {}) == {}


def test_without_a_continuation_a_call_has_its_own_number() -> None:
    assert numbered({0: 2, 1: 4}) == {0: 0, 1: 1}


def test_new_calls_have_the_numbers_of_those_that_the_continuation_did_not_make() -> None:
    assert numbered({0: 2, 1: 4, 2: 6, 3: 22}, (20, []), (30, [1])) == {0: 0, 1: 1, 2: 2, 3: 1}
    assert numbered({0: 2, 1: 4, 2: 22, 3: 24}, (20, []), (30, [1])) == {0: 0, 1: 1, 2: 1, 3: 2}


def test_a_call_that_was_replaced_twice_gives_its_number_on() -> None:
    assert numbered({0: 2, 1: 4, 2: 22, 3: 32}, (20, []), (30, [1]), (40, [1, 2])) == {0: 0, 1: 1, 2: 1, 3: 1}


def test_edits_in_another_order_replace_the_calls_that_they_changed() -> None:
    found = numbered({0: 2, 1: 4, 2: 6, 3: 22, 4: 32}, (20, []), (30, [2]), (40, [1, 2]))
    assert found == {0: 0, 1: 1, 2: 2, 3: 2, 4: 1}


def test_a_continuation_that_died_counts_with_the_next_one() -> None:
    assert numbered({0: 2, 1: 22}, (20, [])) == {0: 0, 1: 1}
    assert numbers_of_calls({StepRef("f[0]"): 2, StepRef("g[0]"): 3}, [(20, ()), (30, ["f[0]"])])["g[0]"] == 0
