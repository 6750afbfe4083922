"""The fast loop runs some cases of each function."""

from __future__ import annotations

from tests.sample import N_IN_MEMORY, sampled, without_repetitions

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


def test_a_function_that_is_marked_has_its_own_limit_and_the_others_have_none() -> None:
    chosen = sampled([*ONE, *MANY, *FEW], {"tests/test_b.py::test_many": 4}, seed=0)
    assert {*ONE, *FEW} <= chosen
    assert len(chosen & {*MANY}) == 4


def test_of_what_runs_on_a_file_some_runs_in_memory_too_and_what_runs_in_memory_alone_always_does() -> None:
    on_file = [f"tests/test_c.py::test_both[{n}-sqlite-memory]" for n in range(40)]
    on_memory = {node_id.replace("sqlite", "memory") for node_id in on_file}
    alone = {"tests/test_c.py::test_alone[memory]", "tests/test_c.py::test_other[memory-x]"}
    whole = [*ONE, *on_file, *on_memory, *alone]
    kept = without_repetitions(whole, on_memory | alone, seed=0)
    assert {*ONE, *on_file, *alone} <= kept
    assert 0 < len(kept & on_memory) < len(on_memory) / N_IN_MEMORY * 2
    assert {case for seed in range(50) for case in without_repetitions(whole, on_memory | alone, seed)} == {*whole}
