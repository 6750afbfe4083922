"""What the texts of YAML 1.2 mean that are not quoted: its core schema, and nothing beyond."""

from __future__ import annotations

import math
import re
from typing import Any, Final

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BASES: Final = {"0o": 8, "0x": 16}

PREFIX: Final = "tag:yaml.org,2002:"

MOST_DIGITS: Final = 1000
"""A whole number has no more; Python would need long for it, or refuse."""


def whole_characters(text: str) -> str:
    """Return the text with the surrogate pairs that JSON writes for a character beyond U+FFFF as that character.

    Raises:
        ValueError: there is half of a pair in it.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("the text has half of a character in it (a lone surrogate)") from None


def plain_value(text: str) -> Any:
    """Return what a text without quotes means.

    Raises:
        ValueError: it is a number that JSON has not, or too long.
    """
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > MOST_DIGITS:
            raise ValueError(f"a number has {MOST_DIGITS} digits at most, not {len(text)}")
        base = _BASES.get(text[:2])
        return int(text[2:], base) if base else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace(".inf", "inf").replace(".nan", "nan")) if text[-1] not in "fFnN" else math.nan
        if not math.isfinite(number):
            raise ValueError(f"{text[:40]} is no number that JSON has")
        return number
    return text


def tagged_value(text: str, tag: str) -> Any:
    """Return what a text with a tag means.

    Raises:
        ValueError: it is not what the tag says, or the tag makes more of it than plain data.
    """
    if tag in {"!", f"{PREFIX}str"}:
        return text
    wanted = _TAGGED.get(tag.removeprefix(PREFIX)) if tag.startswith(PREFIX) else None
    if wanted is None:
        raise ValueError(f"the tag {shown(tag)} is refused: values are plain data, as JSON has them")
    value = plain_value(text)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"the tag {shown(tag)} does not fit this value")
    return value


_TAGGED: Final = {"int": int, "float": float, "bool": bool, "null": type(None)}


def shown(tag: str) -> str:
    """Return a tag as people write it."""
    return f"!!{tag.removeprefix(PREFIX)}" if tag.startswith(PREFIX) else tag
