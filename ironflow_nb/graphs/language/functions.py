"""The functions of expressions, beyond JMESPath's own."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import zip_longest
from typing import Any, Final, NamedTuple, Protocol

from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import PLAIN, coerce_deep, describe, read_json, write_json
from ironflow_nb.graphs.language.patterns import has_match, replace_matches

MOST_ITEMS: Final = 1_000_000
"""A range is not longer than that: what a graph computes fits into memory."""

HASHES: Final = ("sha256", "sha1", "sha512", "md5", "blake2b")


class RecordedValues(Protocol):
    """Where ``now()`` and ``uuid()`` come from: recorded in a run, so that a replay gets them again."""

    def now(self) -> datetime:
        """Return the time."""

    def uuid(self) -> str:
        """Return a random id."""


class CallContext(Protocol):
    """What every function gets before its own arguments."""

    recorded: RecordedValues

    @property
    def budget(self) -> Budget:
        """What the expression may still do."""


class Function(NamedTuple):
    """A function with how many arguments it takes; `n_most` is infinite where there is no end."""

    call: Callable[..., Any] | None
    n_least: int
    n_most: float
    signature: str = ""
    description: str = ""
    expressions: frozenset[int] = frozenset()
    """The arguments that are expressions themselves, with ``&`` before them."""

    def takes(self, n_given: int) -> bool:
        """Tell whether it takes so many arguments."""
        return self.n_least <= n_given <= self.n_most

    @property
    def arity(self) -> str:
        """How many arguments it takes, in words."""
        if self.n_most == math.inf:
            return f"at least {self.n_least} argument{'s' if self.n_least != 1 else ''}"
        if self.n_least == self.n_most:
            return f"{self.n_least} argument{'s' if self.n_least != 1 else ''}"
        return f"{self.n_least} to {int(self.n_most)} arguments"


EXTRA_FUNCTIONS: Final[dict[str, Function]] = {}

F = Callable[..., Any]


def _extra(signature: str, n_least: int, n_most: float | None = None) -> Callable[[F], F]:
    """Register a function, which gets what is recorded before its own arguments."""

    def register(function: F) -> F:
        name = signature.partition("(")[0]
        description = (function.__doc__ or "").strip()
        EXTRA_FUNCTIONS[name] = Function(
            function, n_least, n_least if n_most is None else n_most, signature, description
        )
        return function

    return register


@cache
def known_functions() -> Mapping[str, Function]:
    """Return every function by name, JMESPath's own included."""
    from jmespath.functions import Functions

    own = {}
    for name, known in Functions.FUNCTION_TABLE.items():
        signature = known["signature"]
        is_variadic = bool(signature) and signature[-1].get("variadic", False)
        expressions = frozenset(n for n, each in enumerate(signature) if "expref" in each["types"])
        n_most = math.inf if is_variadic else len(signature)
        own[name] = Function(None, len(signature), n_most, expressions=expressions)
    own["to_string"] = own["to_string"]._replace(call=_to_string)
    own["join"] = own["join"]._replace(call=_join)
    own["type"] = own["type"]._replace(call=_type)
    own["contains"] = own["contains"]._replace(call=_contains)
    return own | EXTRA_FUNCTIONS


def call_function(name: str, arguments: list[Any], given: CallContext) -> Any:
    """Call a function with evaluated arguments.

    Raises:
        ValueError, TypeError, OverflowError: it can't take them; the message says why.
    """
    call = known_functions()[name].call
    found = _own_functions().call_function(name, arguments) if call is None else call(given, *arguments)
    if isinstance(found, float) and not math.isfinite(found):
        raise ValueError("that is no number that JSON has")
    return found


@cache
def _own_functions() -> Any:
    from jmespath.functions import Functions

    return Functions()


def _text(value: Any, what: str = "its argument") -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {describe(value)}")
    return value


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # which shows what it met
        raise ValueError("the text has half of a surrogate pair, which UTF-8 has not") from None


def _list(value: Any, what: str = "its argument") -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{what} is a list, not {describe(value)}")
    return value


