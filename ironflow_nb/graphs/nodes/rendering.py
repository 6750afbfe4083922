"""Rendering Jinja templates that nobody vouches for: no files, no attributes that lead out, and bounds on the work."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

MOST_CHARACTERS: Final = 5_000_000
"""A rendered text is not longer, and neither is a text or list that a template multiplies."""

MOST_ROUNDS: Final = 200_000
"""All loops of one rendering together go round no more often."""

MOST_WIDTH: Final = 1_000
"""Filters neither pad nor indent further."""

_WIDE: Final = ("batch", "center", "indent", "round", "slice", "tojson", "wordwrap")
_PADDING: Final = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
_VARYING: Final = ("random",)
_WIDTH_IN_FORMAT: Final = re.compile(r"%[^a-zA-Z%]*(\*|\d{4})")


class Unrenderable(ValueError):
    """A template can't be rendered; the message goes on after "the template"."""


def render(text: str, values: Mapping[str, Any], *, is_escaping: bool = False) -> str:
    """Return the text that the template makes of the values.

    Raises:
        Unrenderable: it is no template, looks at something that is not there, or makes too much.
    """
    import jinja2  # noqa: PLC0415 -- only templates need it

    environment = _environment()(is_escaping)
    try:
        return "".join(_bounded(environment.from_string(text).generate(dict(values))))
    except Unrenderable:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise Unrenderable(f"can't be read, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        raise Unrenderable(f"can't be rendered: {error.message}") from None
    except RecursionError:
        raise Unrenderable("is nested too deep") from None
    except Exception as error:  # noqa: BLE001 -- what a template does with its values can fail in any way
        raise Unrenderable(f"can't be rendered: {type(error).__name__}: {error}") from None


def _bounded(parts: Iterable[str]) -> Iterator[str]:
    n_characters = 0
    for part in parts:
        n_characters += len(part)
        if n_characters > MOST_CHARACTERS:
            raise Unrenderable(f"makes more than {MOST_CHARACTERS} characters")
        yield part


@functools.cache
def _environment() -> Any:
    from jinja2 import StrictUndefined, nodes  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    def _own_call(name: str, *arguments: nodes.Expr) -> nodes.Expr:
        return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)

    class _Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def __init__(self, is_escaping: bool) -> None:  # noqa: FBT001 -- the one option that a graph has
            super().__init__(autoescape=is_escaping, undefined=StrictUndefined, keep_trailing_newline=True)
            self.n_rounds = 0
            for name in _WIDE:
                self.filters[name] = _narrow(self.filters[name])
            self.filters["format"] = _formatted(self.filters["format"])
            self.filters["kept"] = self.kept
            for name in _VARYING:
                del self.filters[name]
            self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace", "joiner", "cycler")}

        def one_more(self) -> None:
            self.n_rounds += 1
            if self.n_rounds > MOST_ROUNDS:
                raise Unrenderable(f"goes round its loops more than {MOST_ROUNDS} times")

        def counted(self, items: Iterable[Any]) -> Iterator[Any]:
            for item in items:
                self.one_more()
                yield item

        def kept(self, value: Any) -> Any:
            if isinstance(value, str | list | tuple) and len(value) > MOST_CHARACTERS:
                raise Unrenderable(f"makes something of more than {MOST_CHARACTERS} characters or items")
            return value

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree: Any = super()._parse(source, name, filename)
            for loop in tree.find_all(nodes.For):
                loop.iter = _own_call("counted", loop.iter)
            for again in tree.find_all((nodes.Macro, nodes.CallBlock, nodes.For)):  # what may call itself
                again.body.insert(0, nodes.ExprStmt(_own_call("one_more")))
            for kept in tree.find_all(nodes.Assign):
                kept.node = _own_call("kept", kept.node)
            for block in tree.find_all(nodes.AssignBlock):
                block.filter = nodes.Filter(block.filter, "kept", [], [], None, None)
            return tree.set_environment(self)  # type: ignore[no-any-return]

        def wrap_str_format(self, value: Any) -> None:
            """Leave ``format`` of texts to `is_safe_attribute`: it pads without bounds."""

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            is_padding = isinstance(obj, str) and attr in _PADDING
            return not is_padding and super().is_safe_attribute(obj, attr, value)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _bound(operator, left, right)
            return super().call_binop(context, operator, left, right)

    return _Bounded


def _bound(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation that makes very much of very little."""
    if operator == "**" or (operator == "*" and isinstance(left, int) and isinstance(right, int)):
        is_large = any(isinstance(each, int) and abs(each) > 10**12 for each in (left, right))
        if is_large or (operator == "**" and isinstance(right, int) and right > MOST_WIDTH):
            raise Unrenderable("reckons with numbers that are too large")
    elif operator == "*":
        lengths = [each if isinstance(each, int) else len(each) for each in (left, right) if _has_length(each)]
        if len(lengths) == 2 and lengths[0] * lengths[1] > MOST_CHARACTERS:
            raise Unrenderable(f"multiplies something to more than {MOST_CHARACTERS} parts")
    elif isinstance(left, str) and _WIDTH_IN_FORMAT.search(left):
        raise Unrenderable("formats with a width of more than 3 digits")


def _has_length(value: Any) -> bool:
    return isinstance(value, int | str | list | tuple)


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def narrow(*arguments: Any, **named: Any) -> Any:
        numbers = [each for each in (*arguments[1:], *named.values()) if type(each) is int]
        if any(abs(each) > MOST_WIDTH for each in numbers):
            raise Unrenderable(f"pads or indents by more than {MOST_WIDTH}")
        return function(*arguments, **named)

    return narrow


def _formatted(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def formatted(template: Any, *arguments: Any, **named: Any) -> Any:
        if _WIDTH_IN_FORMAT.search(str(template)):
            raise Unrenderable("formats with a width of more than 3 digits")
        return function(template, *arguments, **named)

    return formatted
