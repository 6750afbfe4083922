"""What the expressions of a node can see, and what is said of those that look further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import msgspec

from ironflow_nb.graphs.expressions import EVERYTHING, Expression
from ironflow_nb.graphs.grants import Grants, Need

SECRETS = "secrets"
ENVIRONMENT = "env"


class Visible(msgspec.Struct, frozen=True):
    """What can be seen from a place in a graph.

    `names` are there for all; of each of the `blocks` around the place those nodes that have ended by then: a mask over
    the numbers of its nodes, which are there by id. So a place in a long chain costs a number, and no set of all that
    went before. `secrets` are those that the graph has; `place` says in words where none may be used, and is empty
    where they may.
    """

    names: frozenset[str]
    blocks: tuple[tuple[int, Mapping[str, int]], ...] = ()
    secrets: frozenset[str] = frozenset()
    place: str = ""

    def with_names(self, names: Iterable[str]) -> Visible:
        """Return the same place with more to see."""
        return msgspec.structs.replace(self, names=self.names | frozenset(names))

    def with_nodes(self, mask: int, numbers: Mapping[str, int]) -> Visible:
        """Return a place in a block inside of this one, before which those nodes of it have ended."""
        return msgspec.structs.replace(self, blocks=(*self.blocks, (mask, numbers)))

    def without_secrets(self, place: str) -> Visible:
        """Return the same place where no secret may be used."""
        return msgspec.structs.replace(self, place=place)

    def only(self, names: Iterable[str]) -> Visible:
        """Return a place where nothing but these names can be seen."""
        return Visible(frozenset(names), (), self.secrets, "an expression for each item")

    def sees(self, name: str) -> bool:
        """Tell whether the name can be seen."""
        return name in self.names or any(
            name in numbers and bool(mask >> numbers[name] & 1) for mask, numbers in self.blocks
        )

    def _all(self) -> list[str]:
        inside = [name for _, numbers in self.blocks for name in numbers if self.sees(name)]
        return [*sorted(self.names), *inside]

    def objections(self, expression: Expression, grants: Grants) -> list[str]:
        """Return what is wrong with what the expression looks at."""
        found = [self._unseen(name) for name in sorted(expression.names) if not self._is_fine(name)]
        if EVERYTHING in expression.names:
            found.append("@ is all that can be seen from here; name what of it is needed")
        if SECRETS in expression.names:
            found += self._secret(expression)
        for name, field in sorted(expression.fields):
            if name == ENVIRONMENT and ENVIRONMENT in self.names:
                refusal = grants.refusal(Need("env", field))
                found += [] if refusal is None else [refusal]
        return found

    def _is_fine(self, name: str) -> bool:
        return name in {EVERYTHING, SECRETS} or self.sees(name)

    def _secret(self, expression: Expression) -> list[str]:
        if self.place:
            return [f"{self.place} can't use secrets; they are for the options of nodes that do work"]
        named = {field for name, field in expression.fields if name == SECRETS}
        if not named:
            return ["a secret is named: secrets.NAME"]
        known = ", ".join(sorted(self.secrets)) or "none"
        return [
            f"the graph has no secret {name!r} (it has: {known}); say where it is: secrets: {{{name}: {{env: ...}}}}"
            for name in sorted(named - self.secrets)
        ]

    def _unseen(self, name: str) -> str:
        if any(name in numbers for _, numbers in self.blocks):
            return f"{name} need not have ended by then; add it to depends_on"
        seen = self._all()
        near = get_close_matches(name, seen, n=1)
        shown = ", ".join(seen[:12])
        return f"there is no {name!r} here" + (f"; did you mean {near[0]}?" if near else f" (there are: {shown})")
