"""The texts of the functions in a file of Lua. Part of the process that runs Lua: it imports nothing of the package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
    (?P<comment>--\[(?P<level>=*)\[.*?\](?P=level)\]|--[^\n]*)
    |(?P<text>\[(?P<long>=*)\[.*?\](?P=long)\]|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>0[xX][\da-fA-F.pP+-]+|\d[\w.]*)
    |(?P<sign>\.\.\.|\.\.|::|[=~<>]=|\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = frozenset({"function", "do", "then", "repeat"})
KEYWORDS: Final = frozenset({
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
})  # fmt: skip
GLOBALS: Final = frozenset({
    "_G", "_VERSION", "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal",
    "rawget", "rawlen", "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "xpcall", "math", "string",
    "table", "utf8", "env", "log", "json_parse", "json_stringify", "json_array", "json_object", "json_null",
    "base64_encode", "base64_decode", "uuid4", "now_rfc3339", "now_unix_ms", "ctx", "self",
})  # fmt: skip
"""What code sees that is not defined in it."""


class Token(NamedTuple):
    """A name, keyword, sign, text or number with its place: the index of its first character, and its line from 1."""

    kind: str
    text: str
    start: int
    end: int
    line: int


def tokens_of(text: str) -> list[Token]:
    """Return the tokens of a text of Lua, without comments."""
    found, line, at = [], 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match["comment"] is None:
            kind = next(name for name in ("text", "name", "number", "sign") if match[name] is not None)
            found.append(Token(kind, match.group(), match.start(), match.end(), line))
    return found


def _end_of(tokens: list[Token], at: int) -> int | None:
    """Return the index of the token that ends the block which the token at that index opens."""
    depth = 0
    for number in range(at, len(tokens)):
        token = tokens[number]
        if token.kind != "name":
            continue
        if token.text in _OPENING:
            depth += 1
        elif token.text in {"end", "until", "elseif", "else"}:
            depth -= token.text != "else"
            if depth == 0:
                return number
    return None


class FunctionSources:
    """Finds the text of each function that a file hands over as a handler."""

    def __init__(self, text: str, sandbox: Any, name: str) -> None:
        self._text = text
        self._sandbox = sandbox
        self._name = name.encode()
        self._tokens = tokens_of(text)

    def describe(self, function: Any) -> dict[str, Any]:
        """Return text and line of the function.

        Raises:
            ValueError: it can't stand alone, or its text is not found.
        """
        name, line, last, captured = self._sandbox[b"function_info"](function)
        if name != self._name:
            raise ValueError("a function of the library is no handler; write function(ctx) ... end")
        if captured:
            raise ValueError(
                f"the function of line {line} uses {captured.decode()} of the file around it; it runs alone, so define "
                "that inside of it, or hand it over in ctx"
            )
        text = self._text_of(function, line, last)
        return {"source": text, "line": line}

    def _text_of(self, function: Any, line: int, last: int) -> str:
        found = list(dict.fromkeys(self._candidates(line, last)))
        if len(found) > 1:
            dump = self._sandbox[b"dump"](function)
            found = [each for each in found if self._dumped(each, line) == dump]
        if len(found) != 1:
            raise ValueError(f"there are several functions in line {line}; put each into lines of its own")
        return found[0]

    def _candidates(self, line: int, last: int) -> Iterator[str]:
        for number, token in enumerate(self._tokens):
            if token.kind == "name" and token.text == "function" and token.line == line:
                end = _end_of(self._tokens, number)
                after_name = next(each.start for each in self._tokens[number:] if each.text == "(")
                if end is not None and self._tokens[end].line == last:
                    yield f"function{self._text[after_name : self._tokens[end].end]}"

    def _dumped(self, text: str, line: int) -> Any:
        made = self._sandbox[b"load"](b"\n" * (line - 1) + b"return " + text.encode(), self._name)
        return None if isinstance(made, tuple) else self._sandbox[b"dump"](made())


def facts_of(text: str, *, takes_context: bool = True) -> dict[str, Any]:
    """Return what a code reads and gives, as far as its text tells.

    `ctx` are the fields of ctx that it reads, None if it uses ctx in another way than ``ctx.name``. `env` are the
    variables of the environment, None if a name is computed. `unknown` are names that nothing defines, with their
    lines. `returned` are the keys that it may write, None if they are computed; with `is_sure` it writes them all.

    Args:
        text: a function, or the text of a code.
        takes_context: the first parameter of the function is the context.
    """
    tokens = tokens_of(text)
    returned, is_sure = _returned(tokens)
    return {
        "ctx": _fields(tokens, _context_name(tokens) if takes_context else "ctx"),
        "env": _variables(tokens),
        "unknown": [(each.text, each.line) for each in _unknown(tokens)],
        "returned": returned,
        "is_sure": is_sure,
    }


def _fields(tokens: list[Token], context: str) -> list[str] | None:
    fields: dict[str, None] = {}
    for number, token in _uses(tokens):
        if token.text in {"ctx", context} and not (number == 2 and tokens[0].text == "function"):
            after = _after(tokens, number)
            name = after[1] if after[0] == "." else _literal(after[1]) if after[0] == "[" and after[2] == "]" else None
            if name is None or after[2] == "=":
                return None
            fields[name] = None
    return list(fields)


def _variables(tokens: list[Token]) -> list[str] | None:
    variables: dict[str, None] = {}
    for number, token in _uses(tokens):
        if token.text == "env":
            after = _after(tokens, number)
            name = _literal(after[1] if after[0] == "(" else after[0])
            if name is None:
                return None
            variables[name] = None
    return list(variables)


def _uses(tokens: list[Token]) -> Iterator[tuple[int, Token]]:
    """Yield the names that are no fields, with their indexes."""
    for number, token in enumerate(tokens):
        if token.kind == "name" and (number == 0 or tokens[number - 1].text not in {".", ":"}):
            yield number, token


def _after(tokens: list[Token], number: int) -> list[str]:
    return [each.text for each in tokens[number + 1 : number + 4]] + ["", "", ""]


def _context_name(tokens: list[Token]) -> str:
    """Return the name of the first parameter, if the text is a function."""
    texts = [each.text for each in tokens[:3]]
    is_function = texts[:2] == ["function", "("] and len(tokens) > 2 and tokens[2].kind == "name"
    return tokens[2].text if is_function else "ctx"


def _literal(text: str) -> str | None:
    """Return the text that a literal without escapes means."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and "\\" not in text
    return text[1:-1] if is_quoted else None


