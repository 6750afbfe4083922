"""Functions of expressions: those of JMESPath, some of them stricter, and additional ones."""

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

from jmespath.functions import Functions

from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import PLAIN, coerce_deep, comparable, describe, read_json, write_json
from ironflow_nb.graphs.language.patterns import has_match, replace_matches

MOST_BITS: Final = 4_096
"""The largest whole number that arithmetic makes: repeated squaring would need any amount of memory."""

MOST_DIGITS: Final = 300
"""The most digits that ``round()`` takes: those of the largest numbers of JSON."""

MOST_ITEMS: Final = 1_000_000
"""The longest list that ``range()`` returns."""

HASHES: Final = ("sha256", "sha1", "sha512", "md5", "blake2b")


class RecordedValues(Protocol):
    """The source of ``now()`` and ``uuid()``; a run records their values, so that a replay returns the same."""

    def now(self) -> datetime:
        """Return the current time."""

    def uuid(self) -> str:
        """Return a random id."""


class CallContext(Protocol):
    """The first argument of every function."""

    recorded: RecordedValues

    @property
    def budget(self) -> Budget:
        """The remaining budget of the evaluation."""


class Function(NamedTuple):
    """A function and its number of arguments; `n_most` is infinite if variadic. `call` is None for JMESPath's own."""

    call: Callable[..., Any] | None
    n_least: int
    n_most: float
    signature: str = ""
    description: str = ""
    expressions: frozenset[int] = frozenset()
    """Numbers of the arguments that are expressions, written with ``&``."""

    def takes(self, n_given: int) -> bool:
        """Return True if the function can be called with that number of arguments."""
        return self.n_least <= n_given <= self.n_most

    @property
    def arity(self) -> str:
        """The number of arguments in words, for messages."""
        if self.n_most == math.inf:
            return f"at least {self.n_least} argument{'s' if self.n_least != 1 else ''}"
        if self.n_least == self.n_most:
            return f"{self.n_least} argument{'s' if self.n_least != 1 else ''}"
        return f"{self.n_least} to {int(self.n_most)} arguments"


EXTRA_FUNCTIONS: Final[dict[str, Function]] = {}

F = Callable[..., Any]


def _extra(signature: str, n_least: int, n_most: float | None = None) -> Callable[[F], F]:
    """Register a function of expressions; its docstring is its public description."""

    def register(function: F) -> F:
        name = signature.partition("(")[0]
        description = (function.__doc__ or "").strip()
        EXTRA_FUNCTIONS[name] = Function(
            function, n_least, n_least if n_most is None else n_most, signature, description
        )
        return function

    return register


_JMESPATH_FUNCTIONS: Final = Functions()


@cache
def known_functions() -> Mapping[str, Function]:
    """Return every function by name, JMESPath's own included."""
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


def call_function(name: str, arguments: list[Any], context: CallContext) -> Any:
    """Call a function with evaluated arguments.

    Raises:
        ValueError, TypeError, OverflowError: the function refuses the arguments.
    """
    call = known_functions()[name].call
    result = _JMESPATH_FUNCTIONS.call_function(name, arguments) if call is None else call(context, *arguments)
    if isinstance(result, float) and not math.isfinite(result):
        raise ValueError("the result is not a number of JSON")
    return result


def _require_text(value: Any, what: str = "its argument") -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a text, not {describe(value)}")
    return value


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # its own message shows the text
        raise ValueError("the text has a lone surrogate, which UTF-8 can't encode") from None


def _require_list(value: Any, what: str = "its argument") -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{what} must be a list, not {describe(value)}")
    return value


