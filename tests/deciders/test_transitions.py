"""What several sources know of a transition becomes one, with a style that says how well it is known."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders.given_when_then import NOW
from ironflow_nb.deciders.possible_transitions import MAX_PER_STATUS, SourceTransition, explore, source_transitions
from ironflow_nb.deciders.state_diagram import tone_of
from ironflow_nb.deciders.transitions import ObservedTransition, Transition, declared_transitions, merge_transitions
from tests.deciders.orders import Charge, Expire, Expired, GiveUp, Order, Paid, Pay, Place, Placed, orders

PAY = Transition("placed", "Pay", "paid")

# declared, seen, explored, hinted; with a declaration; how it is shown
LAYERS = [
    (1, 1, 1, 1, True, "seen"),
    (1, 1, 0, 0, True, "seen"),
    (0, 1, 0, 0, False, "seen"),
    (0, 1, 0, 1, False, "seen"),
    (0, 1, 1, 1, True, "drift"),
    (0, 1, 0, 0, True, "drift"),
    (1, 0, 0, 0, True, "possible"),
    (1, 0, 1, 1, True, "possible"),
    (0, 0, 1, 0, True, "possible"),
    (0, 0, 1, 0, False, "possible"),
    (0, 0, 1, 1, False, "possible"),
    (0, 0, 0, 1, True, "hint"),
    (0, 0, 0, 1, False, "hint"),
]


@pytest.mark.parametrize(("declared", "seen", "explored", "hinted", "has_table", "tone"), LAYERS)
def test_layers_are_merged_by_where_from_what_and_where_to(
    declared: int, seen: int, explored: int, hinted: int, has_table: bool, tone: str
) -> None:
    (arrow,) = merge_transitions(
        declared=[PAY] * declared,
        seen=[ObservedTransition(PAY, 3, 7)] * seen,
        explored=[PAY] * explored,
        hints=[PAY] * hinted,
    )
    assert arrow.transition == PAY
    assert (arrow.n_seen, arrow.last_at) == ((3, 7) if seen else (0, None))
    assert tone_of(arrow, is_declared=has_table) == tone


def test_effects_and_timers_of_all_layers_are_told() -> None:
    declared = Transition("new", "Place", "placed", ("Charge",), ("pay-by",))
    seen = ObservedTransition(Transition("new", "Place", "placed", ("Charge", "Mail"), ()), 1, 1)
    (arrow,) = merge_transitions(declared=[declared], seen=[seen])
    assert (arrow.transition.effects, arrow.transition.timers) == (("Charge", "Mail"), ("pay-by",))


def test_another_target_is_another_transition_and_a_hint_yields_to_what_is_known() -> None:
    other = Transition("placed", "Pay", "paid in part")
    assert [
        arrow.transition for arrow in merge_transitions(seen=[ObservedTransition(PAY, 1, 1)], explored=[other])
    ] == [PAY, other]
    assert [arrow.transition for arrow in merge_transitions(seen=[ObservedTransition(PAY, 1, 1)], hints=[other])] == [
        PAY
    ]


@pytest.mark.parametrize(
    ("row", "transition"),
    [
        (("placed", Pay, "paid"), PAY),
        (["placed", "Pay", "paid"], PAY),
        (("placed", Pay, "paid", [Charge]), Transition("placed", "Pay", "paid", ("Charge",))),
        (("placed", Pay, "paid", Charge, "pay-by"), Transition("placed", "Pay", "paid", ("Charge",), ("pay-by",))),
        (("placed", Pay, "paid", (), [Expire]), Transition("placed", "Pay", "paid", (), ("Expire",))),
        (PAY, PAY),
    ],
)
def test_a_declaration_takes_classes_and_names(row: Any, transition: Transition) -> None:
    assert declared_transitions([row]) == (transition,)


@pytest.mark.parametrize("row", [("placed", Pay), "placed", 3, ("a", Pay, "b", (), (), "c")])
def test_a_row_that_is_no_transition_is_refused(row: Any) -> None:
    with pytest.raises(iron.errors.DecisionError, match="a transition must be"):
        orders("refused", transitions=[row])


def test_exploring_finds_what_samples_and_timers_can_do() -> None:
    found = explore(orders("explored"), [Place("x", 1.0)], NOW)
    assert found.transitions == (
        Transition("new", "Place", "placed", ("Charge",), ("pay-by",)),
        Transition("placed", "Expire", "expired"),
    )
    assert found.statuses == ("new", "placed", "expired")
    assert found.terminal == {"expired"}
    assert found.commands == {"Place", "Expire"}


def test_exploring_is_bounded_and_lives_with_what_raises_and_with_what_changes_its_state() -> None:
    class Counted:
        n = 0
        status = "open"

        def __repr__(self) -> str:
            return f"{self.n}"

    counter: Any = iron.Decider("counter", initial=Counted())
    asked = []

    @counter.evolve
    def evolve(state: Any, event: Any) -> Any:
        state.n += 1
        return state

    @counter.decide
    def decide(state: Any, command: Any) -> Any:
        asked.append(state.n)
        if isinstance(command, Pay):
            raise ZeroDivisionError
        return iron.accept(Expired())

    found = explore(counter, [Pay("x"), Place("x", 1.0)], NOW)
    assert found.transitions == (Transition("open", "Place", "open"),)
    assert len(set(asked)) == MAX_PER_STATUS
    assert counter.initial.n == 0


def test_the_source_suggests_where_commands_are_accepted_and_lead() -> None:
    assert source_transitions(orders("hinted")) == (
        SourceTransition("new", "Place", "placed", ("Charge",)),
        SourceTransition("placed", "Pay", "paid"),
        SourceTransition("placed", "Expire", "expired"),
        SourceTransition("placed", "GiveUp", "failed"),
    )


def test_nested_matches_and_alternatives_are_read_and_what_only_rejects_is_not() -> None:
    nested: Any = iron.Decider("nested", initial=Order(), status=lambda state: state.status)

    @nested.decide
    def decide(state: Order, command: Any) -> Any:
        match command:
            case Pay() | GiveUp() as asked:
                match state.status:
                    case "new" | "placed":
                        return iron.accept(Paid(asked.at))
                    case "paid":
                        return iron.reject("twice")
            case Place():
                return iron.accept(Placed(1.0))

    expected = {(status, command) for status in ("new", "placed") for command in ("Pay", "GiveUp")}
    assert {(hint.source, hint.command) for hint in source_transitions(nested)} == expected
    assert all(hint.target is None and hint.transition is None for hint in source_transitions(nested))


class Status(StrEnum):
    NEW = "new"
    PAID = "paid"


def test_members_of_an_enum_and_guards_are_read() -> None:
    guarded: Any = iron.Decider("guarded", initial=Order())

    @guarded.evolve
    def evolve(state: Order, event: Any) -> Any:
        match event:
            case Paid():
                return replace(state, status=Status.PAID)

    @guarded.decide
    def decide(state: Order, command: Any) -> Any:
        match command:
            case Pay() if state.status == Status.NEW:
                return iron.accept(Paid(command.at))
            case Expire() if state.status != "new":
                return iron.accept(Expired())
        match state.status, command:
            case Status.PAID, GiveUp():
                return iron.accept(Expired())

    assert source_transitions(guarded) == (SourceTransition("new", "Pay", "paid"), SourceTransition("paid", "GiveUp"))


def test_without_a_source_there_are_no_hints() -> None:
    made: Any = iron.Decider("made", initial=Order())
    assert source_transitions(made) == ()
    space: dict[str, Any] = {}
    exec("def decide(state, command): return None", space)
    made.decide(space["decide"])
    assert source_transitions(made) == ()
