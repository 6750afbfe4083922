"""Which arguments the function gets that undoes a step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.definitions.parameters import Parameters

RESULT: Final = "result"
_COLLECTING: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


class UndoParameters(msgspec.Struct, frozen=True):
    """The parameters of an undo: `arguments` get what the step got under the same names, `result` what it returned."""

    arguments: tuple[str, ...]
    result: str | None

    def bind(self, arguments: Mapping[str, Any], result: Any) -> dict[str, Any]:
        """Return the arguments of the undo of a call that had those and returned the result."""
        given = {name: arguments[name] for name in self.arguments}
        return given if self.result is None else given | {self.result: result}


def undo_parameters(undo: Parameters, step: Parameters, names: tuple[str, str]) -> UndoParameters:
    """Return which parameters of the undo get what; `names` are those of the undo and of the step, for messages.

    A parameter with the name of an argument of the step gets that argument. One other gets the result: the one called
    ``result``, or the only one that needs a value.

    Raises:
        DefinitionError: another one needs a value, too.
    """
    known = step.signature.parameters
    own = [each for each in undo.signature.parameters.values() if each.kind not in _COLLECTING]
    others = [each.name for each in own if each.name not in known]
    needed = [each.name for each in own if each.name in others and each.default is inspect.Parameter.empty]
    of_result = next((name for name in (RESULT, *needed) if name in others), None)
    lacking = [name for name in needed if name != of_result]
    if lacking:
        given = ", ".join(known) or "none"
        raise DefinitionError(
            f"{names[0]}, which undoes {names[1]}, gets the result and the arguments of that by their names ({given}), "
            f"and also needs {' and '.join(lacking)}; leave that away, or give it a default",
            name=names[0],
        )
    return UndoParameters(tuple(each.name for each in own if each.name in known), of_result)
