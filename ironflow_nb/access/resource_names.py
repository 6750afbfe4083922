"""Names of resources, ``irn:ironflow:{org}:{project}:{type}:{env}:{id}``, and patterns of them.

A ``*`` in a pattern stands for any text within its part, also for none.
"""

from __future__ import annotations

import re
from typing import Final

ORG: Final = "default"
"""The organisation of every name: a journal belongs to one."""
EVERYTHING: Final = "*"
_N_PARTS: Final = 7
_PREFIX: Final = ("irn", "ironflow")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def resource_name(project: str, env: str, kind: str, resource_id: str) -> str:
    """Return the name of a resource of that type; colons and percent signs of its id become ``%3A`` and ``%25``."""
    return ":".join((*_PREFIX, ORG, project, kind, env, resource_id.replace("%", "%25").replace(":", "%3A")))


def resource_pattern(text: str) -> str:
    """Return the whole pattern: ``run:digest/*`` and ``*`` are of any project and environment.

    Raises:
        ValueError: it is no pattern of names.
    """
    parts = text.split(":")
    if parts == [EVERYTHING]:
        parts = [EVERYTHING, EVERYTHING]
    if len(parts) == 2:
        kind, resource_id = parts
        parts = [*_PREFIX, EVERYTHING, EVERYTHING, kind, EVERYTHING, resource_id]
    if len(parts) != _N_PARTS or tuple(parts[:2]) != _PREFIX or not all(parts):
        raise ValueError(
            f"{text!r} is no pattern of names: give irn:ironflow:ORG:PROJECT:TYPE:ENV:ID, or TYPE:ID such as "
            "'run:digest/*', each part with * for any text"
        )
    return ":".join(parts)


def part_of_name(option: str, value: str) -> str:
    """Return the name of a project or an environment.

    Raises:
        ValueError: it has other characters than letters, digits, dashes, dots and underscores.
    """
    if _PLAIN.fullmatch(value) is None:
        raise ValueError(f"{option} has letters, digits, dashes, dots and underscores, at most 100, not {value!r}")
    return value


def covers(pattern: str, name: str) -> bool:
    """Return True if the pattern matches the name, or all names that a name with ``*`` stands for."""
    expression = "[^:]*".join(map(re.escape, pattern.split(EVERYTHING)))
    return re.fullmatch(expression, name, re.DOTALL) is not None


def overlaps(pattern: str, name: str) -> bool:
    """Return True if the pattern matches the name, or any of those that a name with ``*`` stands for."""
    ours, theirs = pattern.split(":"), name.split(":")
    return len(ours) == len(theirs) and all(map(_share, ours, theirs))


def _share(one: str, other: str) -> bool:
    """Return True if two patterns have a text in common."""
    reachable = {0}  # the places in `other` that the characters of `one` so far can lead to
    for character in one:
        reachable = _skipped(other, reachable)
        if character == EVERYTHING:
            reachable = set(range(min(reachable, default=len(other) + 1), len(other) + 1))
            continue
        reachable = {
            place + (other[place] != EVERYTHING)
            for place in reachable
            if place < len(other) and other[place] in {character, EVERYTHING}
        }
    return len(other) in _skipped(other, reachable)


def _skipped(other: str, places: set[int]) -> set[int]:
    """Return the places, with those that follow where a star of `other` stands for no text."""
    found = set(places)
    for place in sorted(places):
        following = place
        while following < len(other) and other[following] == EVERYTHING:
            following += 1
            found.add(following)
    return found
