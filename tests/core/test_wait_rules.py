"""Which signals end which wait, against a model that reads the mailbox name by name."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.wait_rules import Combination, WaitKind, Wanted, parse_work_key, signal_name, until, work_key


class Sent(NamedTuple):
    name: str
    number: int


NAMES = st.sampled_from(["a", "b", "c", "d"])
MAILBOX = st.lists(NAMES, max_size=8).map(lambda names: [Sent(name, n) for n, name in enumerate(names)])
SEVERAL = st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple)


@given(MAILBOX, SEVERAL)
def test_any_of_several_takes_the_first_that_was_sent(mailbox: list[Sent], names: tuple[str, ...]) -> None:
    wanted = Wanted(signals=names, combination=Combination.ANY)
    fitting = [sent for sent in mailbox if sent.name in names]
    assert wanted.choose(mailbox) == fitting[:1]


@given(MAILBOX, SEVERAL)
def test_all_of_several_takes_the_first_of_each_or_nothing(mailbox: list[Sent], names: tuple[str, ...]) -> None:
    wanted = Wanted(signals=names, combination=Combination.ALL)
    firsts = [next((sent for sent in mailbox if sent.name == name), None) for name in names]
    assert wanted.choose(mailbox) == ([] if None in firsts else firsts)


@given(MAILBOX, st.lists(st.tuples(SEVERAL, st.sampled_from([Combination.ANY, Combination.ALL])), max_size=4))
def test_waits_that_are_served_in_their_order_share_no_signal(
    mailbox: list[Sent], waits: list[tuple[tuple[str, ...], Combination]]
) -> None:
    left, taken = list(mailbox), []
    for names, combination in waits:
        chosen = Wanted(signals=names, combination=combination).choose(left)
        taken += chosen
        left = [sent for sent in left if sent not in chosen]
    assert len(taken) == len(set(taken))
    assert sorted(taken + left) == sorted(mailbox)


def test_a_wait_gives_what_its_form_promises() -> None:
    payloads = {"a": 1, "b": 2}
    assert Wanted(signals=("a",)).result({"a": 1}) == 1
    assert Wanted(signals=("a", "b"), combination=Combination.ANY).result({"b": 2}) == ("b", 2)
    assert Wanted(signals=("a", "b"), combination=Combination.ALL).result(payloads) == payloads


@pytest.mark.parametrize("name", ["go", "a:b", "with/slash", "[0]", "sehr gut"])
def test_the_key_of_a_wait_in_the_queue_has_its_step_and_its_signal(name: str) -> None:
    step = StepRef("iron.wait_for[3]")
    assert signal_name(name) == name
    assert parse_work_key(work_key(step, name)) == (step, name)
    assert parse_work_key(work_key(step, "")) == (step, "")


def test_a_wait_says_for_what_and_until_when() -> None:
    assert str(Wanted(signals=("go",))) == 'the signal "go"'
    assert str(Wanted(signals=("a", "b"), combination=Combination.ALL)) == 'all of the signals "a", "b"'
    assert Wanted(due_at=1).kind is WaitKind.SLEEP
    assert until(None) == ""
    assert until(1_893_456_000_000_000) == " until 2030-01-01 00:00:00 UTC"
