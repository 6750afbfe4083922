"""Checks of options: each function returns the checked value, or raises an error that shows what was given."""

from __future__ import annotations

from enum import StrEnum
from inspect import isclass, iscoroutinefunction
from typing import Any, Final, TypeVar

from ironflow_nb.core.plain_text import plain, short_repr

E = TypeVar("E", bound=StrEnum)

LARGEST: Final = 2**63 - 1
"""The largest whole number that a journal keeps."""
_EXECUTOR: Final = ("concurrent.futures._base", "Executor")


def a_text(option: str, value: object) -> str:
    """Return the value of an option that is a text.

    Raises:
        ValueError: it is not a text, is empty, or can't be encoded as UTF-8.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{option} is a text, not {short_repr(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{option} has half a character (a lone surrogate) in it: {short_repr(value)}") from None
    return value


def a_path(value: object) -> str:
    """Return the text of a path.

    Raises:
        TypeError, ValueError: it is not a path, or one that no file can have.
    """
    path = value.__fspath__() if hasattr(value, "__fspath__") else value
    if not isinstance(path, str) or not path:
        raise TypeError(f"path is a text or a pathlib.Path, not {short_repr(value)}")
    try:
        is_any = "\0" not in path and path.encode(errors="surrogateescape")  # as names of other encodings come
    except UnicodeEncodeError:
        is_any = False
    if not is_any:
        raise ValueError(f"no file can have the name {short_repr(path)}: it has a null or half a character in it")
    return path


def a_name(value: object) -> str:
    """Return a name.

    Raises:
        ValueError: it is not a text, or has a control character.
    """
    name = a_text("name", value)
    if plain(name) != name or not {"\n", "\t"}.isdisjoint(name):
        raise ValueError(
            f"name has a control character in it: {short_repr(name)}; names are shown on terminals, as they are"
        )
    return name


def a_flag(option: str, value: object) -> bool:
    """Return the value of an option that is True or False.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{option} is True or False, not {short_repr(value)}")
    return value


def is_executor(value: object) -> bool:
    """Return True if it is an executor. A client of Dask has the same methods and is not one."""
    return any((kind.__module__, kind.__name__) == _EXECUTOR for kind in type(value).__mro__)


def an_executor(value: Any) -> Any:
    """Return the value of an option that is an executor, or a function that makes one.

    Raises:
        TypeError: it is neither.
    """
    is_function = callable(value) and not iscoroutinefunction(value) and not hasattr(value, "submit")
    if not (is_function or is_executor(value) or isclass(value)):
        raise TypeError(
            "executor is a concurrent.futures.Executor, or a function without arguments that makes one, not "
            f"{short_repr(value)}"
        )
    return value


def a_whole_number(option: str, value: object) -> int:
    """Return the value of an option that is a whole number.

    Raises:
        TypeError: it is not a number, or has a fraction.
        ValueError: it is larger than a journal keeps.
    """
    if type(value) is not int:
        raise TypeError(f"{option} is a whole number, not {short_repr(value)}")
    if abs(value) > LARGEST:
        raise ValueError(f"{option} is a whole number of at most 63 bits, not of {value.bit_length()}")
    return value


def a_limit(option: str, value: object) -> int:
    """Return the number of things that may be at work at once.

    Raises:
        ValueError: it is not a whole number from 1, or larger than a journal keeps.
    """
    number = int(value) if isinstance(value, str) and value.strip().isdigit() else value
    if type(number) is not int or number < 1:
        raise ValueError(f"{option} is a whole number from 1, not {short_repr(value)}")
    return a_whole_number(option, number)


def one_of(kind: type[E], text: str, option: str) -> E:
    """Return the member of that value.

    Raises:
        ValueError: no member has it; the message lists the members.
    """
    try:
        return kind(text)
    except ValueError:
        known = " or ".join(f'"{value}"' for value in kind)
        raise ValueError(f"{option} is {known}, not {short_repr(text)}") from None
