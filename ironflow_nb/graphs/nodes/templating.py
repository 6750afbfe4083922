"""Rendering of untrusted Jinja templates: no files, no attributes that lead out, and bounds on the work."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ironflow_nb.graphs.language.budget import Budget, BudgetExceeded, monotonic

MOST_CHARACTERS: Final = 5_000_000
"""The longest rendered text, and the longest text or list that a template may make."""

MOST_ROUNDS: Final = 200_000
"""The most rounds of all loops of one rendering together."""

MOST_WIDTH: Final = 1_000
"""The largest width to which filters and formats pad or indent."""

LONGEST_S: Final = 60.0

_NONDETERMINISTIC: Final = ("random",)

_NARROW: Final = frozenset({"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"})
"""Filters whose numbers are widths."""

_QUICK: Final = frozenset({"abs", "attr", "count", "d", "default", "first", "float", "int", "last", "length", "round"})
"""Filters whose time does not depend on the size of their value."""

_METHODS: Final = frozenset({
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal",
    "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "lower",
    "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit",
    "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "decode", "is_integer",
})  # fmt: skip
"""The methods of texts, bytes and numbers that templates may call. Others pad, or multiply their value."""

_WIDTHS: Final = re.compile(r"[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")


class Unrenderable(ValueError):
    """A template can't be rendered; the message goes on after "the template"."""


def render_template(text: str, values: Mapping[str, Any], *, is_escaping: bool = False) -> str:
    """Return the text of the template with the values.

    Raises:
        Unrenderable: it is no template, reads a name that does not exist, or does too much work.
    """
    environment = _BoundedText(is_escaping)
    try:
        return "".join(_bounded(environment.from_string(text).generate(dict(values))))
    except Unrenderable:
        raise
    except BudgetExceeded as error:
        raise Unrenderable(f"is too much work: {error}") from None
    except TemplateSyntaxError as error:
        raise Unrenderable(f"can't be read, line {error.lineno}: {error.message}") from None
    except TemplateError as error:
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


def _own_call(name: str, *arguments: nodes.Expr) -> nodes.Expr:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


def _count_all(values: list[nodes.Expr]) -> list[nodes.Expr]:
    return [_own_call("kept", value) for value in values]


