"""JMESPath expressions: compiled once, with what they refer to known before anything runs.

What an expression may have in it more than once: known from its text, so that most results need no look.

An object or list in an expression holds something twice only if two of its parts come from the same place, or one from
inside of the other. Where no text says that, what is made is not larger than what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, Final

import msgspec

from ironflow_nb.graphs.language.budget import FieldPath, is_repeating, paths_of, weigh
from ironflow_nb.graphs.language.data import Tree, closest, read_json
from ironflow_nb.graphs.language.functions import EXTRA_FUNCTIONS, known_functions

SHOWN: Final = 200
"""Of a longer expression messages show the beginning."""


_BELOW_FLATTEN: Final = 8
"""Binds looser than everything that goes on into a value, and tighter than comparisons."""


class ExpressionSyntaxError(ValueError):
    """An expression can't be compiled; `offset` is where in its text, from zero."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def parse(text: str) -> Tree:
    """Return the syntax tree of the text; functions, objects and ``&`` have a ``start``, their place in it.

    Raises:
        ExpressionSyntaxError: it is no JMESPath.
    """
    from jmespath.exceptions import JMESPathError, LexerError, ParseError

    if not text.strip():
        raise ExpressionSyntaxError("the expression is empty", 0)
    shown = repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
    try:
        parsed: Tree = _parser()()._do_parse(text).parsed  # noqa: SLF001 -- without a cache that others share
    except LexerError as error:
        raise ExpressionSyntaxError(f"{error.message} in {shown}", error.lexer_position) from None
    except ParseError as error:
        met = "the end" if error.token_type in {None, "EOF"} else repr(str(error.token_value))
        place = min(error.lex_position, len(text))
        raise ExpressionSyntaxError(f"{met} was not expected in {shown}", place) from None
    except RecursionError:
        raise ExpressionSyntaxError(f"{shown} is nested too deep", 0) from None
    except ExpressionSyntaxError:
        raise
    except (JMESPathError, ValueError) as error:  # a number of thousands of digits, for one
        raise ExpressionSyntaxError(f"{error} in {shown}", 0) from None
    return parsed


@cache
def _parser() -> Any:
    from jmespath.exceptions import LexerError, ParseError
    from jmespath.lexer import Lexer
    from jmespath.parser import ParsedResult, Parser

    class _Lexer(Lexer):  # type: ignore[misc]
        def _consume_literal(self) -> Tree:
            start = self._position
            lexeme = self._consume_until("`").replace("\\`", "`")
            try:
                value = read_json(lexeme)
            except ValueError:
                message = "what stands between backquotes is JSON, and a text stands between '...'"
                raise LexerError(start, lexeme, message) from None
            return {"type": "literal", "value": value, "start": start, "end": self._position}

    class _StrictParser(Parser):  # type: ignore[misc]
        def _parse(self, expression: str) -> Any:
            self._tokens = list(_Lexer().tokenize(expression))
            self._index = 0
            parsed = self._expression(binding_power=0)
            if self._current_token() != "eof":
                self._raise_parse_error_for_token(self._lookahead_token(0), "unexpected token")
            return ParsedResult(expression, parsed)

        def _token_nud_quoted_identifier(self, token: Tree) -> Tree:
            if self._current_token() == "lparen":
                raise ParseError(token["start"], token["value"], token["type"])
            return super()._token_nud_quoted_identifier(token)  # type: ignore[no-any-return]

        def _token_nud_not(self, _token: Tree) -> Tree:
            # The library reads !a.b as (!a).b, which nobody means: here ! takes all up to the next operator.
            return {"type": "not_expression", "children": [self._expression(_BELOW_FLATTEN)]}

        def _token_nud_expref(self, token: Tree) -> Tree:
            return super()._token_nud_expref(token) | {"start": token["start"]}  # type: ignore[no-any-return]

        def _token_led_lparen(self, left: Tree) -> Tree:
            name = self._lookahead_token(-2)
            if left["type"] != "field" or name["type"] != "unquoted_identifier":
                raise ParseError(self._lookahead_token(-1)["start"], "(", "lparen")
            arguments = []
            while self._current_token() != "rparen":
                arguments.append(self._expression())
                if self._current_token() == "rparen":
                    break
                self._match("comma")
                if self._current_token() == "rparen":
                    self._raise_parse_error_for_token(self._lookahead_token(0), "a comma before it")
            self._match("rparen")
            called = {"type": "function_expression", "children": arguments, "value": left["value"]}
            return called | {"start": name["start"]}

        def _parse_multi_select_hash(self) -> Tree:
            pairs: dict[str, Tree] = {}
            while True:
                key = self._lookahead_token(0)
                self._match_multiple_tokens(["quoted_identifier", "unquoted_identifier"])
                if key["value"] in pairs:
                    raise ExpressionSyntaxError(f"the key {key['value']!r} is there twice", key["start"])
                self._match("colon")
                value = self._expression(0)
                pairs[key["value"]] = {"type": "key_val_pair", "children": [value], "value": key["value"]}
                if self._current_token() != "comma":
                    break
                self._match("comma")
            self._match("rbrace")
            return {"type": "multi_select_dict", "children": list(pairs.values())}

    return _StrictParser


WHOLE_CONTEXT: Final = "@"
"""Among the names of an expression: it takes the whole context, so everything that can be seen."""

