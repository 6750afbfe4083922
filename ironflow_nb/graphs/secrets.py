"""Secrets of graphs: looked up when a node needs them, and redacted in everything that is stored.

A graph declares only the source of a secret. Its value is looked up inside the step that uses it. The journal stores
the text of the expression as the argument of that step. Everything that the run stores is searched for the value, and
for texts that expressions derived from it, in all forms of `secret_forms`.
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
    "description": "the source of each secret, by its name in expressions",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "env": {"type": "string", "description": "an environment variable, which must be granted"},
            "keyring": {"type": "string", "description": "SERVICE/NAME in the keyring, which must be granted"},
            "prompt": {
                "type": "string",
                "description": "the question to the person at the keyboard, asked once per process",
            },
        },
    },
}

_MOST_AROUND: Final = 100
"""At most this many texts around secrets are redacted as a whole. In further ones only the secret is redacted."""

Ask = Callable[[str], str]


def variable_of(source: Any) -> str | None:
    """Return the environment variable that is the source of a secret; None for other sources."""
    variable = source.get("env") if isinstance(source, Mapping) else None
    return variable if isinstance(variable, str) else None


class Secrets:
    """The secrets of one graph in this process."""

    def __init__(self, sources: Mapping[str, Mapping[str, str]], grants: Grants, *, ask: Ask | None = None) -> None:
        self._sources = sources
        self._grants = grants
        self._ask = ask
        self._values: dict[str, str] = {}
        self._texts: dict[str, None] = {}  # ordered sets; threads add to both, and a dict does that atomically
        self._around: dict[str, None] = {}
        self._forms: tuple[int, SecretForms] = 0, SecretForms(())

    @property
    def has_any(self) -> bool:
        """Return True if the graph declares a secret."""
        return bool(self._sources)

    @property
    def forms(self) -> SecretForms:
        """The forms of the secrets that were looked up so far, and of the texts derived from them."""
        # Entries are never removed, so their number tells whether the forms are up to date. It is read before the
        # entries: if another thread adds one in between, the forms are made again at the next call.
        n_known = len(self._texts) + len(self._around)
        if self._forms[0] != n_known:
            self._forms = n_known, SecretForms(list(self._texts), list(self._around))
        return self._forms[1]

    def value(self, name: str) -> str:
        """Return the value of the secret, looked up at the first call.

        Raises:
            SecretMissing: the source has no value, the value is too short to be redacted, or there is no prompt.
            NotGranted: the environment variable or the entry of the keyring is not granted.
        """
        if name not in self._values:
            value = self._look_up(name)
            if len(value) < SHORTEST_SECRET:
                raise SecretMissing(
                    f"secret {name} has only {len(value)} characters; fewer than {SHORTEST_SECRET} can't be told "
                    "from other texts and would be stored in the clear: use a longer one",
                    secret=name,
                )
            # First the forms, then the value: another thread that finds the value must also find it in the forms.
            self.add(value)
            self._values[name] = value
        return self._values[name]

    def require(self, name: str) -> None:
        """Look the secret up; of one with a prompt only check that a person can be asked.

        Raises:
            SecretMissing, NotGranted: see `value`.
        """
        if "prompt" not in self._sources.get(name, {"prompt": ""}) or name not in self._sources:
            self.value(name)
        elif self._ask is None and name not in self._values:
            raise SecretMissing(f"secret {name} must be asked for, and there is no one to ask", secret=name)

    def look_up_all(self) -> None:
        """Look up every secret without a prompt, so that its forms are known. Missing ones are no error here."""
        for name, source in self._sources.items():
            if "prompt" not in source:
                with suppress(SecretMissing, NotGranted):  # reported by the node that needs it
                    self.value(name)

    def refuse_in(self, given: Mapping[str, Any], run: str) -> None:
        """Check that values which the journal stores without redaction have no secrets.

        Args:
            given: the values by their name in messages; a continued run needs them unchanged.
            run: the name of the run in messages.

        Raises:
            ValueNotStorable: a value has a secret.
        """
        self.look_up_all()
        for name, value in given.items() if self._texts else ():
            if self.forms.is_in(msgspec.json.encode(value, enc_hook=repr)):
                raise ValueNotStorable(
                    f"a secret is in {name} of {run}, which is stored in the clear; leave it out there: nodes read it "
                    f"by its name, as secrets.{next(iter(self._sources))}"
                )

    def _look_up(self, name: str) -> str:
        source = self._sources.get(name)
        if source is None:
            known = ", ".join(self._sources) or "none"
            raise SecretMissing(
                f"the graph has no secret {name!r} (it has: {known}); declare its source: "
                f"secrets: {{{name}: {{env: VARIABLE}}}}",
                secret=name,
            )
        ((kind, entry),) = source.items()
        read = {"env": self._read_environment, "keyring": self._read_keyring, "prompt": self._read_prompt}[kind]
        value = read(entry)
        if not value:
            raise SecretMissing(f"secret {name} is not there: {kind} {entry!r} has no value", secret=name)
        return value

    def _read_environment(self, variable: str) -> str | None:
        self._grants.require(Need("env", variable))
        return os.environ.get(variable)

    def _read_keyring(self, entry: str) -> str | None:
        self._grants.require(Need("keyring", entry))
        return _keyring_password(entry)

    def _read_prompt(self, question: str) -> str | None:
        return None if self._ask is None else self._ask(question)

    # -- redaction -----------------------------------------------------------------------------------------------

    def add(self, text: str) -> None:
        """Add a secret text, which is redacted from now on."""
        if len(text) >= SHORTEST_SECRET:
            self._texts[text] = None

    def add_derived(self, made: Any, expression: str, sees: Mapping[str, Any]) -> None:
        """Add the texts in the result of an expression with secrets, except those it had without them.

        Args:
            made: the result.
            expression: the text of the expression; its literals are not secret.
            sees: the other values that the expression used; they are not secret.

        Raises:
            ExpressionFailed: the result has most of a secret in parts that are too short to be redacted.
        """
        public = {text for value in sees.values() for text in _leaves(value)}
        short = []
        for text in _leaves(made):
            if text in public or _is_literal(text, expression):
                continue
            if self.forms.is_in(text):
                if len(self._around) < _MOST_AROUND:
                    self._around[text] = None
            elif len(text) >= SHORTEST_SECRET:
                self.add(text)
            else:
                short.append(text)
        for secret in self._values.values():
            if 2 * sum(len(text) for text in short if text in secret) >= max(len(secret), 2 * SHORTEST_SECRET):
                raise ExpressionFailed(
                    f"the result of {expression} has parts of a secret with fewer than {SHORTEST_SECRET} characters, "
                    "which can't be told from other texts and would be stored in the clear; leave the secret whole"
                )

    def redacted(self, text: str) -> str:
        """Return the text with every form of a secret replaced by ``***``."""
        return self.forms.redacted(text) if self._texts else text

    def are_in(self, content: str | bytes) -> bool:
        """Return True if the content has a secret."""
        return bool(self._texts) and self.forms.is_in(content)


def _is_literal(text: str, expression: str) -> bool:
    """Return True if the text is a literal of the expression. A short one must be quoted there."""
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


def _keyring_password(entry: str) -> str | None:
    service, _, name = entry.rpartition("/")
    try:
        import keyring
    except ImportError:
        raise SecretMissing("secrets of the keyring need the package keyring: pip install keyring") from None
    password: str | None = keyring.get_password(service, name)
    return password
