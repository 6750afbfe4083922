"""Random commands find the state that can't be, and tell the shortest way there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.testing.invariants import check_invariants
from tests.deciders.orders import Expire, Pay, Place, orders


@dataclass(frozen=True)
class Account:
    balance: int = 0
    status: str = "open"


@dataclass(frozen=True)
class Deposit:
    id: str
    amount: int


@dataclass(frozen=True)
class Withdraw:
    id: str
    amount: int


@dataclass(frozen=True)
class Moved:
    amount: int


def accounts(*, is_careful: bool) -> Any:
    account: Any = iron.Decider("account", initial=Account())

    @account.evolve
    def evolve(state: Account, event: Moved) -> Account:
        return replace(state, balance=state.balance + event.amount)

    @account.decide
    def decide(state: Account, command: Deposit | Withdraw) -> Any:
        amount = command.amount if isinstance(command, Deposit) else -command.amount
        if is_careful and state.balance + amount < 0:
            return iron.reject("not enough")
        return iron.accept(Moved(amount))

    return account


COMMANDS = [Deposit("a", 1), Deposit("a", 5), Withdraw("a", 2)]


def is_covered(state: Account) -> bool:
    return state.balance >= 0


def test_a_machine_that_keeps_its_word_passes() -> None:
    assert check_invariants(accounts(is_careful=True), COMMANDS, is_covered) > 1000


def test_the_shortest_way_to_a_state_that_can_not_be_is_told() -> None:
    with pytest.raises(AssertionError) as caught:
        check_invariants(accounts(is_careful=False), COMMANDS, is_covered, seed=3)
    told = str(caught.value)
    assert "account: Account(balance=-" in told
    assert told.count("Withdraw") + told.count("Deposit") == 1
    assert "(seed 3)" in told


def test_what_the_check_itself_says_is_told() -> None:
    def check(state: Account) -> bool:
        assert state.balance < 4, "too rich"
        return True

    with pytest.raises(AssertionError, match="AssertionError: too rich"):
        check_invariants(accounts(is_careful=True), COMMANDS, check)


def test_commands_may_be_made_of_chance_and_state() -> None:
    def choose(chance: Any, state: Account) -> Any:
        return Withdraw("a", chance.randint(1, 3)) if state.balance > 10 else Deposit("a", chance.randint(1, 9))

    assert check_invariants(accounts(is_careful=True), choose, is_covered, n_lives=20) > 100


def test_a_life_ends_where_its_instance_is_completed() -> None:
    order = orders("lived")
    n_accepted = check_invariants(
        order, [Place("o", 1.0), Pay("o"), Expire("o")], lambda state: state.status != "failed", n_lives=50
    )
    assert n_accepted == 100, "each is placed, and then paid or expired"


def test_without_commands_there_is_nothing_to_check() -> None:
    with pytest.raises(ValueError, match="no commands"):
        check_invariants(accounts(is_careful=True), [], is_covered)
