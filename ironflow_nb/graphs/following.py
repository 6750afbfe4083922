"""Following a regular expression in all its ways at once, character by character.

Thompson's method, with Pike's way of keeping groups. It takes as long as the text and the pattern are, whatever they
say; of several matches it gives the one that ``re`` gives.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

MOST_INSTRUCTIONS: Final = 2_000
"""What a pattern with its repetitions written out may come to."""

MOST_STEPS: Final = 5_000_000
"""A text is not followed longer: that is some seconds."""

Groups: TypeAlias = tuple[int, ...]
"""For each group where it begins and ends, -1 where it took no part; the first is the whole."""

_CHARACTER, _PLACE, _SPLIT, _SAVE, _MATCH = range(5)


class Step(NamedTuple):
    """One instruction; `then` are the places of those that follow, the preferred one first."""

    kind: int
    then: tuple[int, ...] = ()
    fits: Callable[[str, int], bool] | None = None
    slot: int = 0


def library(name: str) -> Any:
    """Return a part of ``re``, which reads patterns and compiles what it has read."""
    return importlib.import_module(f"re.{name}")


@lru_cache(maxsize=512)
def program_of(text: str) -> Sequence[Step]:
    """Return the instructions of a pattern that is a regular expression.

    Raises:
        ValueError: it is too large, or needs what can't be followed.
    """
    builder = _Builder(library("_parser").parse(text))
    steps = builder.steps
    begin = builder.add(Step(_SAVE, slot=0))
    builder.sequence(builder.parsed, builder.parsed.state.flags)
    builder.add(Step(_SAVE, (len(steps) + 1,), slot=1))
    builder.add(Step(_MATCH))
    steps[begin] = steps[begin]._replace(then=(begin + 1,))
    return tuple(steps)


class _Builder:
    """Writes the instructions of a parsed pattern one after the other; each goes on to the next."""

    def __init__(self, parsed: Any) -> None:
        self.parsed = parsed
        self.steps: list[Step] = []

    def add(self, step: Step) -> int:
        if len(self.steps) >= MOST_INSTRUCTIONS:
            raise ValueError("the pattern is too large for this text, with its repetitions written out")
        self.steps.append(step)
        return len(self.steps) - 1

    def sequence(self, parsed: Any, flags: int) -> None:
        for operation, argument in parsed:
            match str(operation):
                case "BRANCH":
                    self._branch(argument[1], flags)
                case "SUBPATTERN":
                    self._subpattern(flags, *argument)
                case "MAX_REPEAT" | "MIN_REPEAT" as name:
                    self._repeat(flags, *argument, is_greedy=name == "MAX_REPEAT")
                case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT" as name:
                    kind = _PLACE if name == "AT" else _CHARACTER
                    self.add(Step(kind, (len(self.steps) + 1,), self._fits((operation, argument), flags, kind)))
                case _:
                    raise ValueError(
                        "the pattern looks around or back, or holds on to what it has; for this text that may take "
                        "for ever: write it without (?=...), (?<=...), (?>...) and back-references"
                    )

    def _fits(self, leaf: Any, flags: int, kind: int) -> Callable[[str, int], bool]:
        one = library("_parser").SubPattern(self.parsed.state, [leaf])
        compiled = library("_compiler").compile(one, flags)
        if kind == _PLACE:
            return lambda text, at: compiled.match(text, at) is not None
        known: dict[str, bool] = {}

        def fits(text: str, at: int) -> bool:
            character = text[at]
            found = known.get(character)
            if found is None:
                found = known[character] = compiled.match(character) is not None
            return found

        return fits

    def _branch(self, alternatives: Any, flags: int) -> None:
        ends = []
        for alternative in alternatives[:-1]:
            split = self.add(Step(_SPLIT))
            self.sequence(alternative, flags)
            ends.append(self.add(Step(_SPLIT)))
            self._lead(split, split + 1, len(self.steps))
        self.sequence(alternatives[-1], flags)
        for end in ends:
            self._lead(end, len(self.steps))

    def _subpattern(self, flags: int, group: int | None, added: int, removed: int, parsed: Any) -> None:
        inner = (flags | added) & ~removed
        if group is None:
            self.sequence(parsed, inner)
            return
        self.add(Step(_SAVE, (len(self.steps) + 1,), slot=2 * group))
        self.sequence(parsed, inner)
        self.add(Step(_SAVE, (len(self.steps) + 1,), slot=2 * group + 1))

    def _repeat(self, flags: int, least: int, most: int, parsed: Any, *, is_greedy: bool) -> None:
        for _ in range(least):
            self.sequence(parsed, flags)
        if str(most) == "MAXREPEAT":
            split = self.add(Step(_SPLIT))
            self.sequence(parsed, flags)
            self.add(Step(_SPLIT, (split,)))
            self._choose(split, is_greedy=is_greedy)
            return
        splits = []
        for _ in range(most - least):
            splits.append(self.add(Step(_SPLIT)))
            self.sequence(parsed, flags)
        for split in splits:
            self._choose(split, is_greedy=is_greedy)

    def _choose(self, split: int, *, is_greedy: bool) -> None:
        again, on = split + 1, len(self.steps)
        self._lead(split, *((again, on) if is_greedy else (on, again)))

    def _lead(self, step: int, *then: int) -> None:
        self.steps[step] = self.steps[step]._replace(then=then)


class Budget:
    """How many steps there may still be."""

    def __init__(self) -> None:
        self._n_left = MOST_STEPS

    def take(self, n_steps: int) -> None:
        """Take so many steps.

        Raises:
            ValueError: so many are not left.
        """
        self._n_left -= n_steps
        if self._n_left < 0:
            raise ValueError("the pattern takes too long for this text")


def follow(
    program: Sequence[Step], n_groups: int, text: str, start: int, budget: Budget, *, must_advance: bool = False
) -> Groups | None:
    """Return the groups of the first match from there on: of those that begin first, the one that `re` prefers."""
    nothing: Groups = (-1,) * (2 * n_groups)
    ways: list[tuple[int, Groups]] = []
    seen: set[int] = set()
    found: Groups | None = None
    for at in range(start, len(text) + 1):
        if found is None:
            _go_on(program, 0, nothing, text, at, ways, seen)
        budget.take(len(seen))
        if not ways:
            if found is not None:
                break
            seen = set()
            continue
        following: list[tuple[int, Groups]] = []
        seen = set()
        for place, groups in ways:
            step = program[place]
            if step.kind == _MATCH:
                if must_advance and groups[0] == groups[1] == start:
                    continue
                found = groups
                break
            assert step.fits is not None
            if at < len(text) and step.fits(text, at):
                _go_on(program, step.then[0], groups, text, at + 1, following, seen)
        ways = following
    return found


def _go_on(
    program: Sequence[Step], begin: int, groups: Groups, text: str, at: int, ways: list[Any], seen: set[int]
) -> None:
    """Add every instruction that is reached without another character, the preferred ones first."""
    left = [(begin, groups)]
    while left:
        place, held = left.pop()
        if place in seen:
            continue
        seen.add(place)
        step = program[place]
        if step.kind == _SPLIT:
            left += [(then, held) for then in reversed(step.then)]
        elif step.kind == _SAVE:
            left.append((step.then[0], (*held[: step.slot], at, *held[step.slot + 1 :])))
        elif step.kind != _PLACE:
            ways.append((place, held))
        elif step.fits is not None and step.fits(text, at):
            left.append((step.then[0], held))
