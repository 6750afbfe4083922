"""What is wrong with a state machine, as DataFrames: where code and declaration part, and what can't be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from ironflow_nb.deciders.state_machine import StateMachine
from ironflow_nb.deciders.transitions import Arrow
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records

if TYPE_CHECKING:
    import pandas as pd

DRIFT: Final = {
    "drift": TEXT, "source": TEXT, "command": TEXT, "target": TEXT, "n_seen": "int64", "last_seen_at": INSTANT,
    "effects": "object", "timers": "object",
}  # fmt: skip
FINDINGS: Final = {"finding": TEXT, "status": TEXT, "command": TEXT, "message": TEXT}

NOT_DECLARED: Final = "seen, not declared"
NEVER_SEEN: Final = "declared, never seen"
POSSIBLE: Final = "possible, not declared"

Finding: TypeAlias = tuple[str, str | None, str | None, str]


def drift(machine: StateMachine) -> pd.DataFrame:
    """Return the transitions in which history, code and declaration differ; without a declaration there are none."""
    found = [(_drift(arrow), arrow) for arrow in machine.arrows] if machine.is_declared else []
    order = (NOT_DECLARED, POSSIBLE, NEVER_SEEN)
    ordered = [(kind, arrow) for wanted in order for kind, arrow in found if kind == wanted]
    return frame_of_records(
        DRIFT,
        [
            {
                "drift": kind, "source": arrow.transition.source, "command": arrow.transition.command,
                "target": arrow.transition.target, "n_seen": arrow.n_seen, "last_seen_at": arrow.last_at,
                "effects": list(arrow.transition.effects), "timers": list(arrow.transition.timers),
            }
            for kind, arrow in ordered
        ],
    )  # fmt: skip


def _drift(arrow: Arrow) -> str | None:
    if arrow.n_seen:
        return None if arrow.is_declared else NOT_DECLARED
    if arrow.is_declared:
        return NEVER_SEEN
    return POSSIBLE if arrow.is_explored else None


def validate(machine: StateMachine) -> pd.DataFrame:
    """Return what can't be right about the machine, one finding a row."""
    found = [*_unknown(machine), *_unreachable(machine), *_terminal_with_exits(machine), *_dead_ends(machine)]
    found += _never_accepted(machine)
    return frame_of_records(FINDINGS, [dict(zip(FINDINGS, each, strict=True)) for each in found])


def _unknown(machine: StateMachine) -> Iterator[Finding]:
    """Find statuses that only the declaration names, where there is something else that could know them."""
    others = [arrow for arrow in machine.arrows if arrow.n_seen or arrow.is_explored or arrow.is_hinted]
    known = {end for arrow in others for end in (arrow.transition.source, arrow.transition.target)}
    if not machine.is_declared or not known:
        return
    known |= {machine.initial, *machine.named_terminal, *machine.explored.statuses}
    known |= {hint.source for hint in machine.hints}
    declared = [arrow.transition for arrow in machine.arrows if arrow.is_declared]
    for status in dict.fromkeys(end for each in declared for end in (each.source, each.target)):
        if status not in known:
            yield "unknown state", status, None, f"only the declaration knows the state {status!r}; is it misspelt?"


def _unreachable(machine: StateMachine) -> Iterator[Finding]:
    for status in machine.statuses:
        if status not in machine.reachable:
            yield "unreachable state", status, None, f"no transition leads from {machine.initial!r} to {status!r}"


def _terminal_with_exits(machine: StateMachine) -> Iterator[Finding]:
    for arrow in machine.arrows:
        each = arrow.transition
        if each.source in machine.terminal:
            message = f"{each.source!r} is terminal, so {each.command} is never decided there"
            yield "terminal state with an exit", each.source, each.command, message


def _dead_ends(machine: StateMachine) -> Iterator[Finding]:
    left = {arrow.transition.source for arrow in machine.arrows}
    left |= {hint.source for hint in machine.hints}
    for status in machine.statuses:
        if status not in left and status not in machine.terminal:
            yield "dead end", status, None, f"nothing is known to be accepted in {status!r}, and it is not terminal"


def _never_accepted(machine: StateMachine) -> Iterator[Finding]:
    accepted = {arrow.transition.command for arrow in machine.arrows} | {hint.command for hint in machine.hints}
    for command in machine.commands:
        if command not in accepted:
            yield "command never accepted", None, command, f"no state is known to accept {command}"
