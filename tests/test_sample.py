"""The fast loop runs some cases of each function."""

from __future__ import annotations

from tests.sample import sampled

ONE = ["tests/test_a.py::test_one"]
MANY = [f"tests/test_b.py::test_many[{n}-[x]]" for n in range(20)]
FEW = [f"tests/test_b.py::test_few[{name}]" for name in ("ä", "\\ud800")]


def test_of_a_function_with_many_cases_some_are_run_and_of_the_others_all() -> None:
    chosen = sampled([*ONE, *MANY, *FEW], 3, seed=0)
    assert {*ONE, *FEW} <= chosen
    assert len(chosen) == 6


def test_whatever_else_is_collected_the_same_cases_are_chosen_until_the_seed_changes() -> None:
    chosen = sampled(MANY, 3, seed=0)
    assert sampled([*reversed(MANY), *ONE], 3, seed=0) - {*ONE} == chosen
    assert {case for seed in range(50) for case in sampled(MANY, 3, seed=seed)} == {*MANY}
