"""A durable cell: its ``%%step`` line, its source, and the function as which its code is tracked."""

from __future__ import annotations

import argparse
import ast
import linecache
import re
import shlex
import textwrap
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NoReturn

from ironflow_nb.code_identity import syntax
from ironflow_nb.code_identity.definitions import wrapped_by
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.status import RunKind
from ironflow_nb.durable_cells.name_analysis import NameUses, analyse_names
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import StepOptions, StepSpec, is_code_object

MAGIC: Final = "%%step"
OPTIONS: Final = ("--in", "--out", "--retries", "--timeout-s", "--cache")


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise DefinitionError(f"{message}; usage: {MAGIC} NAME [{'] ['.join(OPTIONS)}]")


def parse_magic_line(line: str) -> tuple[str, CellOptions]:
    """Return the name and the options of a ``%%step`` line, given without the ``%%step``.

    Raises:
        DefinitionError: the name is missing, an option is unknown, or a value is invalid.
    """
    try:
        words = shlex.split(line)
        if not words:
            raise DefinitionError(f"give the cell a name: {MAGIC} load")
        given = _parser().parse_args(_refuse_unknown_options(words))
        if given.cache not in {None, True}:
            seconds(given.cache)
    except ValueError as error:
        raise DefinitionError(str(error)) from None
    if given.retries < 0 or (given.timeout_s is not None and given.timeout_s <= 0):
        raise DefinitionError("--retries must be 0 or more, and --timeout-s more than 0")
    return given.name, CellOptions(
        ins=given.ins, outs=given.outs, retries=given.retries, timeout_s=given.timeout_s, cache=given.cache
    )


def _parser() -> _Parser:
    parser = _Parser(MAGIC.replace("%", ""), add_help=False)
    parser.add_argument("name")
    parser.add_argument("--in", dest="ins", type=_split_names)
    parser.add_argument("--out", dest="outs", type=_split_names)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--timeout-s", type=float)
    parser.add_argument("--cache", nargs="?", const=True)
    return parser


def _refuse_unknown_options(words: list[str]) -> list[str]:
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in OPTIONS:
            near = get_close_matches(option, OPTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(OPTIONS)}"
            raise DefinitionError(f"a cell has no option {option}; {hint}")
    return words


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


