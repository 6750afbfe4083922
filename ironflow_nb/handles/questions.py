"""Questions to people: which answers fit, in which form they are sent, and how a typed text is read.

An answer may come from another process, which knows only the recorded form of the question: the values to choose from,
or the JSON schema of the type. So an answer is sent as plain values. The process of the flow converts them to the type
and checks them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ironflow_nb.core.plain_text import plain
from ironflow_nb.handles.schema_validator import mismatches

_SHOWN_LINES: Final = 12
_SHOWN_CHARACTERS: Final = 200


class Answer(Protocol):
    """Which answers fit a question."""

    @property
    def fits(self) -> str:
        """What fits, in words."""

    @property
    def hint(self) -> str | None:
        """What a person can type; None if no typed text can fit."""

    @property
    def example(self) -> str:
        """An expression for a fitting answer, or a placeholder for one."""

    @property
    def form(self) -> str:
        """How it is given: choice, text, number, date, datetime, json, frame (one to edit); empty if by no form."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The answers to choose from, as they are typed; none if there are more than can be listed."""

    def sent(self, value: object) -> Any:
        """Return the answer in the form in which it is sent.

        Raises:
            ValueError: it does not fit.
        """

    def taken(self, sent: Any) -> Any:
        """Return what the flow gets of an answer that was sent.

        Raises:
            ValueError: it does not fit.
        """

    def read(self, text: str) -> Any:
        """Return the answer that a person has typed.

        Raises:
            ValueError: it does not fit.
        """

    def recorded(self) -> dict[str, Any]:
        """Return what is recorded of this, for `answer_of`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and which answers fit."""

    text: str
    answer: Answer
    payload: object = None

    def __str__(self) -> str:
        return f'"{plain(self.text)}"'

    def taken(self, sent: Any) -> Any:
        """Return what the flow gets of an answer that was sent; see `Answer`."""
        return self.answer.taken(sent)

    @property
    def prompt(self) -> str | None:
        """What is asked where a line can be typed: the question, its payload, and what fits; None for a frame."""
        hint = self.answer.hint
        if hint is None:
            return None
        shown = "" if self.payload is None else repr(self.payload)
        lines = [self.text, *shown.splitlines()[:_SHOWN_LINES], hint]
        return "\n".join(plain(_cut(line)) for line in lines if line)

    def read(self, text: str) -> Any:
        """Return the answer that a person has typed; see `Answer`."""
        return self.answer.read(text)

    def expression(self, run_id: str, step: str) -> str:
        """Return the expression that answers it, and no later question of the run."""
        return f'iron.get_run("{run_id}").answer({self.answer.example}, "{step}")'


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these values."""

    options: Sequence[Any]

    @property
    def fits(self) -> str:
        """See `Answer`."""
        return f"one of {', '.join(map(repr, self.options))}"

    @property
    def hint(self) -> str:
        """See `Answer`."""
        return ", ".join(f"{number} {option}" for number, option in enumerate(self.options, 1))

    @property
    def example(self) -> str:
        """See `Answer`."""
        return repr(self.options[0])

    form = "choice"

    @property
    def choices(self) -> tuple[str, ...]:
        """See `Answer`."""
        return tuple(map(str, self.options))

    def sent(self, value: object) -> Any:
        """See `Answer`."""
        for option in self.options:
            if type(option) is type(value) and bool(option == value):
                return option
        raise ValueError("it is not among the choices")

    taken = sent

    def read(self, text: str) -> Any:
        """See `Answer`. The number of a choice does, too, counted from 1."""
        for option in self.options:
            if text == str(option):
                return option
        if text.isdecimal() and 0 < int(text) <= len(self.options):
            return self.options[int(text) - 1]
        raise ValueError("it is not among the choices")

    def recorded(self) -> dict[str, Any]:
        """See `Answer`."""
        return {"choices": list(self.options)}


_WORDS: Final = {
    "str": "a text", "int": "a whole number", "float": "a number", "date": "a date such as 2026-01-31",
    "datetime": "an instant such as 2026-01-31T12:00:00Z", "bool": "True or False",
}  # fmt: skip
_FORMS: Final = {
    "string": "text", "integer": "number", "number": "number", "date": "date", "date-time": "datetime",
}  # fmt: skip
_BOOLEANS: Final = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}
_BOOLEAN: Final = {"type": "boolean"}
_TEXT: Final = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Typed:
    """A value of a type that msgspec checks. Without the type itself, its JSON schema is what is known of it."""

    name: str
    schema: Mapping[str, Any]
    type: Any = None

    @property
    def fits(self) -> str:
        """See `Answer`."""
        fields = _fields(self.schema)
        return _WORDS.get(self.name, self.name) + (f" with {', '.join(fields)}" if fields else "")

    @property
    def hint(self) -> str:
        """See `Answer`."""
        return "yes or no" if self.schema == _BOOLEAN else self.fits

    @property
    def example(self) -> str:
        """See `Answer`."""
        return {"bool": "True", "str": '"..."'}.get(self.name, "...")

    @property
    def form(self) -> str:
        """See `Answer`."""
        return "choice" if self.choices else _FORMS.get(self.schema.get("format", self.schema.get("type")), "json")

    @property
    def choices(self) -> tuple[str, ...]:
        """See `Answer`."""
        return ("yes", "no") if self.schema == _BOOLEAN else tuple(map(str, self.schema.get("enum", ())))

    def sent(self, value: object) -> Any:
        """See `Answer`."""
        try:
            plain_value = msgspec.to_builtins(value, enc_hook=_plain_scalar)
            plain_keys = msgspec.to_builtins(value, enc_hook=_plain_scalar, str_keys=True)
        except TypeError as error:
            raise ValueError(str(error)) from None
        for message in _mistakes(self.schema, plain_keys):
            raise ValueError(message)
        if self.type is not None:
            self.taken(plain_value)
        return plain_value

    def taken(self, sent: Any) -> Any:
        """See `Answer`."""
        try:
            return sent if self.type is None else msgspec.convert(sent, self.type)
        except (TypeError, msgspec.MsgspecError) as error:
            raise ValueError(str(error)) from None
        finally:
            _drop_caches(self.type)

    def read(self, text: str) -> Any:
        """See `Answer`. What is no text is typed as JSON."""
        if self.schema == _BOOLEAN and text.strip().lower() in _BOOLEANS:
            return _BOOLEANS[text.strip().lower()]
        if self.schema == _TEXT:
            return text
        try:
            return self.sent(msgspec.json.decode(text))
        except ValueError:
            return self.sent(text)

    def recorded(self) -> dict[str, Any]:
        """See `Answer`."""
        return {"type": self.name, "schema": self.schema}


@dataclass(frozen=True, slots=True)
class Frame:
    """A DataFrame; if it is an edited one, with the same columns."""

    columns: Sequence[Any] | None = None

    @property
    def fits(self) -> str:
        """See `Answer`."""
        if self.columns is None:
            return "a DataFrame"
        return f"a DataFrame with the columns {', '.join(map(str, self.columns))}"

    @property
    def hint(self) -> None:
        """See `Answer`."""
        return

    @property
    def example(self) -> str:
        """See `Answer`."""
        return "frame"

    @property
    def form(self) -> str:
        """See `Answer`."""
        return "" if self.columns is None else "frame"

    choices = ()

    def sent(self, value: object) -> Any:
        """See `Answer`."""
        if not is_frame(type(value)):
            raise ValueError("it is no DataFrame")
        columns: list[Any] = list(value.columns)  # type: ignore[attr-defined]
        if self.columns is None or columns == list(self.columns):
            return value
        missing = [each for each in self.columns if each not in columns]
        more = [each for each in columns if each not in self.columns]
        lists = [("misses the columns", missing), ("has more columns:", more)]
        found = [f"{what} {', '.join(map(str, each))}" for what, each in lists if each]
        raise ValueError(f"it {' and '.join(found) or 'has its columns in another order'}")

    taken = sent

    def read(self, text: str) -> Any:
        """See `Answer`."""
        raise ValueError("a DataFrame can't be typed")

    def recorded(self) -> dict[str, Any]:
        """See `Answer`."""
        return {"columns": None if self.columns is None else list(self.columns)}


YES_OR_NO: Final = Typed("bool", _BOOLEAN, bool)


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}…"


def is_frame(kind: type) -> bool:
    """Return True if it is pandas' class of frames, or one that is derived from it."""
    return any(each.__name__ == "DataFrame" and each.__module__.partition(".")[0] == "pandas" for each in kind.__mro__)


