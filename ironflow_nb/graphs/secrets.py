"""Secrets of graphs: known by name until the moment in which a node needs them, and redacted in all that is kept.

What a graph says of a secret is where to find it. Its value is looked up inside of the step that uses it; what the
journal keeps as the arguments of that step is the text of the expression. Everything that its run stores is searched
for the value, and for what an expression made of it, in all the forms of `secret_forms`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from ironflow_nb.errors import ExpressionFailed, NotGranted, SecretMissing, ValueNotStorable
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.secret_forms import SHORTEST_SECRET, SecretForms

SECRETS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "where each secret is found, by the name that expressions know it by",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "env": {"type": "string", "description": "a variable of the environment, which must be granted"},
            "keyring": {"type": "string", "description": "SERVICE/NAME in the keyring, which must be granted"},
            "prompt": {"type": "string", "description": "what to ask the person at the keyboard, once in a process"},
        },
    },
}

_MOST_AROUND: Final = 100
"""So many texts around secrets are redacted as a whole; of those that a loop makes beyond that, the secret only."""

Ask = Callable[[str], str]


def variable_of(source: Any) -> str | None:
    """Return the variable of the environment that a secret comes from, if it comes from one."""
    variable = source.get("env") if isinstance(source, Mapping) else None
    return variable if isinstance(variable, str) else None


class Secrets:
    """The secrets of one graph at work."""

    def __init__(self, sources: Mapping[str, Mapping[str, str]], grants: Grants, *, ask: Ask | None = None) -> None:
        self._sources = sources
        self._grants = grants
        self._ask = ask
        self._values: dict[str, str] = {}
        self._texts: dict[str, None] = {}  # several threads add to it, and to those around them
        self._around: dict[str, None] = {}
        self._forms: tuple[int, SecretForms] = 0, SecretForms(())

    @property
    def has_any(self) -> bool:
        """Tell whether the graph has any secrets at all."""
        return bool(self._sources)

    @property
    def forms(self) -> SecretForms:
        """What everything is searched for: the secrets that were looked up so far, and what was made of them."""
        n_known = len(self._texts) + len(self._around)
        if self._forms[0] != n_known:
            self._forms = n_known, SecretForms(list(self._texts), list(self._around))
        return self._forms[1]

    def value(self, name: str) -> str:
        """Return the secret, looked up where the graph says.

        Raises:
            SecretMissing: it is not there, it is too short to be hidden, or there is nobody to ask.
            NotGranted: it is in a variable of the environment, or an entry of the keyring, that is not granted.
        """
        if name not in self._values:
            value = self._look_up(name)
            if len(value) < SHORTEST_SECRET:
                raise SecretMissing(
                    f"secret {name} has only {len(value)} characters; fewer than {SHORTEST_SECRET} can't be told "
                    "from other texts, and would be kept in the clear: use a longer one",
                    secret=name,
                )
            self.note(value)
            self._values[name] = value
        return self._values[name]

    def require(self, name: str) -> None:
        """See that the secret can be found, as far as that can be told without asking anybody.

        Raises:
            SecretMissing, NotGranted: see `value`.
        """
        if "prompt" not in self._sources.get(name, {"prompt": ""}) or name not in self._sources:
            self.value(name)
        elif self._ask is None and name not in self._values:
            raise SecretMissing(f"secret {name} is to be asked for, and there is nobody to ask", secret=name)

    def look_up_all(self) -> None:
        """Look up every secret that is there without asking anybody, so that it is known what to search for."""
        for name, source in self._sources.items():
            if "prompt" not in source:
                with suppress(SecretMissing, NotGranted):  # the node that needs it will tell
                    self.value(name)

    def refuse_in(self, given: Mapping[str, Any], run: str) -> None:
        """Refuse secrets in what the journal keeps of a run as it is, for the run goes on from it.

        Raises:
            ValueNotStorable: one is there.
        """
        self.look_up_all()
        for what, value in given.items() if self._texts else ():
            if self.forms.is_in(msgspec.json.encode(value, enc_hook=repr)):
                raise ValueNotStorable(
                    f"a secret is in {what} of {run}, which is kept in the clear; leave it out there: nodes find it by "
                    f"its name, as secrets.{next(iter(self._sources))}"
                )

    def _look_up(self, name: str) -> str:
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(self._sources) or "none"
            raise SecretMissing(
                f"the graph has no secret {name!r} (it has: {known}); say where it is found: "
                f"secrets: {{{name}: {{env: VARIABLE}}}}",
                secret=name,
            )
        ((where, what),) = source.items()
        found = {"env": self._of_environment, "keyring": self._of_keyring, "prompt": self._of_prompt}[where](what)
        if not found:
            raise SecretMissing(f"secret {name} is not there: {where} {what!r} has nothing", secret=name)
        return found

    def _of_environment(self, variable: str) -> str | None:
        self._grants.require(Need("env", variable))
        return os.environ.get(variable)

    def _of_keyring(self, what: str) -> str | None:
        self._grants.require(Need("keyring", what))
        return _in_keyring(what)

    def _of_prompt(self, question: str) -> str | None:
        return None if self._ask is None else self._ask(question)

    # -- hiding --------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Note a text that is secret, so that it is redacted from now on."""
        if len(text) >= SHORTEST_SECRET:
            self._texts[text] = None

    def add_derived(self, made: Any, expression: str, sees: Mapping[str, Any]) -> None:
        """Note what an expression with a secret has made; what it says or sees itself is no part of the secret.

        Raises:
            ExpressionFailed: most of a secret is there in parts that are too short to be found again.
        """
        known = {text for value in sees.values() for text in _leaves(value)}
        short = []
        for text in _leaves(made):
            if text in known or _is_literal(text, expression):
                continue
            if self.forms.is_in(text):
                if len(self._around) < _MOST_AROUND:
                    self._around[text] = None
            elif len(text) >= SHORTEST_SECRET:
                self.note(text)
            else:
                short.append(text)
        for secret in self._values.values():
            if 2 * sum(len(text) for text in short if text in secret) >= max(len(secret), 2 * SHORTEST_SECRET):
                raise ExpressionFailed(
                    f"what {expression} makes of a secret has parts of fewer than {SHORTEST_SECRET} characters, which "
                    "can't be told from other texts, and would be kept in the clear; leave the secret whole"
                )

    def redacted(self, text: str) -> str:
        """Return the text without any secret."""
        return self.forms.redacted(text) if self._texts else text

    def are_in(self, content: str | bytes) -> bool:
        """Tell whether any secret is in a text or bytes."""
        return bool(self._texts) and self.forms.is_in(content)


def _is_literal(text: str, expression: str) -> bool:
    """Tell whether the text stands in the expression; of a short one every letter would."""
    return text in expression if len(text) >= SHORTEST_SECRET else any(f"{q}{text}{q}" in expression for q in "'`\"")


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts in the value, and its numbers as texts."""
    match value:
        case str():
            yield value
        case bool():
            return
        case int() | float():
            yield str(value)
        case Mapping():
            for each in value.values():
                yield from _leaves(each)
        case list() | tuple():
            for each in value:
                yield from _leaves(each)


def _in_keyring(what: str) -> str | None:
    service, _, name = what.rpartition("/")
    try:
        import keyring
    except ImportError:
        raise SecretMissing("secrets of the keyring need the package keyring: pip install keyring") from None
    found: str | None = keyring.get_password(service, name)
    return found
