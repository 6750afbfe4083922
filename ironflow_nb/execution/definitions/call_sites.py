"""Where in the source of a flow its steps are called."""

from __future__ import annotations

import ast
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import CodeType, FrameType, MappingProxyType
from typing import Any, Final, cast

from ironflow_nb.code_identity.syntax import FunctionNode, awaited_calls, call_numbers, function_tree
from ironflow_nb.core.identity import Digest

Sites = Mapping[int, str]
"""The site of each instruction that ends a call, by its offset."""

_OF_LOOP: Final[Sites] = MappingProxyType({})
"""The sites of the code in which an event loop runs its callbacks."""
_NOT_READ: Final[Sites] = MappingProxyType({})


class CallSites:
    """The call sites of one flow, each as the text that its steps are recorded with.

    It is the beginning of the id of the flow's definition, and the number of the call among all calls of its source,
    which comments and line breaks do not change: ``"3fa9c2e1:12"``. What a helper calls has the number of its call in
    the helper, too: ``"3fa9c2e1:12.4"``.
    """

    def __init__(self, function: Callable[..., Any] | None, definition_id: Digest) -> None:
        self._function = function  # it keeps its code objects, which are told apart by their addresses
        self._definition = definition_prefix(definition_id)
        self._of_codes: dict[int, Sites] | None = None if function is not None else {}
        self._of_helpers: dict[int, Sites | None] = {}
        self._looked_at: list[CodeType] = []  # so that no other code gets the address of one of them

    def here(self, n_passed: int = 1, *, branch_site: str = "") -> str:
        """Return where in the flow the calling code was called, or an empty text where that is not known.

        `n_passed` frames of the package are skipped without a look: to look at one costs as much as all the rest.
        Beyond the source of the flow, in a task or a branch, `branch_site` is where that was made.
        """
        of_codes = self._of_codes
        if of_codes is None:
            of_codes = self._of_codes = self._read()
        if not of_codes:
            return branch_site
        frame: FrameType | None = sys._getframe(n_passed)  # a tenth of a microsecond; `inspect` takes a hundred
        of_helpers, inner, passed = self._of_helpers, "", None
        while frame is not None:
            code = frame.f_code
            sites = of_codes.get(id(code))
            if sites is not None:
                site = sites.get(frame.f_lasti) or branch_site
                return site and site + inner
            in_helper = of_helpers.get(id(code), _NOT_READ)
            if in_helper is _NOT_READ:
                in_helper = self._read_helper(frame)
            if in_helper is _OF_LOOP:
                break  # the code that runs the loop has not called what the loop runs
            if in_helper is not None and code is not passed:  # of a helper that calls itself the innermost call counts
                number = in_helper.get(frame.f_lasti)
                inner, passed = (f".{number}{inner}", code) if number else (inner, passed)
            frame = frame.f_back
        return branch_site and branch_site + inner

    def _read_helper(self, frame: FrameType) -> Sites | None:
        """Find the calls in code of the user; none of them if it can't be read, None for other code."""
        from ironflow_nb.code_identity.source import is_user_file

        code = frame.f_code
        if not is_user_file(code.co_filename):
            found = _OF_LOOP if code.co_qualname == "Handle._run" else None
        else:
            function = _defined_as(code, frame.f_globals)
            found = {} if function is None else _sites_of(function, "").get(id(code), {})
        self._looked_at.append(code)
        self._of_helpers[id(code)] = found
        return found

    def _read(self) -> dict[int, Sites]:
        assert self._function is not None
        return _sites_of(self._function, f"{self._definition}:")


_SITES: Final[dict[int, tuple[weakref.ref[CodeType], str, dict[int, Sites]]]] = {}
"""What was read of code objects, with the prefix it was read for: each run asks for the sites of the same flow."""


def _sites_of(function: Callable[..., Any], prefix: str) -> dict[int, Sites]:
    """Return the sites in the code of the function, and in all that is defined in it; they are read once."""
    try:
        code: CodeType = inspect.unwrap(function).__code__
    except (AttributeError, ValueError):
        return {}
    key = id(code)
    known = _SITES.get(key)
    if known is not None and known[0]() is code and known[1] == prefix:
        return known[2]
    found = _read_sites(function, code, prefix)
    if found:  # else the source may be there later
        _SITES[key] = weakref.ref(code, lambda _: _SITES.pop(key, None)), prefix, found
    return found


def _read_sites(function: Callable[..., Any], code: CodeType, prefix: str) -> dict[int, Sites]:
    """Find the calls of the source in the code, which also knows where each instruction ends in the file."""
    try:
        lines, _ = inspect.getsourcelines(function)
        tree = function_tree(function)
    except (OSError, TypeError):
        return {}
    if tree is None:
        return {}
    down = code.co_firstlineno - min(node.lineno for node in (tree, *tree.decorator_list))
    right = len(lines[0]) - len(lines[0].lstrip()) - tree.col_offset
    sites = {call: f"{prefix}{number}" for call, number in call_numbers(tree).items()}
    places = {_extent(call, down, right)[2:]: site for call, site in sites.items()}
    places |= {_extent(node, down, right): sites.get(run, "") for node, run in _runners(tree)}
    return {id(inner): _sites(inner, places) for inner in _with_inner(code)}


def _defined_as(code: CodeType, names: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Return the function of the module that the code is of, or defined in; None if its name stands for another one."""
    outermost = code.co_qualname.partition(".<locals>")[0]
    found: Any = names.get(outermost)
    with suppress(Exception):  # of what the user put under that name
        written = inspect.unwrap(found)
        if any(each is code for each in _with_inner(written.__code__)):
            return cast("Callable[..., Any]", written)
    return None


def definition_prefix(definition_id: Digest) -> str:
    """Return the prefix by which call sites name the definition."""
    return definition_id.hex()[:8]


def _runners(tree: FunctionNode) -> Iterator[tuple[ast.expr | ast.stmt, Any]]:
    """Yield all that has instructions of its own which run what a call in it gave, with that expression.

    Before Python 3.13 most of these have the extent of the whole node: a loop ends where the last call in it does.
    """
    kept = awaited_calls(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Await(value=ast.Name(id=name)) if name in kept:
                yield node, kept[name]
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
    found: dict[int, str] = {}
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
"""The call sites of a definition without a source."""
