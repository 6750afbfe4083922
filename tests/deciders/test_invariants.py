"""Random commands find the state that can't be, and tell the shortest way there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.given_when_then import NOW
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


def scripted(*commands: Any) -> Any:
    """Return a choice that is none."""
    following = iter(commands)
    return lambda chance, state: next(following)


def test_the_trouble_that_is_told_is_that_of_the_commands_that_are_told() -> None:
    commands = scripted(Deposit("a", 1), Withdraw("a", 2))
    with pytest.raises(AssertionError) as caught:
        check_invariants(accounts(is_careful=False), commands, is_covered, pause=0)
    assert str(caught.value).splitlines() == [
        "account: Account(balance=-2, status='open') can't be, after (seed 0):",
        "  Withdraw(id='a', amount=2) at 0.000000 s",
    ]


def test_the_commands_that_are_told_end_where_the_trouble_begins() -> None:
    commands = scripted(Deposit("a", 5), Withdraw("a", 1), Withdraw("a", 2), Withdraw("a", 3))
    with pytest.raises(AssertionError) as caught:
        check_invariants(accounts(is_careful=False), commands, is_covered, pause=0)
    assert str(caught.value).splitlines() == [
        "account: Account(balance=-1, status='open') can't be, after (seed 0):",
        "  Withdraw(id='a', amount=1) at 0.000000 s",
    ]


def test_commands_that_raise_without_one_before_them_are_no_shorter_way() -> None:
    account = accounts(is_careful=False)

    @account.decide
    def decide(state: Account, command: Deposit | Withdraw) -> Any:
        if isinstance(command, Deposit):
            return iron.accept(Moved(command.amount))
        return iron.accept(Moved(-command.amount * state.balance // state.balance))

    with pytest.raises(AssertionError) as caught:
        check_invariants(account, scripted(Deposit("a", 1), Deposit("a", 2), Withdraw("a", 4)), is_covered, pause=0)
    assert str(caught.value).splitlines()[1:] == [
        "  Deposit(id='a', amount=1) at 0.000000 s",
        "  Withdraw(id='a', amount=4) at 0.000000 s",
    ]


def test_the_times_of_the_commands_are_told() -> None:
    account = accounts(is_careful=True)
    moments: list[datetime] = []

    @account.decide
    def decide(state: Account, command: Deposit, now: datetime) -> Any:
        moments.append(now)
        return iron.accept(Moved(command.amount))

    with pytest.raises(AssertionError) as caught:
        check_invariants(account, [Deposit("a", 2)], lambda state: state.balance < 3, pause="1h", seed=5)
    first_s, second_s = ((moment - NOW).total_seconds() for moment in moments[:2])
    assert 0 < first_s < second_s
    assert str(caught.value).splitlines()[1:] == [
        f"  Deposit(id='a', amount=2) at {first_s:.6f} s",
        f"  Deposit(id='a', amount=2) at {second_s:.6f} s",
    ]


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