def _whole(value: Any, what: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{what} is a whole number, not {describe(value)}")
    return value


def _to_string(_: CallContext, value: Any) -> str:
    return value if isinstance(value, str) else write_json(value)


def _type(_: CallContext, value: Any) -> str:
    """Return the type of JSON; of a value that JSON has no type for, the name of its class."""
    found: str | None = _own_functions().call_function("type", [value])
    return type(value).__name__ if found is None else found


def _contains(_: CallContext, subject: Any, search: Any) -> Any:
    if isinstance(subject, list) and not PLAIN.issuperset(map(type, subject)):
        subject = coerce_deep(subject)
    return _own_functions().call_function("contains", [subject, search])


def _join(given: CallContext, separator: Any, items: Any) -> Any:
    if isinstance(separator, str) and isinstance(items, list):
        given.budget.require(len(separator) * len(items) + sum(len(item) for item in items if isinstance(item, str)))
    return _own_functions().call_function("join", [separator, items])


# -- texts -------------------------------------------------------------------------------------------------------


@_extra("base64_encode(text)", 1)
def _base64_encode(_: CallContext, text: Any) -> str:
    """The text, as UTF-8, in base64."""
    return base64.b64encode(_utf8(_text(text))).decode()


@_extra("base64_decode(text)", 1)
def _base64_decode(_: CallContext, text: Any) -> str:
    """What the base64 says, read as UTF-8."""
    try:
        return base64.b64decode(_text(text), validate=True).decode()
    except ValueError:
        raise ValueError("its argument is no base64 of a text") from None


@_extra("upper(text)", 1)
def _upper(_: CallContext, text: Any) -> str:
    """The text in upper case."""
    return _text(text).upper()


@_extra("lower(text)", 1)
def _lower(_: CallContext, text: Any) -> str:
    """The text in lower case."""
    return _text(text).lower()


@_extra("capitalize(text)", 1)
def _capitalize(_: CallContext, text: Any) -> str:
    """The text with its first character in upper case; the others stay."""
    return _text(text)[:1].upper() + _text(text)[1:]


@_extra("split(text, separator)", 2)
def _split(_: CallContext, text: Any, separator: Any) -> list[str]:
    """The parts of the text between the separators."""
    if not _text(separator, "the separator"):
        raise ValueError("the separator is empty")
    return _text(text, "the text").split(separator)


@_extra("concat(value, ...)", 1, math.inf)
def _concat(given: CallContext, *values: Any) -> str | list[Any]:
    """Texts and numbers as one text, or lists as one list."""
    given.budget.require(sum(len(value) for value in values if isinstance(value, str | list)))
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return "".join(map(_joinable, values))


def _joinable(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    raise TypeError(f"it takes texts and numbers, or lists, not {describe(value)}")


@_extra("regex_match(text, pattern)", 2)
def _regex_match(given: CallContext, text: Any, pattern: Any) -> bool:
    """Whether the pattern is found anywhere in the text."""
    return has_match(_text(pattern, "the pattern"), _text(text, "the text"), given.budget)


@_extra("regex_replace(text, pattern, replacement)", 3)
def _regex_replace(given: CallContext, text: Any, pattern: Any, replacement: Any) -> str:
    r"""The text with every match replaced; ``\1`` in the replacement is the first group."""
    replacement = _text(replacement, "the replacement")
    return replace_matches(_text(pattern, "the pattern"), replacement, _text(text, "the text"), given.budget)


@_extra("hash(value, algorithm?)", 1, 2)
def _hash(_: CallContext, value: Any, algorithm: Any = "sha256") -> str:
    """The hex digest of a text, as UTF-8, or of other data as JSON with sorted keys; sha256 unless said."""
    return digest(value, algorithm)


def digest(value: Any, algorithm: Any = "sha256") -> str:
    """Return the hex digest of bytes, of a text as UTF-8, or of other data as JSON with sorted keys.

    Raises:
        ValueError, TypeError: there is no such algorithm, or the data has no JSON.
    """
    if not isinstance(algorithm, str) or algorithm not in HASHES:
        raise ValueError(f"the algorithm is one of {', '.join(HASHES)}")
    if isinstance(value, bytes):
        content = value
    elif isinstance(value, str):
        content = _utf8(value)
    else:
        content = write_json(value, sort_keys=True).encode()
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


@_extra("from_json(text)", 1)
def _from_json(_: CallContext, text: Any) -> Any:
    """What the JSON says."""
    try:
        return read_json(_text(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its argument is no JSON: {error}") from None


# -- time and chance ---------------------------------------------------------------------------------------------


@_extra("now()", 0)
def _now(given: CallContext) -> str:
    """The time as ISO 8601 in UTC; recorded, so a continued run gets it again."""
    return given.recorded.now().isoformat()


@_extra("uuid()", 0)
def _uuid(given: CallContext) -> str:
    """A random id; recorded, so a continued run gets it again."""
    return given.recorded.uuid()


@_extra("format_date(instant, format)", 2)
def _format_date(_: CallContext, instant: Any, template: Any) -> str:
    """The instant, ISO 8601 or seconds since 1970 (in UTC), by a format of ``strftime``."""
    _utf8(_text(template, "the format"))
    return _instant(instant).strftime(template)


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    try:
        return datetime.fromisoformat(_text(value, "the instant"))
    except ValueError:
        raise ValueError("the instant is neither ISO 8601 nor seconds since 1970") from None


# -- what may be missing -----------------------------------------------------------------------------------------


@_extra("default(value, otherwise)", 2)
def _default(_: CallContext, value: Any, otherwise: Any) -> Any:
    """The value, or the other one where it is null or missing."""
    return otherwise if value is None else value


@_extra("coalesce(value, ...)", 1, math.inf)
def _coalesce(_: CallContext, *values: Any) -> Any:
    """The first value that is neither null nor missing, else null."""
    return next((value for value in values if value is not None), None)


# -- lists -------------------------------------------------------------------------------------------------------


@_extra("zip(list, list, ...)", 2, math.inf)
def _zip(_: CallContext, *lists: Any) -> list[list[Any]]:
    """Lists of equal length side by side: a list of the first items, one of the second, and so on."""
    missing = object()
    rows = [list(row) for row in zip_longest(*map(_list, lists), fillvalue=missing)]
    if rows and any(each is missing for each in rows[-1]):
        raise ValueError(f"the lists have {', '.join(str(len(each)) for each in lists)} items, and not equally many")
    return rows


@_extra("group_by(list, field)", 2)
def _group_by(_: CallContext, items: Any, field: Any) -> dict[str, list[Any]]:
    """The objects of a list by the value of one field, as an object of lists."""
    groups: dict[str, list[Any]] = {}
    kinds: dict[str, bool] = {}
    _text(field, "the field")
    for number, item in enumerate(_list(items, "its first argument")):
        if not isinstance(item, Mapping) or field not in item:
            raise ValueError(f"item {number} of the list is {describe(item)}, without the field")
        is_text = isinstance(item[field], str)
        name = item[field] if is_text else write_json(item[field], sort_keys=True, separators=None)
        if kinds.setdefault(name, is_text) is not is_text:
            raise ValueError("the field is a text in one item and something else, that is written alike, in another")
        groups.setdefault(name, []).append(item)
    return groups


@_extra("range(stop) or range(start, stop, step?)", 1, 3)
def _range(_: CallContext, *bounds: Any) -> list[int]:
    """The whole numbers from start, or 0, up to but not including stop."""
    names = ("the start", "the stop", "the step") if len(bounds) > 1 else ("the stop",)
    whole = [_whole(bound, name) for bound, name in zip(bounds, names, strict=False)]
    if len(whole) == 3 and whole[2] == 0:
        raise ValueError("the step is 0")
    numbers = range(*whole)
    if abs(numbers.stop - numbers.start) // abs(numbers.step) > MOST_ITEMS:
        raise ValueError(f"that are more than {MOST_ITEMS} numbers")
    return list(numbers)
