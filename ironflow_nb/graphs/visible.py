"""What the expressions of a node can see, and what is said of those that look further."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

import msgspec

from ironflow_nb.graphs.expressions import EVERYTHING, Expression
from ironflow_nb.graphs.grants import Grants, Need

SECRETS = "secrets"
ENVIRONMENT = "env"


class Visible(msgspec.Struct, frozen=True):
    """Names that can be seen from a place in a graph.

    `secrets` are those that the graph has; `place` says in words where none may be used, and is empty where they may.
    `others` are nodes beside the place that are not before it.
    """

    names: frozenset[str]
    secrets: frozenset[str] = frozenset()
    place: str = ""
    others: frozenset[str] = frozenset()

    def with_names(self, names: Collection[str], *, others: Collection[str] = ()) -> Visible:
        """Return the same place with more to see."""
        return msgspec.structs.replace(
            self, names=self.names | frozenset(names), others=self.others | frozenset(others)
        )

    def without_secrets(self, place: str) -> Visible:
        """Return the same place where no secret may be used."""
        return msgspec.structs.replace(self, place=place)

    def only(self, names: Collection[str]) -> Visible:
        """Return a place where nothing but these names can be seen."""
        return Visible(frozenset(names), self.secrets, "an expression for each item")

    def objections(self, expression: Expression, grants: Grants) -> list[str]:
        """Return what is wrong with what the expression looks at."""
        found = [self._unseen(name) for name in sorted(expression.names - self.names - {EVERYTHING, SECRETS})]
        if EVERYTHING in expression.names:
            found.append("@ is all that can be seen from here; name what of it is needed")
        if SECRETS in expression.names:
            found += self._secret(expression)
        for name, field in sorted(expression.fields):
            if name == ENVIRONMENT and ENVIRONMENT in self.names:
                refusal = grants.refusal(Need("env", field))
                found += [] if refusal is None else [refusal]
        return found

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
        if name in self.others:
            return f"{name} need not have ended by then; add it to depends_on"
        near = get_close_matches(name, sorted(self.names | self.others), n=1)
        seen = ", ".join(sorted(self.names)[:12])
        return f"there is no {name!r} here" + (f"; did you mean {near[0]}?" if near else f" (there are: {seen})")
