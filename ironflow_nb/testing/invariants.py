"""Random commands to a decider, and what must hold after each of them. Pure: nothing is recorded or performed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.deciders.decisions import Accept
from ironflow_nb.deciders.given_when_then import NOW

Life = list[tuple[Any, float]]
"""Commands, each with the seconds from the beginning to its decision."""

_SHOWN: Final = 12


def check_invariants(
    decider: Decider[Any, Any, Any, Any],
    commands: Iterable[Any] | Callable[[random.Random, Any], Any],
    invariant: Callable[[Any], object],
    *,
    n_lives: int = 200,
    n_commands: int = 20,
    pause: Duration = 60.0,
    seed: int = 0,
) -> int:
    """Send random commands to instances, check each state, and return the number of accepted commands.

    Args:
        decider: the decider to check.
        commands: samples to choose from, or a function of a `random.Random` and the state.
        invariant: a function of the state after each accepted command; it returns a false value, or raises, for an
            impossible state.
        n_lives: the number of instances.
        n_commands: the number of commands to each instance, unless it is completed before.
        pause: the longest time between two commands; each time is chosen between zero and this.
        seed: the seed of all choices.

    Raises:
        AssertionError: a state is impossible; the message has the shortest list of commands found that leads to such
            a state, and their times.
    """
    __tracebackhide__ = True
    chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    choose = commands if callable(commands) else _from(list(commands))
    n_accepted = 0
    for _ in range(n_lives):
        life: Life = []
        state, after_s = decider.initial, 0.0
        while len(life) < n_commands and not decider.is_terminal(state):
            after_s += chance.uniform(0, seconds(pause))
            life.append((choose(chance, state), after_s))
            state, is_accepted = _after(decider, state, *life[-1])
            n_accepted += is_accepted
            if is_accepted and (trouble := _find_violation(invariant, state)) is not None:
                raise AssertionError(_failure_message(decider, *_shortest(decider, life, trouble, invariant), seed))
    return n_accepted


def _from(samples: list[Any]) -> Callable[[random.Random, Any], Any]:
    if not samples:
        raise ValueError("there are no commands to choose from")
    return lambda chance, _state: chance.choice(samples)


def _after(decider: Decider[Any, Any, Any, Any], state: Any, command: Any, after_s: float) -> tuple[Any, bool]:
    decision = decider.decide_with(state, command, NOW + timedelta(seconds=after_s))
    if not isinstance(decision, Accept):
        return state, False
    for event in decision.events:
        state = decider.evolve_with(state, event)
    return state, True


def _find_violation(invariant: Callable[[Any], object], state: Any) -> str | None:
    try:
        return None if invariant(state) else f"{state!r} can't be"
    except Exception as error:  # noqa: BLE001 -- any error of the check is a finding
        return f"{state!r} can't be: {type(error).__name__}: {error}"


def _shortest(
    decider: Decider[Any, Any, Any, Any], life: Life, trouble: str, invariant: Callable[[Any], object]
) -> tuple[Life, str]:
    """Leave out commands one by one while the state stays impossible; return the rest, and the finding."""
    for place in reversed(range(len(life) - 1)):
        shorter = _up_to_find_violation(decider, life[:place] + life[place + 1 :], invariant)
        if shorter is not None:
            life, trouble = shorter
    return life, trouble


def _up_to_find_violation(
    decider: Decider[Any, Any, Any, Any], life: Life, invariant: Callable[[Any], object]
) -> tuple[Life, str] | None:
    """Return the commands up to the first finding, and the finding; None if there is none, or a command raises."""
    state = decider.initial
    for n_lived, (command, after_s) in enumerate(life, 1):
        try:
            if decider.is_terminal(state):
                return None
            state, is_accepted = _after(decider, state, command, after_s)
        except Exception:  # noqa: BLE001 -- a command may need one that was left out
            return None
        if is_accepted and (trouble := _find_violation(invariant, state)) is not None:
            return life[:n_lived], trouble
    return None


def _failure_message(decider: Decider[Any, Any, Any, Any], life: Life, trouble: str, seed: int) -> str:
    lines = [f"  {command!r} at {after_s:.6f} s" for command, after_s in life[-_SHOWN:]]
    more = [f"  ({len(life) - _SHOWN} before)"] if len(life) > _SHOWN else []
    return "\n".join([f"{decider.name}: {trouble}, after (seed {seed}):", *more, *lines])
