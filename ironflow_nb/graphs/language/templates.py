r"""Templates: values with ``{{ expressions }}`` in their texts, compiled once and filled in many times.

A text that is exactly one expression becomes the result of the expression, with its type. An expression beside other
text is converted to text. ``\{{`` is an escape for two literal braces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from math import isnan
from typing import Any, Final, TypeAlias

import msgspec

from ironflow_nb.graphs.language.budget import Budget, overlap
from ironflow_nb.graphs.language.data import describe, text_encoder
from ironflow_nb.graphs.language.expression import Expression, ExpressionSyntaxError, compile_expression

OPENING: Final = "{{"
CLOSING: Final = "}}"


class Whole(msgspec.Struct, frozen=True):
    """A text that is exactly one expression, whose result keeps its type."""

    expression: Expression


class Text(msgspec.Struct, frozen=True):
    """A text with expressions in it."""

    parts: tuple[str | Expression, ...]


class Items(msgspec.Struct, frozen=True):
    """A list with expressions somewhere in it."""

    items: tuple[Template, ...]


class Fields(msgspec.Struct, frozen=True):
    """An object with expressions somewhere in it."""

    fields: tuple[tuple[str, Template], ...]


class Literal(msgspec.Struct, frozen=True):
    """A value without any expression."""

    value: Any


Template: TypeAlias = Literal | Whole | Text | Items | Fields

Fault: TypeAlias = Callable[[tuple[str | int, ...], ExpressionSyntaxError], None]
"""Called with the path of a text and the error of its expression; the error's offset counts in that text."""

Evaluate: TypeAlias = Callable[[Expression], Any]

Seal: TypeAlias = Callable[[Any], Any]
"""Called with a text that has expressions; returns a value in its place, or None to fill it in."""


def compile_template(value: Any, fault: Fault, path: tuple[str | int, ...] = ()) -> Template:
    """Compile every expression in the value. An invalid one is reported to `fault`, and its text stays literal."""
    match value:
        case str() if OPENING in value:
            try:
                return _compile_text(value)
            except ExpressionSyntaxError as error:
                fault(path, error)
                return Literal(value)
        case Mapping():
            fields = tuple((key, compile_template(each, fault, (*path, key))) for key, each in value.items())
            literals = {key: each.value for key, each in fields if type(each) is Literal}
            return Literal(literals) if len(literals) == len(fields) else Fields(fields)
        case list() | tuple():
            items = tuple(compile_template(each, fault, (*path, number)) for number, each in enumerate(value))
            values = [each.value for each in items if type(each) is Literal]
            return Literal(values) if len(values) == len(items) else Items(items)
        case _:
            return Literal(value)


def _compile_text(text: str) -> Template:
    parts: list[str | Expression] = []
    at = 0
    while (opening := text.find(OPENING, at)) >= 0:
        if opening > 0 and text[opening - 1] == "\\":
            parts.append(text[at : opening - 1] + OPENING)
            at = opening + len(OPENING)
            continue
        if opening > at:
            parts.append(text[at:opening])
        start = opening + len(OPENING)
        end = _end_of_expression(text, start)
        parts.append(_compile_part(text, start, end))
        at = end + len(CLOSING)
    if at < len(text):
        parts.append(text[at:])
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return Whole(parts[0])
    if all(isinstance(part, str) for part in parts):
        return Literal("".join(map(str, parts)))
    return Text(tuple(parts))


def _compile_part(text: str, start: int, end: int) -> Expression:
    inside = text[start:end]
    lead = len(inside) - len(inside.lstrip())
    try:
        return compile_expression(inside.strip())
    except ExpressionSyntaxError as error:
        raise ExpressionSyntaxError(str(error), start + lead + error.offset) from None


def _end_of_expression(text: str, start: int) -> int:
    """Return the index of the closing braces; braces and quotes inside the expression belong to it."""
    depth, at = 0, start
    while at < len(text):
        character = text[at]
        if character in "'\"`":
            at = _end_of_quote(text, at)
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                if text.startswith(CLOSING, at):
                    return at
                raise ExpressionSyntaxError("a single } closes nothing", at)
            depth -= 1
        at += 1
    raise ExpressionSyntaxError("{{ is never closed by }}", start - len(OPENING))


def _end_of_quote(text: str, at: int) -> int:
    quote, end = text[at], at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise ExpressionSyntaxError(f"{quote} is never closed", at)
    return end


def expressions_of(template: Template) -> Iterator[Expression]:
    """Yield every expression of the template."""
    match template:
        case Whole(expression=expression):
            yield expression
        case Text(parts=parts):
            yield from (part for part in parts if isinstance(part, Expression))
        case Items(items=items):
            for item in items:
                yield from expressions_of(item)
        case Fields(fields=fields):
            for _, field in fields:
                yield from expressions_of(field)
        case Literal():
            return


def fill(template: Template, evaluate: Evaluate, seal: Seal | None = None) -> Any:
    """Return the value with its expressions evaluated, or with what `seal` returns for a text.

    Raises:
        ValueError: an expression beside other text gives null or a value without a text, or the text is too large.
    """
    match template:
        case Literal(value=value):  # a copy, because user code may change it in place and the template is shared
            return copy.deepcopy(value) if isinstance(value, list | dict) else value
        case Whole() | Text() if seal is not None and (sealed := seal(template)) is not None:
            return sealed
        case Whole(expression=expression):
            return evaluate(expression)
        case Text(parts=parts):
            texts = [part if isinstance(part, str) else _as_text(part, evaluate(part)) for part in parts]
            Budget().require(sum(map(len, texts)))
            return "".join(texts)
        case Items(items=items):
            return [fill(item, evaluate, seal) for item in items]
        case Fields(fields=fields):
            return {key: fill(field, evaluate, seal) for key, field in fields}


def is_repeating_template(template: Template) -> bool:
    """Return True if the filled value may contain one value of the context more than once."""
    return overlap(path for expression in expressions_of(template) for path in set(expression.paths))


def _as_text(expression: Expression, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise ValueError(f"{expression.text!r} gives null, which has no text; write default({expression.text}, 'text')")
    try:
        text = text_encoder().encode(_require_text_form(value)).decode()
        # A time is a JSON string; its quotes do not belong in the text.
        return msgspec.json.decode(text, type=str) if text.startswith('"') else text
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise ValueError(f"{expression.text!r} gives {describe(value)}, which has no text") from None


def template_text(template: Template) -> str:
    """Return the source of a template that is one text."""
    match template:
        case Whole(expression=expression):
            return f"{{{{ {expression.text} }}}}"
        case Text(parts=parts):
            return "".join(part if isinstance(part, str) else f"{{{{ {part.text} }}}}" for part in parts)
        case Literal(value=str() as text):
            return text
        case _:
            raise TypeError(f"a {type(template).__name__} is not a text")


def _require_text_form(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview) or (isinstance(value, float) and isnan(value)):
        raise TypeError("bytes and NaN have no text")
    return value
