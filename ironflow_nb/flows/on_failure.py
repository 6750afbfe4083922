"""What a flow wants to be done if it fails: registered as it goes on, performed the newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec

from ironflow_nb.core.identity import OWN_PREFIX
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.errors import NotInRun
from ironflow_nb.execution import CLOSURE, REGISTRY, StepOptions, StepSpec, durable_calls, undo_spec
from ironflow_nb.flows.step import Step
from ironflow_nb.flows.waits import refuse_in_step

P = ParamSpec("P")


def _nothing(undo: str, arguments: dict[str, Any]) -> None:
    """Stand for the body of a registration, which has none."""


_ON_FAILURE: Final = StepSpec(_nothing, name=f"{OWN_PREFIX}on_failure", options=StepOptions(on_change=OnChange.KEEP))


def on_failure(undo: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Have a function or step called with these arguments if the run fails in the end; in a def or async flow.

    It is performed among the undos of steps (``compensate=`` of `step`), the newest first, as a step of the run. It is
    recorded, so a process that continues the run after a death knows of it.

    Raises:
        TypeError: the arguments do not fit.
        DefinitionError, DuplicateName: it is no function, a flow, or a lambda without a name.
        NotAllowedInStep: it was called inside a step.
        NotInRun: it was called outside of a flow, where nothing would call it.
    """
    scope = refuse_in_step("on_failure")
    if scope is None:
        raise NotInRun(
            "iron.on_failure was called outside of a flow; there is no run that could fail", name="on_failure"
        )
    spec = undo_spec(undo)
    bound = spec.parameters.bind(args, kwargs)
    arguments = {name: value for name, value in bound.items() if not name.startswith(CLOSURE)}
    REGISTRY.registered["undo"][spec.name] = spec
    function = None if isinstance(undo, Step) else undo
    durable_calls.register_undo(scope, _ON_FAILURE, spec, arguments, function=function)
