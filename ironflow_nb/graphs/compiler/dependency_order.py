"""The order of the nodes of one block: pure functions over the numbers that each one waits for."""

from __future__ import annotations

from collections.abc import Sequence

After = Sequence[tuple[int, ...]]
"""For each node the numbers of those that it waits for."""


def cycle_in(after: After) -> list[int] | None:
    """Return a circle of nodes that wait for each other, the first of them again at its end; None if there is none."""
    state = [0] * len(after)  # 0 unseen, 1 on the way, 2 done
    for first in range(len(after)):
        way: list[tuple[int, int]] = [(first, 0)]
        if state[first]:
            continue
        state[first] = 1
        while way:
            number, position = way.pop()
            if position == len(after[number]):
                state[number] = 2
                continue
            way.append((number, position + 1))
            following = after[number][position]
            if state[following] == 1:
                numbers = [each for each, _ in way]
                return [*numbers[numbers.index(following) :], following]
            if state[following] == 0:
                state[following] = 1
                way.append((following, 0))
    return None


def ended_before(after: After) -> list[int]:
    """Return for each node a mask over the numbers of those that have ended before it begins; there is no circle."""
    masks: dict[int, int] = {}
    for first in range(len(after)):
        left = [first]
        while left:
            number = left[-1]
            unknown = [each for each in after[number] if each not in masks]
            if unknown:
                left += unknown
                continue
            left.pop()
            mask = 0
            for each in after[number]:
                mask |= masks[each] | (1 << each)
            masks[number] = mask
    return [masks[number] for number in range(len(after))]


def in_order(after: After) -> list[int]:
    """Return the numbers so that each comes behind those it waits for, otherwise as they stand; there is no circle."""
    ordered: dict[int, None] = {}
    for first in range(len(after)):
        left = [first]
        while left:
            open_ones = [each for each in reversed(after[left[-1]]) if each not in ordered]
            if open_ones:
                left += open_ones
            else:
                ordered.setdefault(left.pop())
    return list(ordered)
