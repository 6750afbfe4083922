"""Where in the source of a flow its steps are called."""

from __future__ import annotations

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

        So many frames are passed unseen, none of them the flow's: to look at one costs as much as all the rest.
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
        first = min(node.lineno for node in (tree, *tree.decorator_list))
        down = code.co_firstlineno - first
        right = len(lines[0]) - len(lines[0].lstrip()) - tree.col_offset
        ends = {
            ((call.end_lineno or 0) + down, (call.end_col_offset or 0) + right): f"{self._definition}:{number}"
            for call, number in call_numbers(tree).items()
        }
        return {id(inner): _sites(inner, ends) for inner in _with_inner(code)}


def definition_prefix(definition_id: Digest) -> str:
    """Return what call sites say of the definition."""
    return definition_id.hex()[:8]


def _sites(code: CodeType, ends: dict[tuple[int, int], str]) -> Sites:
    found: Sites = {}
    for place, (_, line, _, column) in enumerate(code.co_positions()):
        site = None if line is None or column is None else ends.get((line, column))
        if site is not None:
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
