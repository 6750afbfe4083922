"""What the work of a node gets beside its options."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from typing import Any, Final

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.errors import ExpressionFailed
from ironflow_nb.execution import Clock, deterministic, random_uuid
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.language.evaluation import evaluate
from ironflow_nb.graphs.language.expression import ExpressionSyntaxError, compile_expression
from ironflow_nb.graphs.language.templates import OPENING, Template, Whole, compile_template, fill
from ironflow_nb.graphs.secrets import Secrets

_LOGGER: Final = "ironflow_nb.graph"


@lru_cache(maxsize=8192)
def _compiled(text: str) -> Template:
    if OPENING not in text:
        return Whole(compile_expression(text.strip()))

    def fault(_path: object, error: ExpressionSyntaxError) -> None:
        raise error

    return compile_template(text.strip(), fault)


class RecordedCalls:
    """``now()`` and ``uuid()`` of expressions: those of the run that the caller stands in."""

    def now(self) -> datetime:
        """See the protocol."""
        return deterministic.now()

    def uuid(self) -> str:
        """See the protocol."""
        return str(deterministic.uuid4())


RECORDED: Final = RecordedCalls()

NOW: Final = "now()"
UUID_SEED: Final = "uuid()"
"""What a sealed option sees beside names: neither is one that an expression can write without quotes."""


class FreshCalls:
    """``now()`` and ``uuid()`` of an option with a secret, which is only made in the body of its step.

    They follow from what was recorded before the body began, so each attempt and each process makes the same.
    """

    def __init__(self, sees: Mapping[str, Any]) -> None:
        self._sees = sees
        self._n_drawn = count()

    def now(self) -> datetime:
        """See the protocol."""
        return self._sees[NOW]  # type: ignore[no-any-return]

    def uuid(self) -> str:
        """See the protocol."""
        drawn = digest_bytes(f"{self._sees[UUID_SEED]} {next(self._n_drawn)}".encode())
        return str(random_uuid(lambda n_bytes: drawn[-n_bytes:]))


class WorkContext:
    """The `NodeContext` of one node in one run."""

    def __init__(
        self,
        *,
        node: str,
        grants: Grants,
        clock: Clock,
        secrets: Secrets,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        retry: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.node = node
        self.grants = grants
        self.retry: Mapping[str, Any] = retry or {}
        self.timeout_s = timeout_s
        self._clock = clock
        self._secrets = secrets
        self._functions = functions or {}

    def evaluate(self, text: str, names: Mapping[str, Any]) -> Any:
        """See the protocol."""
        try:
            return fill(_compiled(text), lambda expression: evaluate(expression, names, RECORDED))
        except ValueError as error:
            raise ExpressionFailed(f"{self.node}: {error}", node=self.node) from None

    def log(self, message: str, level: str = "info") -> None:
        """See the protocol."""
        number = logging.getLevelNamesMapping()[level.upper()]
        logging.getLogger(_LOGGER).log(number, "%s: %s", self.node, self._secrets.redacted(message))

    def has_secret(self, content: str | bytes) -> bool:
        """See the protocol."""
        return self._secrets.are_in(content)

    def now(self) -> datetime:
        """See the protocol."""
        return datetime.fromtimestamp(self._clock.now() / 1e6, UTC)

    def monotonic(self) -> float:
        """See the protocol."""
        return self._clock.monotonic()

    def function(self, name: str) -> Callable[..., Any] | None:
        """See the protocol."""
        return self._functions.get(name)
