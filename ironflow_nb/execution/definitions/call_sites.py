"""Where in the source of a flow its steps are called."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

from ironflow_nb.code_identity.syntax import call_numbers, function_tree
from ironflow_nb.core.identity import Digest

Sites = dict[int, str]
"""The site of each instruction that ends a call, by its offset."""


class CallSites:
    """The call sites of one flow, each as the text that its steps are recorded with.

    It is the beginning of the id of the flow's definition, and the number of the call among all calls of its source,
    which comments and line breaks do not change: ``"3fa9c2e1:12"``.
    """

    def __init__(self, function: Callable[..., Any] | None, definition_id: Digest) -> None:
        self._function = function  # it keeps its code objects, which are told apart by their addresses
        self._definition = definition_prefix(definition_id)
        self._of_codes: dict[int, Sites] | None = None if function is not None else {}

    def here(self, n_passed: int = 1) -> str:
        """Return where in the flow the calling code was called, or an empty text where that is not known.

        `n_passed` frames of the package are skipped without a look: to look at one costs as much as all the rest.
        """
        of_codes = self._of_codes
        if of_codes is None:
            of_codes = self._of_codes = self._read()
        if not of_codes:
            return ""
        frame: FrameType | None = sys._getframe(n_passed)  # a tenth of a microsecond; `inspect` takes a hundred
        while frame is not None:
            sites = of_codes.get(id(frame.f_code))
            if sites is not None:
                return sites.get(frame.f_lasti, "")
            frame = frame.f_back
        return ""

    def _read(self) -> dict[int, Sites]:
        """Find the calls of the source in the code, which also knows where each instruction ends in the file."""
        assert self._function is not None
        try:
            lines, _ = inspect.getsourcelines(self._function)
            tree = function_tree(self._function)
            code: CodeType = inspect.unwrap(self._function).__code__
        except (OSError, TypeError, AttributeError):
            return {}
        if tree is None:
            return {}
        down = code.co_firstlineno - min(node.lineno for node in (tree, *tree.decorator_list))
        right = len(lines[0]) - len(lines[0].lstrip()) - tree.col_offset
        sites = {call: f"{self._definition}:{number}" for call, number in call_numbers(tree).items()}
        places = {_extent(call, down, right)[2:]: site for call, site in sites.items()}
        places |= {_extent(node, down, right): sites.get(run, "") for node, run in _runners(tree)}
        return {id(inner): _sites(inner, places) for inner in _with_inner(code)}


def definition_prefix(definition_id: Digest) -> str:
    """Return what call sites say of the definition."""
    return definition_id.hex()[:8]


def _runners(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, Any]]:
    """Yield all that has instructions of its own which run what a call in it gave, with that expression.

    Before Python 3.13 most of these have the extent of the whole node: a loop ends where the last call in it does.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Await(value=run) | ast.For(iter=run) | ast.AsyncFor(iter=run):
                yield node, run
            case ast.With(items=[item]) | ast.AsyncWith(items=[item]):
                yield node, item.context_expr
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield node, node.generators[0].iter


def _extent(node: ast.stmt | ast.expr, down: int, right: int) -> tuple[int, ...]:
    end_line, end_column = node.end_lineno or 0, node.end_col_offset or 0
    return node.lineno + down, node.col_offset + right, end_line + down, end_column + right


def _sites(code: CodeType, places: dict[tuple[int, ...], str]) -> Sites:
    """Return the sites of the code by the ends of its calls, and by the whole extent of what runs something else."""
    found: Sites = {}
    for place, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        start, end = (line or 0, column or 0), (end_line or 0, end_column or 0)
        if (site := places.get(start + end, places.get(end))) is not None:
            found[2 * place] = site
    return found


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """Yield the code and that of everything defined in it: functions, lambdas, comprehensions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


NOWHERE: Final = CallSites(None, Digest(b""))
"""Of what has no source in which steps are called."""
