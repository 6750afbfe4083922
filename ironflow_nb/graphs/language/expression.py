"""JMESPath expressions: parsed strictly and compiled once, with the names that they use.

The parser refuses texts that the library accepts without meaning: a missing comma, a literal between backquotes that
is not JSON, an object with the same key twice, and a ``&`` where no function takes one. Each error has its offset. It
adds arithmetic and plain numbers (``price * 1.19``) where the library knows only errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec
from jmespath.exceptions import JMESPathError, LexerError, ParseError
from jmespath.lexer import Lexer
from jmespath.parser import ParsedResult, Parser

from ironflow_nb.graphs.language.budget import FieldPath, is_repeating, paths_of, weigh
from ironflow_nb.graphs.language.data import Tree, closest, read_json
from ironflow_nb.graphs.language.functions import EXTRA_FUNCTIONS, known_functions

MOST_SHOWN: Final = 200
"""Messages show at most this many characters of an expression."""


_BELOW_FLATTEN: Final = 8
"""A binding power below that of fields, indexes and projections, and above that of comparisons."""


class ExpressionSyntaxError(ValueError):
    """An expression can't be compiled; `offset` is the character in its text, counted from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def parse_expression(text: str) -> Tree:
    """Return the syntax tree of the text; functions, objects and ``&`` have their offset as ``start``.

    Raises:
        ExpressionSyntaxError: the text is not valid JMESPath.
    """
    if not text.strip():
        raise ExpressionSyntaxError("the expression is empty", 0)
    shown = repr(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}...")
    try:
        parsed: Tree = _StrictParser()._do_parse(text).parsed  # noqa: SLF001 -- without the shared cache of the library
    except LexerError as error:
        raise ExpressionSyntaxError(f"{error.message} in {shown}", error.lexer_position) from None
    except ParseError as error:
        token = "the end" if error.token_type in {None, "EOF"} else repr(str(error.token_value))
        offset = min(error.lex_position, len(text))
        raise ExpressionSyntaxError(f"{token} was not expected in {shown}", offset) from None
    except RecursionError:
        raise ExpressionSyntaxError(f"{shown} is nested too deep", 0) from None
    except ExpressionSyntaxError:
        raise
    except (JMESPathError, ValueError) as error:  # for example a number with thousands of digits
        raise ExpressionSyntaxError(f"{error} in {shown}", 0) from None
    return parsed


_OPERAND_ENDS: Final = frozenset(
    {
        "unquoted_identifier",
        "quoted_identifier",
        "literal",
        "number",
        "current",
        "rparen",
        "rbracket",
        "rbrace",
        "flatten",
    }
)
"""After one of these tokens ``*`` multiplies and ``-`` subtracts; elsewhere they are a projection and a sign."""


class _Lexer(Lexer):  # type: ignore[misc]
    SIMPLE_TOKENS = Lexer.SIMPLE_TOKENS | {"+": "plus", "-": "minus", "/": "divide", "%": "modulo"}

    def tokenize(self, expression: str) -> list[Tree]:
        made: list[Tree] = []
        for token in super().tokenize(expression):
            is_behind_operand = bool(made) and made[-1]["type"] in _OPERAND_ENDS
            if token["type"] == "star" and is_behind_operand:
                made.append(token | {"type": "multiply"})
            elif token["type"] == "number":
                made.append(_number_token(token, made, expression))
            else:
                made.append(token)
        return made

    def _consume_literal(self) -> Tree:
        start = self._position
        lexeme = self._consume_until("`").replace("\\`", "`")
        try:
            value = read_json(lexeme)
        except ValueError:
            message = "a literal between backquotes must be JSON; write a text as '...'"
            raise LexerError(start, lexeme, message) from None
        return {"type": "literal", "value": value, "start": start, "end": self._position}


def _number_token(token: Tree, before: list[Tree], expression: str) -> Tree:
    """Return the token of a whole number, with its sign, or of a number with a fraction; remove their parts."""
    kinds = ["", "", *(each["type"] for each in before)][-2:]
    is_adjacent = bool(before) and before[-1]["end"] == token["start"]
    if kinds[1] == "minus" and is_adjacent and kinds[0] not in _OPERAND_ENDS:
        return token | {"value": -token["value"], "start": before.pop()["start"]}
    if kinds == ["number", "dot"] and is_adjacent and before[-2]["end"] == before[-1]["start"]:
        before.pop()
        start = before.pop()["start"]
        return token | {"type": "literal", "value": float(expression[start : token["end"]]), "start": start}
    return token


class _StrictParser(Parser):  # type: ignore[misc]
    # Between comparisons and flatten, so arithmetic ends a projection.
    BINDING_POWER = Parser.BINDING_POWER | {"plus": 6, "minus": 6, "multiply": 7, "divide": 7, "modulo": 7}

    def _parse(self, expression: str) -> Any:
        self._tokens = _Lexer().tokenize(expression)
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
        # The library reads !a.b as (!a).b. Here ! applies to everything up to the next operator.
        return {"type": "not_expression", "children": [self._expression(_BELOW_FLATTEN)]}

    def _token_nud_number(self, token: Tree) -> Tree:
        return super()._token_nud_literal(token)  # type: ignore[no-any-return]

    def _token_nud_minus(self, token: Tree) -> Tree:
        zero = {"type": "literal", "value": 0, "children": []}
        return {"type": "arithmetic", "value": "-", "children": [zero, self._expression(_BELOW_FLATTEN)]}

    def _token_nud_lbracket(self, token: Tree) -> Tree:
        is_list = self._current_token() == "number" and self._lookahead(1) not in {"rbracket", "colon"}
        if is_list:
            return self._parse_multi_select_list()  # type: ignore[no-any-return]
        return super()._token_nud_lbracket(token)  # type: ignore[no-any-return]

    def _arithmetic(self, left: Tree) -> Tree:
        operator = self._lookahead_token(-1)
        right = self._expression(self.BINDING_POWER[operator["type"]])
        return {"type": "arithmetic", "value": operator["value"], "children": [left, right]}

    _token_led_plus = _token_led_minus = _token_led_multiply = _token_led_divide = _token_led_modulo = _arithmetic

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
                raise ExpressionSyntaxError(f"the key {key['value']!r} is repeated", key["start"])
            self._match("colon")
            value = self._expression(0)
            pairs[key["value"]] = {"type": "key_val_pair", "children": [value], "value": key["value"]}
            if self._current_token() != "comma":
                break
            self._match("comma")
        self._match("rbrace")
        return {"type": "multi_select_dict", "children": list(pairs.values())}


