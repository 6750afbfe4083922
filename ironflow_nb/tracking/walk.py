"""From a function to all the code it refers to, and to one digest of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import Digest
from ironflow_nb.tracking.constants import constant_digest, shown
from ironflow_nb.tracking.filled import filled_by
from ironflow_nb.tracking.imported import Excerpt
from ironflow_nb.tracking.links import (
    Link,
    links_of_class,
    links_of_defaults,
    links_of_function,
    links_of_step,
    name_of,
)  # fmt: skip
from ironflow_nb.tracking.parts import TRANSITIVE, Kind, Part, Tracked, Untracked
from ironflow_nb.tracking.reading import Reading, read_class, read_function
from ironflow_nb.tracking.resolving import Code, Constant, Resolver, Target
from ironflow_nb.tracking.watch import Watch

Edge = tuple[str, str]
"""The label of a link, and the number of the code or the digest of the value it leads to."""


class Walk:
    """One tracking of one function.

    Pieces of code are numbered in the order in which they are met from the function on, along names in order. So the
    numbers, and with them the digest, say what refers to what, and neither where it is defined nor in which order.
    """

    def __init__(self, function: Callable[..., Any], depends: tuple[Any, ...], *, is_value: bool) -> None:
        self._function = function
        self._depends = depends
        self._is_value = is_value
        self._begin(frozenset())

    def _begin(self, changed: frozenset[int]) -> None:
        self.watch = Watch()
        self._resolver = Resolver(self.watch, asks_decorators=not self._is_value, changed=changed)
        self._codes: list[Code] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._readings: list[Reading] = []
        self._others: dict[str, Part] = {}
        self._untracked: set[Untracked] = set()

    def tracked(self) -> Tracked:
        """Follow everything there is to follow, and anew without what the code that was found fills itself."""
        found = self._tracked()
        filled: list[Any] = []
        while self._resolver.has_members:
            filled = [*filled, *filled_by(self._function, self._codes, self._readings)]
            changed = frozenset(map(id, filled))
            if changed <= self._resolver.changed:
                break
            self._begin(changed)
            found = self._tracked()
        return found

    def _tracked(self) -> Tracked:
        rows = [[*self._edges(self._links_of_root()), *self._declared()]]
        for number, code in enumerate(self._codes):  # it grows meanwhile
            rows[number:] = [[*(rows[number] if number == 0 else ()), *self._edges(self._links(code))]]
        self.watch.settle()
        parts = [_part(code, reading) for code, reading in zip(self._codes, self._readings, strict=True)]
        own = parts or [_named(self._function)]
        digest = _digest(own, [sorted(set(row)) for row in rows])
        others = (part for _, part in sorted(self._others.items()))
        return Tracked(digest, (*own, *others), tuple(sorted(self._untracked)))

    def _links_of_root(self) -> Iterator[Link]:
        """Yield what the function as it was given consists of, the innermost code first."""
        name = _named(self._function).name
        found = self._resolver.value(self._function, name)
        targets: list[Target] = [each for each in found if not isinstance(each, Untracked)]
        if not any(isinstance(target, Code) for target in targets):
            targets.append(Untracked(name, "no Python code: known by its name"))
        for target in targets:
            yield "", target

    def _declared(self) -> Iterator[Edge]:
        if not self._depends:
            return
        from ironflow_nb.tracking.declared import declared_content

        for item in self._depends:
            codes = [target for target in self._resolver.value(item, "") if isinstance(target, Code)]
            if codes and (callable(item) or isinstance(item, type)):
                label = f"depends {getattr(item, '__qualname__', '')}"
                yield from self._edges((label, code) for code in codes)
            else:
                name, source, digest = declared_content(item, self.watch)
                self._others[f"depends {name}"] = Part(name, "declared", digest, source)
                yield f"depends {name}", digest.hex()

    def _links(self, code: Code) -> Iterator[Link]:
        is_class = isinstance(code.value, type)
        reading = read_class(code.value) if is_class else read_function(code.value)
        self._readings.append(reading)
        if reading.trouble is not None:
            yield "", Untracked(name_of(code.value), reading.trouble)
        if is_class:
            yield from links_of_class(code.value, reading, self._resolver)
        elif code.value is self._function:
            yield from links_of_step(code, reading, self._resolver)
        else:
            yield from links_of_function(code, reading, self._resolver)
            if code is not self._codes[0]:  # the defaults of a step are arguments
                yield from links_of_defaults(code.value, self._resolver)

    def _edges(self, links: Iterable[Link]) -> Iterator[Edge]:
        """Number the code that is met for the first time, and note the rest."""
        for label, target in links:
            match target:
                case Code():
                    key = id(target.value), id(target.owner)
                    if self._numbers.setdefault(key, len(self._codes)) == len(self._codes):
                        self._codes.append(target)
                    yield label + target.place, str(self._numbers[key])
                case Constant(name=name, value=value):
                    digest = constant_digest(value)
                    self._others[name] = Part(name, "constant", digest, f"{name} = {shown(value)}")
                    yield label, digest.hex()
                case Excerpt(name=name, digest=digest, source=source):
                    self._others[name] = Part(name, "declared", digest, source)
                    yield f"{label} {name}", digest.hex()
                case Untracked():
                    self._untracked.add(target)


def _part(code: Code, reading: Reading) -> Part:
    kind: Kind = "class" if isinstance(code.value, type) else "function" if code.owner is None else "method"
    return Part(name_of(code.value), kind, reading.content, reading.source, reading.file, reading.line)


def _named(function: Any) -> Part:
    """Return the part of what has no Python code: it is known by its name."""
    named = function if hasattr(function, "__qualname__") else type(function)
    # A method of a built-in class, as str.upper, has no module.
    name = f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
    return Part(name, "function", digest_bytes(f"named\0{name}".encode()), "")


def _digest(own: list[Part], edges: list[list[Edge]]) -> Digest:
    """Return the digest of the whole; of code that refers to nothing but itself, its own."""
    if len(own) == 1 and all(target == "0" for _, target in edges[0]):
        return own[0].digest
    rows = [[part.digest.hex(), found] for part, found in zip(own, edges, strict=True)]
    return Digest(TRANSITIVE + blake2b(json.dumps(rows).encode(), digest_size=19).digest())