def _unknown(tokens: list[Token]) -> Iterator[Token]:
    """Yield the first use of each name that nothing here defines: no global, local, parameter, field or label."""
    defined = set(GLOBALS | KEYWORDS)
    for number, token in enumerate(tokens):
        if token.text in {"local", "for"} or token.text == "function":
            defined.update(_defined_after(tokens, number))
    for number, token in enumerate(tokens):
        before = tokens[number - 1].text if number else ""
        after = tokens[number + 1].text if number + 1 < len(tokens) else ""
        if token.kind == "name" and token.text not in defined:
            defined.add(token.text)
            if before not in {".", ":", "::", "goto"} and after not in {"=", "::"}:
                yield token


def _defined_after(tokens: list[Token], number: int) -> Iterator[str]:
    """Yield the names between `local`, `for` or `function` and the sign or keyword that ends their list."""
    for token in tokens[number + 1 :]:
        if token.kind == "name" and token.text not in KEYWORDS:
            yield token.text
        elif token.text not in {",", "(", "...", ".", ":", "<", ">", "function"}:
            return


# -- what is returned --------------------------------------------------------------------------------------------

_ENDS: Final = frozenset({"end", "else", "elseif", "until", ";", ""})


def _returned(tokens: list[Token]) -> tuple[list[str] | None, bool]:
    """Return the keys of the tables that are returned, None if one is computed, and whether all are always given."""
    is_function = bool(tokens) and tokens[0].text == "function"
    body = tokens[1:-1] if is_function else tokens
    places = list(_returns(body))
    if not places and not is_function:
        places = [-1]  # an expression
    found: dict[str, None] = {}
    for place in places:
        keys = _keys_of(body, place + 1)
        if keys is None:
            return None, False
        found.update(dict.fromkeys(keys))
    is_last = len(places) == 1 and all(each.text == ";" for each in body[_end_of_value(body, places[0] + 1) :])
    return list(found), is_last or not places


def _returns(tokens: list[Token]) -> Iterator[int]:
    """Yield the indexes of the returns that are not those of a function inside."""
    number = 0
    while number < len(tokens):
        token = tokens[number]
        if token.kind == "name" and token.text == "function":
            number = _end_of(tokens, number) or len(tokens)
        elif token.kind == "name" and token.text == "return":
            yield number
        number += 1


def _text_at(tokens: list[Token], number: int) -> str:
    return tokens[number].text if number < len(tokens) else ""


def _end_of_value(tokens: list[Token], at: int) -> int:
    """Return the index after a table, or after one token."""
    if _text_at(tokens, at) != "{":
        return at if _text_at(tokens, at) in _ENDS else at + 1
    depth = 0
    for number in range(at, len(tokens)):
        depth += (tokens[number].text in "{([") - (tokens[number].text in "})]")
        if depth == 0:
            return number + 1
    return len(tokens)


def _keys_of(tokens: list[Token], at: int) -> list[str] | None:
    """Return the keys that the value at that index gives; None if only running it tells."""
    end = _end_of_value(tokens, at)
    if _text_at(tokens, end) not in _ENDS:
        return None
    if end == at or _text_at(tokens, at) == "nil":
        return []
    token = tokens[at]
    if token.text != "{":
        is_scalar = token.kind in {"text", "number"} or token.text in {"true", "false"}
        return ["result"] if is_scalar else None
    return _keys_of_table(tokens[at + 1 : end - 1])


def _keys_of_table(tokens: list[Token]) -> list[str] | None:
    keys: dict[str, None] = {}
    depth, is_start, number = 0, True, 0
    while number < len(tokens):
        text = tokens[number].text
        if is_start and text not in {",", ";"}:
            name = _field_key(tokens, number)
            keys[name if name is not None else "\0"] = None
        is_start = False
        if text == "function" and tokens[number].kind == "name":
            number = _end_of(tokens, number) or len(tokens)
        elif tokens[number].kind == "sign":
            depth += (text in "{([") - (text in "})]")
            is_start = depth == 0 and text in {",", ";"}
        number += 1
    if "\0" not in keys:
        return list(keys)
    return ["result"] if len(keys) == 1 else None


def _field_key(tokens: list[Token], number: int) -> str | None:
    """Return the key of the field that begins there; None for an item of a list, or a key that is computed."""
    texts = [_text_at(tokens, number + each) for each in range(4)]
    if tokens[number].kind == "name" and texts[1] == "=":
        return texts[0]
    return _literal(texts[1]) if texts[0] == "[" and texts[2:] == ["]", "="] else None
