"""The syntax of expressions: JMESPath, without what its library lets pass although it means nothing.

A missing comma, a literal between backquotes that is no JSON, an object with the same key twice and a ``&`` where
nothing takes one are errors here, each with its place.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final, NoReturn

Tree = dict[str, Any]
"""A node of JMESPath's syntax tree: ``type``, ``children``, and ``value`` where it has one."""

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


def read_json(text: str) -> Any:
    """Return what the JSON says.

    Raises:
        ValueError: it is no JSON; NaN and Infinity are none.
    """
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


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