NONDETERMINISTIC: Final = frozenset({"now", "uuid"})

LENIENT_FUNCTIONS: Final = frozenset({"default", "coalesce", "not_null"})
"""Functions for what may be missing: their arguments are null where nothing is found."""


MOST_DEPTH: Final = 100
"""An expression is not nested deeper: where the stack ends would depend on who evaluates it."""


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression.

    `names` are what it takes from its context: names of nodes, ``input``, ``env``, ``secrets``, loop variables.
    `fields` are pairs of a name and the field that is taken of it, where the text itself says which. `paths` are where
    in its context all that it can give comes from; what `is_repeating` may hold something of it more than once.
    """

    text: str
    tree: Tree
    names: frozenset[str]
    fields: frozenset[tuple[str, str]]
    is_nondeterministic: bool
    paths: tuple[FieldPath, ...]
    is_repeating: bool


@lru_cache(maxsize=8192)
def compile_expression(text: str) -> Expression:
    """Compile the text.

    Raises:
        ExpressionSyntaxError: it is no JMESPath, or calls a function that there is none of, or with too many or few
            arguments, or is nested too deep.
    """
    tree = parse(text)
    _check_depth(tree, text)
    functions = set(_check_functions(tree))
    looking = list(_of_context(tree))
    weigh(tree)
    return Expression(
        text=text,
        tree=tree,
        names=frozenset(_names(looking)),
        fields=frozenset(_fields(looking)),
        is_nondeterministic=bool(functions & NONDETERMINISTIC),
        paths=paths_of(tree),
        is_repeating=any(map(is_repeating, _walk(tree))),
    )


# -- what must not be --------------------------------------------------------------------------------------------


def _check_depth(tree: Tree, text: str) -> None:
    level, depth = [tree], 0
    while level:
        level = [child for node in level for child in _children(node)]
        depth += 1
        if depth > MOST_DEPTH:
            raise ExpressionSyntaxError(f"{text[:SHOWN]!r} is nested deeper than {MOST_DEPTH}", 0)


def _check_functions(tree: Tree) -> Iterator[str]:
    """Yield the name of every function that is called, and see that each gets what it takes."""
    if tree["type"] == "expref":
        raise _stray(tree)
    for node in _walk(tree):
        if node["type"] == "function_expression":
            _check_call(node)
            yield node["value"]
        else:
            for child in _children(node):
                if child["type"] == "expref":
                    raise _stray(child)


def _check_call(node: Tree) -> None:
    name, arguments, start = node["value"], node["children"], node["start"]
    known = known_functions().get(name)
    if known is None:
        raise ExpressionSyntaxError(f"there is no function {name}(){_near(name)}", start)
    if not known.takes(len(arguments)):
        raise ExpressionSyntaxError(f"{name}() takes {known.arity}, not {len(arguments)}", start)
    for number, argument in enumerate(arguments):
        is_wanted = number in known.expressions
        if argument["type"] == "expref" and not is_wanted:
            raise _stray(argument)
        if is_wanted and argument["type"] != "expref":
            wanted = f"{name}() takes an expression as argument {number + 1}: a field with & before it"
            raise ExpressionSyntaxError(wanted, start)


def _stray(expression: Tree) -> ExpressionSyntaxError:
    takers = ", ".join(f"{name}()" for name, known in sorted(known_functions().items()) if known.expressions)
    return ExpressionSyntaxError(f"& stands before an argument of {takers}, and nowhere else", expression["start"])


def _near(name: str) -> str:
    meant = closest(name, known_functions())
    return (
        f"; did you mean {meant}()?"
        if meant
        else f"; besides JMESPath's own there are: {', '.join(sorted(EXTRA_FUNCTIONS))}"
    )


def _children(node: Tree) -> list[Tree]:
    return [child for child in node.get("children", ()) if isinstance(child, dict)]


def _walk(tree: Tree) -> Iterator[Tree]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += reversed(_children(node))


# -- what is taken from the context ------------------------------------------------------------------------------

# What a node of these types does to its second child, and a filter's third: it looks at another value than the whole.
_LOOKING_ON: Final = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"}
)


def _of_context(tree: Tree) -> Iterator[Tree]:
    """Yield the parts that look at the whole context, and not at what another part has given."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if node["type"] in _LOOKING_ON:
            left.append(node["children"][0])
        elif node["type"] != "expref":  # which is applied to the elements of something else
            left += _children(node)


def _names(looking: Iterable[Tree]) -> Iterator[str]:
    for node in looking:
        if node["type"] == "field":
            yield node["value"]
        elif node["type"] in {"current", "identity", "index", "slice"}:
            yield WHOLE_CONTEXT


def _fields(looking: Iterable[Tree]) -> Iterator[tuple[str, str]]:
    for node in looking:
        found = field_of(node)
        if found is not None:
            yield found


def field_of(node: Tree) -> tuple[str, str] | None:
    """Return the name and the field that is taken of it, where that is how the node begins: ``a.b``, ``a.b[0].c``."""
    if node["type"] != "subexpression":
        return None
    first, second = node["children"][:2]
    while second["type"] in _LOOKING_ON:
        second = second["children"][0]
    return (first["value"], second["value"]) if first["type"] == second["type"] == "field" else None