class _BoundedText(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, is_escaping: bool) -> None:  # noqa: FBT001 -- the one option that a graph has
        super().__init__(autoescape=is_escaping, undefined=StrictUndefined, keep_trailing_newline=True)
        self.n_rounds = 0
        self.budget = Budget()
        self.until_s = monotonic() + LONGEST_S
        self.filters = {
            name: self.guarded(name, function)
            for name, function in self.filters.items()
            if name not in _NONDETERMINISTIC
        }
        self.filters["kept"] = self.kept
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace", "joiner", "cycler")}

    # -- what is counted -----------------------------------------------------------------------------------------

    def one_more(self) -> None:
        self.n_rounds += 1
        if self.n_rounds > MOST_ROUNDS:
            raise Unrenderable(f"goes round its loops more than {MOST_ROUNDS} times")
        if monotonic() > self.until_s:
            raise Unrenderable(f"takes longer than {LONGEST_S:g} s")

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.one_more()
            yield self.kept(item)

    def kept(self, value: Any) -> Any:
        """Count the value and return it: a text each time, a list or mapping once, with its items."""
        if isinstance(value, str | bytes | list | tuple | dict):
            is_known = self.budget.is_measured(value)
            size = self.budget.measure(value)
            if size > MOST_CHARACTERS:
                raise Unrenderable(f"makes something of more than {MOST_CHARACTERS} characters or items")
            if not is_known:
                self.budget.make(size)
        return value

    def guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        is_narrow, has_context = name in _NARROW, hasattr(function, "jinja_pass_arg")

        @functools.wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Any:
            # A filter may return a generator, which the next filter would exhaust.
            given = [list(each) if isinstance(each, GeneratorType) else each for each in arguments]
            options = [*given[1 + has_context :], *named.values()]
            if is_narrow and any(type(each) is int and abs(each) > MOST_WIDTH for each in options):
                raise Unrenderable(f"pads or indents by more than {MOST_WIDTH}")
            size = sum(self.budget.measure(self.kept(each)) for each in (*given[has_context:], *named.values()))
            self.budget.spend(1 if name in _QUICK else 1 + size)
            _check_filter(name, given[has_context], given[1 + has_context :], named)
            made = function(*given, **named)
            return self.counted(made) if isinstance(made, GeneratorType) else self.kept(made)

        return guarded

    # -- what is written -----------------------------------------------------------------------------------------

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: Any = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = _own_call("counted", loop.iter)
        for again in tree.find_all((nodes.Macro, nodes.CallBlock, nodes.For)):  # what may call itself
            again.body.insert(0, nodes.ExprStmt(_own_call("one_more")))
        for assigned in tree.find_all(nodes.Assign):
            assigned.node = _own_call("kept", assigned.node)
        for block in tree.find_all(nodes.AssignBlock):
            block.filter = nodes.Filter(block.filter, "kept", [], [], None, None)
        for inner in tree.find_all(nodes.With):
            inner.values = _count_all(inner.values)
        for joined in tree.find_all((nodes.Concat, nodes.Output)):
            joined.nodes = _count_all(joined.nodes)
        return tree.set_environment(self)  # type: ignore[no-any-return]

    # -- what is done --------------------------------------------------------------------------------------------

    def wrap_str_format(self, value: Any) -> None:
        """Leave ``format`` of texts to `is_safe_attribute`: it pads without bounds."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        is_scalar = isinstance(obj, str | bytes | bytearray | int | float)
        return not (is_scalar and attr not in _METHODS) and super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        of = getattr(obj, "__self__", None)
        if of is self:
            return obj(*arguments)  # without the context that Jinja adds
        for each in (*arguments, *named.values()):
            self.kept(each)
        if isinstance(of, str):
            _check_filter(obj.__name__, *_as_filter(obj.__name__, of, arguments), named)
        return super().call(context, obj, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)


def _as_filter(name: str, of: str, arguments: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """Return value and arguments of a method in the order of the filter of its name."""
    return (arguments[0], [of]) if name == "join" and arguments else (of, list(arguments))


def _check_filter(name: str, value: Any, given: list[Any], named: Mapping[str, Any]) -> None:
    """Refuse a filter that would repeat its arguments until the result is too large."""
    if name == "sum" and not isinstance((*given[1:], named.get("start", 0))[0], int | float):
        raise Unrenderable("sums what are no numbers")
    texts = [each for each in (*given, *named.values()) if isinstance(each, str)]
    match name:
        case "format" | "%":
            _check_format(str(value), [*given, *named.values()])
            return
        case "replace" if len(texts) >= 2 and isinstance(value, str):
            n_times, longest = (value.count(texts[0]) if texts[0] else len(value) + 1), len(texts[1])
        case "join" if isinstance(value, list | tuple | str | dict):
            n_times, longest = len(value), max(map(len, texts), default=0)
        case "indent" if isinstance(value, str):
            n_times, longest = value.count("\n") + 1, max(map(len, texts), default=0)
        case "wordwrap" | "urlize" if isinstance(value, str):
            n_times, longest = len(value), sum(map(len, texts))
        case _:
            return
    if n_times * longest > MOST_CHARACTERS:
        raise Unrenderable(f"makes something of more than {MOST_CHARACTERS} characters or items")


def _check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be too large."""
    lengths = [len(each) for each in (left, right) if hasattr(each, "__len__")]
    numbers = [each for each in (left, right) if isinstance(each, int)]
    if isinstance(left, bytes | bytearray) or isinstance(right, bytes | bytearray):
        raise Unrenderable("reckons with bytes")
    if operator == "%" and isinstance(left, str):
        many = right if isinstance(right, tuple) else right.values() if isinstance(right, Mapping) else [right]
        _check_format(left, list(many))
    elif operator == "+" and sum(lengths) > MOST_CHARACTERS:
        raise Unrenderable(f"makes something of more than {MOST_CHARACTERS} characters or items")
    elif operator == "*" and lengths and numbers and lengths[0] * numbers[0] > MOST_CHARACTERS:
        raise Unrenderable(f"multiplies something to more than {MOST_CHARACTERS} parts")
    elif operator in {"*", "**"} and not lengths:
        is_large = any(abs(each) > 10**12 for each in numbers)
        if is_large or (operator == "**" and isinstance(right, int) and abs(right) > MOST_WIDTH):
            raise Unrenderable("reckons with numbers that are too large")


def _check_format(template: str, values: list[Any]) -> None:
    """Refuse a format that pads far, or repeats something long."""
    if any(width == "*" or (width and int(width[:9]) >= MOST_WIDTH) for width in _widths(template)):
        raise Unrenderable("formats with a width of more than 3 digits")
    longest = max((len(each) if isinstance(each, str | list | tuple | dict) else 0 for each in values), default=0)
    if template.count("%") * longest > MOST_CHARACTERS:
        raise Unrenderable(f"makes something of more than {MOST_CHARACTERS} characters or items")


def _widths(template: str) -> Iterator[str]:
    """Yield the widths and precisions of a format as `printf` has it; a name in brackets may have brackets in it."""
    at = template.find("%")
    while 0 <= at < len(template):
        at += 1
        if template.startswith("(", at):
            depth = 0
            while at < len(template):
                depth += {"(": 1, ")": -1}.get(template[at], 0)
                at += 1
                if depth == 0:
                    break
        found = _WIDTHS.match(template, at)
        assert found is not None  # it may be empty
        yield from (each or "" for each in found.groups())
        at = template.find("%", found.end() + 1)
