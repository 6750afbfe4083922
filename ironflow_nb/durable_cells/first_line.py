"""The first line of a durable cell: ``%%step NAME`` and its options."""

from __future__ import annotations

import argparse
import shlex
from difflib import get_close_matches
from typing import Final, NoReturn

from ironflow_nb.core.durations import seconds
from ironflow_nb.durable_cells.cell import CellOptions
from ironflow_nb.errors import DefinitionError

MAGIC: Final = "%%step"
OPTIONS: Final = ("--in", "--out", "--retries", "--timeout-s", "--cache")


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise DefinitionError(f"{message}; usage: {MAGIC} NAME [{'] ['.join(OPTIONS)}]")


def parse(line: str) -> tuple[str, CellOptions]:
    """Return the name and the options that stand behind ``%%step``.

    Raises:
        DefinitionError: they are not as they should be.
    """
    try:
        words = shlex.split(line)
        if not words:
            raise DefinitionError(f"give the cell a name: {MAGIC} load")
        given = _parser().parse_args(_checked(words))
        if given.cache not in {None, True}:
            seconds(given.cache)
    except ValueError as error:
        raise DefinitionError(str(error)) from None
    if given.retries < 0 or (given.timeout_s is not None and given.timeout_s <= 0):
        raise DefinitionError("--retries is 0 or more, and --timeout-s more than 0")
    return given.name, CellOptions(
        ins=given.ins, outs=given.outs, retries=given.retries, timeout_s=given.timeout_s, cache=given.cache
    )


def _parser() -> _Parser:
    parser = _Parser(MAGIC.replace("%", ""), add_help=False)
    parser.add_argument("name")
    parser.add_argument("--in", dest="ins", type=_names)
    parser.add_argument("--out", dest="outs", type=_names)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--timeout-s", type=float)
    parser.add_argument("--cache", nargs="?", const=True)
    return parser


def _checked(words: list[str]) -> list[str]:
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in OPTIONS:
            near = get_close_matches(option, OPTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(OPTIONS)}"
            raise DefinitionError(f"a cell knows no {option}; {hint}")
    return words


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