def _require_integer(value: Any, what: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{what} must be a whole number, not {describe(value)}")
    return value


def _to_string(_: CallContext, value: Any) -> str:
    return value if isinstance(value, str) else write_json(value)


def _type(_: CallContext, value: Any) -> str:
    """Return the name of the JSON type; for a value without one, the name of its class."""
    name: str | None = _JMESPATH_FUNCTIONS.call_function("type", [value])
    return type(value).__name__ if name is None else name


def _contains(_: CallContext, subject: Any, search: Any) -> Any:
    if isinstance(subject, list) and not PLAIN.issuperset(map(type, subject)):
        subject = coerce_deep(subject)
    return _JMESPATH_FUNCTIONS.call_function("contains", [subject, search])


def _join(context: CallContext, separator: Any, items: Any) -> Any:
    if isinstance(separator, str) and isinstance(items, list):
        context.budget.require(len(separator) * len(items) + sum(len(item) for item in items if isinstance(item, str)))
    return _JMESPATH_FUNCTIONS.call_function("join", [separator, items])


def calculate(operator: str, left: float, right: float) -> int | float:
    """Return the result of ``+``, ``-``, ``*``, ``/`` or ``%``; a whole number if two whole numbers divide evenly.

    Raises:
        ValueError: it divides by zero, or the result is no number of JSON, or too large a one.
    """
    if operator in "/%" and right == 0:
        raise ValueError(f"{operator} by zero")
    is_even = operator == "/" and isinstance(left, int) and isinstance(right, int) and left % right == 0
    found: int | float
    match operator:
        case "+":
            found = left + right
        case "-":
            found = left - right
        case "*":
            found = left * right
        case "/":
            found = left // right if is_even else left / right
        case _:
            found = left % right
    is_too_large = found.bit_length() > MOST_BITS if isinstance(found, int) else not math.isfinite(found)
    if is_too_large:
        raise ValueError(f"the result of {operator} is too large")
    return found


# -- texts -------------------------------------------------------------------------------------------------------


@_extra("base64_encode(text)", 1)
def _base64_encode(_: CallContext, text: Any) -> str:
    """The text, as UTF-8, in base64."""
    return base64.b64encode(_utf8(_require_text(text))).decode()


@_extra("base64_decode(text)", 1)
def _base64_decode(_: CallContext, text: Any) -> str:
    """The text that the base64 contains, decoded as UTF-8."""
    try:
        return base64.b64decode(_require_text(text), validate=True).decode()
    except ValueError:
        raise ValueError("its argument is not base64 of a text in UTF-8") from None


@_extra("upper(text)", 1)
def _upper(_: CallContext, text: Any) -> str:
    """The text in upper case."""
    return _require_text(text).upper()


@_extra("lower(text)", 1)
def _lower(_: CallContext, text: Any) -> str:
    """The text in lower case."""
    return _require_text(text).lower()


@_extra("capitalize(text)", 1)
def _capitalize(_: CallContext, text: Any) -> str:
    """The text with its first character in upper case and the others unchanged."""
    return _require_text(text)[:1].upper() + _require_text(text)[1:]


@_extra("split(text, separator)", 2)
def _split(_: CallContext, text: Any, separator: Any) -> list[str]:
    """The parts of the text between the separators."""
    if not _require_text(separator, "the separator"):
        raise ValueError("the separator is empty")
    return _require_text(text, "its first argument").split(separator)


@_extra("concat(value, ...)", 1, math.inf)
def _concat(context: CallContext, *values: Any) -> str | list[Any]:
    """Texts and numbers as one text, or lists as one list."""
    context.budget.require(sum(len(value) for value in values if isinstance(value, str | list)))
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return "".join(map(_concat_text, values))


def _concat_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    raise TypeError(f"it takes texts and numbers, or lists, not {describe(value)}")


@_extra("regex_match(text, pattern)", 2)
def _regex_match(context: CallContext, text: Any, pattern: Any) -> bool:
    """True if the pattern matches anywhere in the text."""
    return has_match(_require_text(pattern, "the pattern"), _require_text(text, "its first argument"), context.budget)


@_extra("regex_replace(text, pattern, replacement)", 3)
def _regex_replace(context: CallContext, text: Any, pattern: Any, replacement: Any) -> str:
    r"""The text with every match replaced; ``\1`` in the replacement is the first group."""
    replacement = _require_text(replacement, "the replacement")
    return replace_matches(
        _require_text(pattern, "the pattern"), replacement, _require_text(text, "its first argument"), context.budget
    )


@_extra("hash(value, algorithm?)", 1, 2)
def _hash(_: CallContext, value: Any, algorithm: Any = "sha256") -> str:
    """The hex digest of a text, as UTF-8, or of other data as JSON with sorted keys; sha256 unless said."""
    return digest(value, algorithm)


def digest(value: Any, algorithm: Any = "sha256") -> str:
    """Return the hex digest of bytes, of a text as UTF-8, or of other data as JSON with sorted keys.

    Raises:
        ValueError, TypeError: the algorithm is unknown, or the data has no JSON form.
    """
    if not isinstance(algorithm, str) or algorithm not in HASHES:
        raise ValueError(f"the algorithm must be one of {', '.join(HASHES)}")
    if isinstance(value, bytes):
        content = value
    elif isinstance(value, str):
        content = _utf8(value)
    else:
        content = write_json(value, sort_keys=True).encode()
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


@_extra("from_json(text)", 1)
def _from_json(_: CallContext, text: Any) -> Any:
    """The data of a JSON text."""
    try:
        return read_json(_require_text(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its argument is not JSON: {error}") from None


# -- time and random ids ---------------------------------------------------------------------------------------------


@_extra("now()", 0)
def _now(context: CallContext) -> str:
    """The current time as ISO 8601 in UTC; recorded, so a continued run gets the same."""
    return context.recorded.now().isoformat()


@_extra("uuid()", 0)
def _uuid(context: CallContext) -> str:
    """A random id; recorded, so a continued run gets the same."""
    return context.recorded.uuid()


@_extra("format_date(instant, format)", 2)
def _format_date(_: CallContext, instant: Any, template: Any) -> str:
    """The instant, ISO 8601 or seconds since 1970 (in UTC), by a format of ``strftime``."""
    _utf8(_require_text(template, "the format"))  # strftime itself fails without a message
    return _instant(instant).strftime(template)


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    try:
        return datetime.fromisoformat(_require_text(value, "the instant"))
    except ValueError:
        raise ValueError("the instant is neither ISO 8601 nor seconds since 1970") from None


# -- values that may be missing ---------------------------------------------------------------------------------------


@_extra("default(value, otherwise)", 2)
def _default(_: CallContext, value: Any, otherwise: Any) -> Any:
    """The value, or the other one if the value is null or missing."""
    return otherwise if value is None else value


@_extra("truthy(value)", 1)
def _truthy(_: CallContext, value: Any) -> bool:
    """False if the value is missing, null, false or an empty text, list or object; else true, also for 0."""
    return value is not None and value is not False and value not in ("", [], {})


@_extra("coalesce(value, ...)", 1, math.inf)
def _coalesce(_: CallContext, *values: Any) -> Any:
    """The first value that is neither null nor missing, else null."""
    return next((value for value in values if value is not None), None)


# -- lists -------------------------------------------------------------------------------------------------------


@_extra("zip(list, list, ...)", 2, math.inf)
def _zip(_: CallContext, *lists: Any) -> list[list[Any]]:
    """Lists of equal length as rows: a list of the first items, a list of the second items, and so on."""
    missing = object()
    rows = [list(row) for row in zip_longest(*map(_require_list, lists), fillvalue=missing)]
    if rows and any(each is missing for each in rows[-1]):
        raise ValueError(
            f"the lists have {', '.join(str(len(each)) for each in lists)} items; they must have the same number"
        )
    return rows


@_extra("group_by(list, field)", 2)
def _group_by(_: CallContext, items: Any, field: Any) -> dict[str, list[Any]]:
    """The objects of a list grouped by the value of one field, as an object of lists."""
    groups: dict[str, list[Any]] = {}
    kinds: dict[str, bool] = {}
    _require_text(field, "the field")
    for number, item in enumerate(_require_list(items, "its first argument")):
        if not isinstance(item, Mapping) or field not in item:
            raise ValueError(f"item {number} of the list is {describe(item)}, without the field")
        is_text = isinstance(item[field], str)
        name = item[field] if is_text else write_json(item[field], sort_keys=True, separators=None)
        if kinds.setdefault(name, is_text) is not is_text:
            raise ValueError("the field is a text in one item and another value with the same text in another item")
        groups.setdefault(name, []).append(item)
    return groups


@_extra("range(stop) or range(start, stop, step?)", 1, 3)
def _range(_: CallContext, *bounds: Any) -> list[int]:
    """The whole numbers from start, or 0, up to but not including stop."""
    names = ("the start", "the stop", "the step") if len(bounds) > 1 else ("the stop",)
    whole = [_require_integer(bound, name) for bound, name in zip(bounds, names, strict=False)]
    if len(whole) == 3 and whole[2] == 0:
        raise ValueError("the step is 0")
    numbers = range(*whole)
    if abs(numbers.stop - numbers.start) // abs(numbers.step) > MOST_ITEMS:
        raise ValueError(f"the range has more than {MOST_ITEMS} numbers")
    return list(numbers)


@_extra("unique(list, field?)", 1, 2)
def _unique(_: CallContext, items: Any, *field: Any) -> list[Any]:
    """The list without items that equal an earlier one, or whose field does."""
    chosen: dict[Any, Any] = {}
    for number, item in enumerate(_require_list(items, "its first argument")):
        value = item
        if field:
            name = _require_text(field[0], "the field")
            if not isinstance(item, Mapping) or name not in item:
                raise ValueError(f"item {number} of the list is {describe(item)}, without the field")
            value = item[name]
        chosen.setdefault(comparable(coerce_deep(value)), item)
    return list(chosen.values())


@_extra("rename(value, names)", 2)
def _rename(_: CallContext, value: Any, names: Any) -> Any:
    """The object, or each object of a list, with other names of fields, as in ``{old: 'new'}``."""
    if not isinstance(names, Mapping) or not all(isinstance(each, str) for each in names.values()):
        raise TypeError("the names must be an object of texts, as in {old: 'new'}")
    rows = [value] if isinstance(value, Mapping) else _require_list(value, "its first argument")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"item {number} of the list is {describe(row)}, and not an object")
    for old in names:
        if rows and not any(old in row for row in rows):
            raise ValueError(f"there is no field {old!r}")
    renamed = [_renamed(row, names) for row in rows]
    return renamed[0] if isinstance(value, Mapping) else renamed


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    made = {names.get(key, key): each for key, each in row.items()}
    if len(made) < len(row):
        raise ValueError("two fields would have one name")
    return made


# -- numbers -----------------------------------------------------------------------------------------------------


@_extra("round(number, digits?)", 1, 2)
def _round(_: CallContext, number: Any, *digits: Any) -> int | float:
    """The number with that many digits after the point, none unless said; a half goes to the even neighbour."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"its first argument must be a number, not {describe(number)}")
    if any(abs(_require_integer(each, "digits")) > MOST_DIGITS for each in digits):
        raise ValueError(f"digits must be between -{MOST_DIGITS} and {MOST_DIGITS}")
    return round(number, *digits)