WHOLE_CONTEXT: Final = "@"
"""Stands in `Expression.names` if the expression uses the whole context, so every visible name."""

NONDETERMINISTIC: Final = frozenset({"now", "uuid"})

LENIENT_FUNCTIONS: Final = frozenset({"default", "coalesce", "not_null", "truthy"})
"""Functions whose arguments may be missing; a missing argument is null."""


MOST_DEPTH: Final = 100
"""Nesting bound of expressions. Without it the depth of the caller's stack would decide what evaluates."""


class Expression(msgspec.Struct, frozen=True):
    """A compiled expression.

    `names` are the names that it takes from its context: ids of nodes, ``input``, ``env``, ``secrets``, loop variables.
    `fields` are pairs of such a name and a field of it, where the text names the field. `paths` are the paths in the
    context that its result can come from. `is_repeating` says that the result may contain one value more than once.
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
        ExpressionSyntaxError: the text is not valid JMESPath, is nested too deep, or calls an unknown function or one
            with a wrong number of arguments.
    """
    tree = parse_expression(text)
    _check_depth(tree, text)
    functions = set(_check_functions(tree))
    context_nodes = list(_context_nodes(tree))
    weigh(tree)
    return Expression(
        text=text,
        tree=tree,
        names=frozenset(_names(context_nodes)),
        fields=frozenset(_fields(context_nodes)),
        is_nondeterministic=bool(functions & NONDETERMINISTIC),
        paths=paths_of(tree),
        is_repeating=any(map(is_repeating, _walk(tree))),
    )


# -- checks --------------------------------------------------------------------------------------------


def _check_depth(tree: Tree, text: str) -> None:
    level, depth = [tree], 0
    while level:
        level = [child for node in level for child in _children(node)]
        depth += 1
        if depth > MOST_DEPTH:
            raise ExpressionSyntaxError(f"{text[:MOST_SHOWN]!r} is nested deeper than {MOST_DEPTH}", 0)


def _check_functions(tree: Tree) -> Iterator[str]:
    """Yield the name of every called function; raise if one is called wrongly."""
    if tree["type"] == "expref":
        raise _misplaced_reference(tree)
    for node in _walk(tree):
        if node["type"] == "function_expression":
            _check_call(node)
            yield node["value"]
        else:
            for child in _children(node):
                if child["type"] == "expref":
                    raise _misplaced_reference(child)


def _check_call(node: Tree) -> None:
    name, arguments, start = node["value"], node["children"], node["start"]
    known = known_functions().get(name)
    if known is None:
        raise ExpressionSyntaxError(f"there is no function {name}(){_function_suggestion(name)}", start)
    if not known.takes(len(arguments)):
        raise ExpressionSyntaxError(f"{name}() takes {known.arity}, not {len(arguments)}", start)
    for number, argument in enumerate(arguments):
        is_wanted = number in known.expressions
        if argument["type"] == "expref" and not is_wanted:
            raise _misplaced_reference(argument)
        if is_wanted and argument["type"] != "expref":
            wanted = f"{name}() takes an expression as argument {number + 1}: a field with & before it"
            raise ExpressionSyntaxError(wanted, start)


def _misplaced_reference(expression: Tree) -> ExpressionSyntaxError:
    takers = ", ".join(f"{name}()" for name, known in sorted(known_functions().items()) if known.expressions)
    return ExpressionSyntaxError(f"& stands before an argument of {takers}, and nowhere else", expression["start"])


def _function_suggestion(name: str) -> str:
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


# -- names from the context ------------------------------------------------------------------------------

# The second child of these nodes, and a filter's third, is evaluated on the result of the first, not on the context.
_CHAINS: Final = frozenset(
    {"subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection"}
)


def _context_nodes(tree: Tree) -> Iterator[Tree]:
    """Yield the nodes that are evaluated on the whole context, not on the result of another node."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if node["type"] in _CHAINS:
            left.append(node["children"][0])
        elif node["type"] != "expref":  # which is evaluated on the items of another argument
            left += _children(node)


def _names(context_nodes: Iterable[Tree]) -> Iterator[str]:
    for node in context_nodes:
        if node["type"] == "field":
            yield node["value"]
        elif node["type"] in {"current", "identity", "index", "slice"}:
            yield WHOLE_CONTEXT


def _fields(context_nodes: Iterable[Tree]) -> Iterator[tuple[str, str]]:
    for node in context_nodes:
        found = field_of(node)
        if found is not None:
            yield found


def field_of(node: Tree) -> tuple[str, str] | None:
    """Return ``(a, b)`` if the node begins with a field of a name, as ``a.b`` and ``a.b[0].c`` do; else None."""
    if node["type"] != "subexpression":
        return None
    first, second = node["children"][:2]
    while second["type"] in _CHAINS:
        second = second["children"][0]
    return (first["value"], second["value"]) if first["type"] == second["type"] == "field" else None