def answer_of_type(kind: Any, payload: object) -> Answer:
    """Return which answers fit a type; a DataFrame answers one to edit with one of the same columns.

    Raises:
        TypeError: it is no type that msgspec can check, and no DataFrame.
    """
    if isinstance(kind, type) and is_frame(kind):
        return Frame(list(payload.columns) if is_frame(type(payload)) else None)  # type: ignore[attr-defined]
    try:
        schema = msgspec.json.schema(kind)
    except TypeError:
        raise TypeError(
            f"type= takes a type that msgspec checks (int, float, str, date, Literal, a dataclass, ...) or "
            f"pandas.DataFrame, not {kind!r}"
        ) from None
    _drop_caches(kind)
    name = kind.__name__ if isinstance(kind, type) else repr(kind).replace("typing.", "")
    return Typed(name, schema, kind)


def answer_of(recorded: Mapping[str, Any] | None) -> Answer:
    """Return which answers fit, from what was recorded with the question; without that, yes or no."""
    match recorded:
        case {"choices": options}:
            return Choice(options)
        case {"schema": schema, "type": name}:
            return Typed(name, schema)
        case {"columns": columns}:
            return Frame(columns)
    return YES_OR_NO


def _fields(schema: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of a class from its schema."""
    target = schema.get("$ref", "").rpartition("/")[2]
    return list(schema.get("$defs", {}).get(target, {}).get("properties", ()))


_CACHE: Final = "__msgspec_cache__"


def _drop_caches(kind: Any) -> None:
    """Take from the classes of a type what msgspec has noted on them: it can't be pickled, and so they could not."""
    from msgspec.inspect import multi_type_info

    waiting: list[Any] = [multi_type_info([kind])[0]] if kind is not None else []
    met: set[int] = set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, tuple):
            waiting += found
        elif isinstance(found, msgspec.Struct) and id(found) not in met:
            met.add(id(found))
            waiting += [getattr(found, name) for name in found.__struct_fields__]
            cls = getattr(found, "cls", None)
            if cls is not None and _CACHE in vars(cls):
                delattr(cls, _CACHE)


def _plain_scalar(value: Any) -> Any:
    """Return a scalar of numpy as one of Python."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(f"{type(value).__qualname__} is no plain value")


def _mistakes(schema: Mapping[str, Any], value: Any) -> Iterable[str]:
    """Yield what does not fit the schema, with the place."""
    for path, message in mismatches(dict(schema), value):
        place = ".".join(map(str, path))
        yield f"{place}: {message}" if place else message