KIND: Final = RunKind.CELL
_NAME: Final = re.compile(r"\w[\w.\-]*")
_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_LABEL_LENGTH: Final = 40
SHELL_NAMES: Final = frozenset({"exit", "quit", "In", "Out"})
"""Names that IPython adds to the namespace of the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOptions:
    """Options of a cell. Where `ins` or `outs` is None, the analysis of the cell finds the names."""

    ins: tuple[str, ...] | None = None
    outs: tuple[str, ...] | None = None
    retries: int = 0
    timeout_s: float | None = None
    cache: bool | Duration | None = None
    is_unmarked: bool = False
    """Whether nobody marked the cell: then files and the data that its functions read are inputs, too."""


@dataclass(frozen=True)
class Cell:
    """One durable cell. `text` is as the user wrote it, `source` its Python; both have the same line numbers."""

    name: str
    text: str
    source: str
    options: CellOptions = field(default_factory=CellOptions)
    file: str = ""
    cell_id: str | None = None

    def __post_init__(self) -> None:
        """Check the name, the names in the options, and that the cell is not empty.

        Raises:
            DefinitionError: the name or a name in an option is invalid, or the cell is empty.
        """
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"{self.name!r} can't be the name of a cell; a name begins with a letter and has letters, digits, '_', "
                "'-' and '.'"
            )
        for name in (*(self.options.ins or ()), *(self.options.outs or ())):
            if not name.isidentifier():
                raise DefinitionError(f"{name!r} is not the name of a variable; separate names by commas: --in a,b")
        if not self.tree.body:
            raise DefinitionError(f"the cell {self.name} is empty; write its code below the first line")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of the source; a SyntaxError shows the line of the cell."""
        return syntax.parse(self.source, self.file or "<cell>")

    @property
    def label(self) -> str:
        """The name, or the first line of code of a cell that nobody marked and that has only an id."""
        return _shortened(ast.unparse(self.tree.body[0])) if self.options.is_unmarked else self.name

    @cached_property
    def uses(self) -> NameUses:
        """The names that the cell reads, assigns, defines and deletes."""
        return analyse_names(self.tree)

    @cached_property
    def is_async(self) -> bool:
        """Whether the cell has an ``await`` at its top level."""
        return bool(compile(self.tree, self.file or "<cell>", "exec", flags=_FLAGS).co_flags & 0x80)  # CO_COROUTINE

    def names_in(self, namespace: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the inputs, sorted: those of ``--in``, else the names it reads that hold data.

        Raises:
            DefinitionError: a name of ``--in`` is not defined.
        """
        if self.options.ins is None:
            return tuple(sorted(name for name in self.uses.reads if _is_input(name, namespace)))
        missing = [name for name in self.options.ins if name not in namespace]
        if missing:
            raise DefinitionError(
                f"the cell {self.name} takes in {', '.join(missing)}, which is not defined; run the cell that assigns "
                "it, or leave it out of --in"
            )
        return tuple(sorted(set(self.options.ins)))

    def spec(self, ins: Collection[str], namespace: dict[str, Any]) -> StepSpec:
        """Return the cell as a step with these names as parameters."""
        options = StepOptions(retries=self.options.retries, cache=self.options.cache, on_change="refresh")
        return StepSpec(self._tracked_function(sorted(ins), namespace), name=self.name, options=options)

    def _tracked_function(self, ins: list[str], namespace: dict[str, Any]) -> types.FunctionType:
        """Return the cell as a function of its inputs. It is tracked and never called."""
        text = self._function_source(ins, namespace)
        file = f"<step {self.name} {blake2b(text.encode(), digest_size=8).hexdigest()}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        module = compile(text, file, "exec", dont_inherit=True)
        code = next(each for each in module.co_consts if isinstance(each, types.CodeType))
        made = types.FunctionType(code, namespace, "cell")
        made.__qualname__ = self.name
        made.__module__ = str(namespace.get("__name__", "__main__"))
        return made

    def _function_source(self, ins: list[str], namespace: Mapping[str, Any]) -> str:
        header = f"{'async ' if self.is_async else ''}def cell({', '.join(ins)}):\n"
        body = [each for node in self.tree.body if (each := _statement_in_function(node)) is not None]
        try:
            text = ast.unparse(ast.fix_missing_locations(ast.Module(body, [])))
        except ValueError:  # ast.unparse of older versions of Python can't write every f-string
            text = self.source
        mentioned = [name for name in self.uses.mentions if name in namespace and not is_data(namespace[name])]
        ending = [f"({', '.join(mentioned)},)"] if mentioned else []
        if self.options.outs is not None:  # other outputs are another cell
            ending.append(f"return {sorted(set(self.options.outs))!r}")
        return header + textwrap.indent("\n".join([text, *ending]) or "pass", "    ", lambda _: True) + "\n"


def _shortened(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _LABEL_LENGTH else f"{line[: _LABEL_LENGTH - 3]}..."


def _statement_in_function(node: ast.stmt) -> ast.stmt | None:
    """Return the statement in a form that is allowed in a function, or None if there is none."""
    if isinstance(node, ast.Global):
        return None
    if isinstance(node, ast.ImportFrom):
        if node.module == "__future__":
            return None
        if any(alias.name == "*" for alias in node.names):
            return ast.Import([ast.alias(node.module or "")])
    return node


def is_data(value: object) -> bool:
    """Return True if the value counts as data, which is an input, and not as code, which is tracked."""
    return not (is_code_object(value) or (callable(value) and wrapped_by(value) is not None))


def _is_input(name: str, namespace: Mapping[str, Any]) -> bool:
    return not name.startswith("__") and name not in SHELL_NAMES and name in namespace and is_data(namespace[name])
