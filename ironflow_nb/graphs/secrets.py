"""Secrets of graphs: known by name until the moment in which a node needs them, and blackened in all that is kept.

What a graph says of a secret is where to find it. Its value is looked up inside of the step that uses it; what the
journal keeps as the arguments of that step is the text of the expression. Results and errors are searched for the
value, for what an expression made of it, and for both as they stand in URLs and base64.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, quote_plus

from ironflow_nb.errors import NodeFailed, SecretMissing
from ironflow_nb.graphs.grants import Grants, Need

BLACKENED: Final = "***"

SHORTEST: Final = 4
"""A shorter text is not searched for: it would blacken half of everything."""

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "where each secret is found, by the name that expressions know it by",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "env": {"type": "string", "description": "a variable of the environment, which must be granted"},
            "keyring": {"type": "string", "description": "SERVICE/NAME in the keyring of the system"},
            "prompt": {"type": "string", "description": "what to ask the person at the keyboard, once in a process"},
        },
    },
}

_KEPT_ASIDE: Final = ("filename", "filename2", "strerror", "msg", "doc", "text", "object", "reason", "name", "path")
"""What built-in exceptions carry that is neither among their arguments nor in their dictionary."""

_FOR_URLS: Final = str.maketrans("+/", "-_")

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
        self._seen: set[str] = set()

    @property
    def has_any(self) -> bool:
        """Tell whether the graph has any secrets at all."""
        return bool(self._sources)

    def value(self, name: str) -> str:
        """Return the secret, looked up where the graph says.

        Raises:
            SecretMissing: it is not there, or there is nobody to ask.
            NotGranted: it is in a variable of the environment that is not granted.
        """
        if name not in self._values:
            value = self._look_up(name)
            self._values[name] = value
            self.note(value)
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
        found = {"env": self._of_environment, "keyring": _of_keyring, "prompt": self._of_prompt}[where](what)
        if not found:
            raise SecretMissing(f"secret {name} is not there: {where} {what!r} has nothing", secret=name)
        return found

    def _of_environment(self, variable: str) -> str | None:
        self._grants.require(Need("env", variable))
        return os.environ.get(variable)

    def _of_prompt(self, question: str) -> str | None:
        return None if self._ask is None else self._ask(question)

    # -- blackening ----------------------------------------------------------------------------------------------

    def note(self, value: Any) -> None:
        """Note a text that is secret, or was made of a secret, so that it is blackened from now on."""
        match value:
            case str() if len(value) >= SHORTEST:
                self._seen |= {value, quote(value, safe=""), quote_plus(value), *_escaped(value), *_in_base64(value)}
            case Mapping():
                for each in value.values():
                    self.note(each)
            case list():
                for each in value:
                    self.note(each)

    def blacken(self, value: Any) -> Any:
        """Return the value without any secret in its texts, keys included; other things stay as they are."""
        if not self._seen:
            return value
        match value:
            case str():
                return self._blacken_text(value)
            case bytes():
                return self._blacken_bytes(value)
            case dict():
                return {self.blacken(key): self.blacken(each) for key, each in value.items()}
            case list():
                return [self.blacken(each) for each in value]
            case tuple() if type(value) is tuple:
                return tuple(self.blacken(each) for each in value)
            case _:
                return value

    def blacken_error(self, error: BaseException) -> BaseException:
        """Return the exception without any secret in what it, and those that it came of, say.

        It is the same one, changed, wherever that is possible.
        """
        return self._clean(error, {}) if self._seen else error

    def _clean(self, error: BaseException, cleaned: dict[int, BaseException]) -> BaseException:
        if id(error) in cleaned:
            return cleaned[id(error)]
        cleaned[id(error)] = error
        clean = self._clean_group(error, cleaned) if isinstance(error, BaseExceptionGroup) else self._clean_one(error)
        cleaned[id(error)] = clean
        for name in ("__cause__", "__context__"):
            link = getattr(error, name)
            if link is not None:
                setattr(clean, name, self._clean(link, cleaned))
        clean.__suppress_context__ = error.__suppress_context__
        return clean

    def _clean_one(self, error: BaseException) -> BaseException:
        with suppress(Exception):  # a class may refuse it
            error.args = tuple(self.blacken(each) for each in error.args)
        for name in (*vars(error), *_KEPT_ASIDE):  # notes, and what else an exception carries
            with suppress(Exception):
                setattr(error, name, self.blacken(getattr(error, name)))
        said = f"{error}\n{error!r}"
        if self._blacken_text(said) == said:
            return error
        told = NodeFailed(self._blacken_text(f"{type(error).__qualname__}: {error}"))
        return told.with_traceback(error.__traceback__)

    def _clean_group(
        self, group: BaseExceptionGroup[BaseException], cleaned: dict[int, BaseException]
    ) -> BaseException:
        inside = [self._clean(each, cleaned) for each in group.exceptions]
        clean = BaseExceptionGroup(self._blacken_text(group.message), inside)
        clean.__dict__.update({name: self.blacken(each) for name, each in vars(group).items()})
        return clean.with_traceback(group.__traceback__)

    def _blacken_text(self, text: str) -> str:
        for secret in sorted(self._seen, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, BLACKENED)
        return text

    def _blacken_bytes(self, content: bytes) -> bytes:
        for secret in sorted(self._seen, key=len, reverse=True):
            content = content.replace(secret.encode(), BLACKENED.encode())
        return content


def _escaped(value: str) -> Iterator[str]:
    """Yield how the text looks in JSON, and where Python shows it."""
    yield from (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])


def _in_base64(value: str) -> Iterator[str]:
    """Yield how the text looks in base64, by itself and within something longer: ``user:password`` for instance."""
    for each in _in_standard_base64(value):
        yield from {each, each.translate(_FOR_URLS)}


def _in_standard_base64(value: str) -> Iterator[str]:
    content = value.encode()
    encoded = base64.b64encode(content).decode()
    yield from (encoded, encoded.rstrip("="))
    for before in range(3):
        # Only the letters that no byte before or after it has a part in.
        first, last = -(-before * 8 // 6), (before + len(content)) * 8 // 6
        inside = base64.b64encode(b"\0" * before + content).decode()[first:last]
        if len(inside) > SHORTEST:
            yield inside


def _of_keyring(what: str) -> str | None:
    service, _, name = what.rpartition("/")
    try:
        import keyring  # noqa: PLC0415 -- few use it, and it is no dependency
    except ImportError:
        raise SecretMissing("secrets of the keyring need the package keyring: pip install keyring") from None
    found: str | None = keyring.get_password(service, name)
    return found
