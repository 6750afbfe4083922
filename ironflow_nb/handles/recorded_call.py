"""A recorded call of a step, to be repeated by hand: its arguments, its failure, and the line that repeats it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ironflow_nb.code_identity.source import is_user_file
from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import RunFailed
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, RunStatus
from ironflow_nb.errors import InputsNotStored, StepNotFound
from ironflow_nb.execution import FOREIGN, REGISTRY, Engine, StepSpec, advice, shell, unwrapped
from ironflow_nb.history.lookup import resolve_step, resolve_steps
from ironflow_nb.history.recorded_values import read_arguments
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.failures import Failure, load_failure, recorded_error
from ironflow_nb.values.stored_value import legible

_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_SHOWN: Final = 100
_LISTED: Final = 8
_POSITIONAL: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordedCall:
    """The newest attempt of a step, to be repeated by hand.

    `inputs` are its arguments by name, without those that were not stored. `error` is its rebuilt exception, or None,
    and `error_text` the recorded traceback. `code` calls `function`, which is None if it is not defined here. If
    another user began the run, `code` has comments only.
    """

    step: StepRef
    inputs: dict[str, Any]
    error: BaseException | None
    error_text: str
    code: str
    function: Callable[..., Any] | None
    is_own: bool = True

    def __repr__(self) -> str:
        return self.code


def step_to_debug(reader: Reader, run_id: RunId, status: RunStatus, rows: Sequence[StepRow], step: object) -> StepRef:
    """Return the step to debug: without `step` the one that failed the run, for a name its one failed step.

    Raises:
        StepNotFound, AmbiguousStep: no step fits, or several do.
    """
    latest = {row.step: row for row in rows}
    failed = [ref for ref, row in latest.items() if row.status in FAILURES]
    if step is not None:
        named = resolve_steps(list(rows), step, run_id)
        chosen = [ref for ref in named if ref in failed]
        return chosen[0] if len(chosen) == 1 else resolve_step(rows, step, run_id)
    causes = [ref for ref in recorded_causes(reader, run_id) if ref in latest] if status is RunStatus.FAILED else ()
    if causes:
        return causes[0]
    what = "failed in the flow itself" if status is RunStatus.FAILED else f"is {status.value}"
    listed = ", ".join(failed[:_LISTED] or list(latest)[:_LISTED]) or "none yet"
    which = "the steps that failed" if failed else "its steps"
    raise StepNotFound(f"run {run_id} {what}, and no step has failed it; name one: {which} are {listed}", run_id=run_id)


def recorded_causes(reader: Reader, run_id: RunId) -> tuple[StepRef, ...]:
    """Return the steps whose failures ended the run; none if its flow has raised itself."""
    ends = reader.events(Select(run_ids=[run_id], name=RunFailed.__name__))
    return decode_as(RunFailed, ends[-1].data).caused_by if ends else ()


def recorded_call(engine: Engine, row: StepRow, *, is_own: bool = True) -> RecordedCall:
    """Return the recorded call of the attempt.

    Raises:
        InputsNotStored: its arguments are missing in the journal.
        ValueUnreadable: one of them can't be read here.
    """
    found, gone = read_arguments(engine, row, lambda what: _missing_arguments(what, row))
    spec = REGISTRY.step(row.name)
    stored = None if row.error_id is None else engine.access.value(row.error_id)
    failure = None if stored is None else load_failure(stored)
    call = (
        _call_lines(row, spec, found, gone)
        if is_own
        else [f"# the run was {FOREIGN}; {advice(engine.journal.location)}"]
    )
    lines = [*_comments(row, failure, gone), *call]
    where = f"{row.step} of run {row.run_id}"
    return RecordedCall(
        step=row.step,
        inputs=dict(unwrapped((), found)[1]),
        error=None if stored is None else recorded_error(stored, engine.signer, where=where),
        error_text="" if failure is None else failure.traceback or f"{failure.kind}: {failure.text}",
        code="\n".join(lines),
        function=None if spec is None else spec.function,
        is_own=is_own,
    )


def push_to_notebook(call: RecordedCall) -> None:
    """Assign the variables of the call in the notebook and propose the next cell.

    Nothing happens in a script, or if another user has recorded the call.
    """
    notebook = shell()
    if notebook is None or not call.is_own:
        return
    names: dict[str, Any] = {"inputs": call.inputs, "error": call.error, "error_text": call.error_text}
    if call.code.splitlines()[-1].startswith(("function(", "await function(")):
        names["function"] = call.function
    notebook.push(names)
    notebook.set_next_input(call.code)


def _missing_arguments(what: str, row: StepRow) -> InputsNotStored:
    return InputsNotStored(
        f"{what} of {row.step} of run {row.run_id} are missing in the journal or damaged; put that back from a copy",
        run_id=row.run_id,
        step=row.step,
    )


# -- what is written ---------------------------------------------------------------------------------------------


def _comments(row: StepRow, failure: Failure | None, gone: Mapping[str, str]) -> Iterator[str]:
    happened = row.status.value
    if failure is not None:
        happened = legible(f"{failure.kind}: {failure.text}", _SHOWN) + _failing_line(failure.traceback)
    yield _comment(f"{row.step} of run {row.run_id}: {happened}")
    if row.child_run_id is not None:
        yield _comment(f'its own steps: iron.get_run("{row.child_run_id}").debug()')
    if gone:
        listed = ", ".join(f"{name} ({kind})" for name, kind in gone.items())
        yield _comment(f"not stored, so replace the dots by them: {listed}")


def _comment(text: str) -> str:
    """Return the text as a comment of one line, without line breaks and control characters."""
    return f"# {' '.join(''.join(char if char.isprintable() else ' ' for char in text).split())}"


def _failing_line(traceback: str) -> str:
    """Return the last line of the user's own code in the traceback, in words."""
    frames = [match.groups() for match in _FRAME.finditer(traceback) if is_user_file(match[1])]
    if not frames:
        return ""
    file, line, function = frames[-1]
    is_cell = file.startswith("<") or "ipykernel_" in file
    return f" (line {line} of {'the cell' if is_cell else Path(file).name}, in {function})"


def _call_lines(
    row: StepRow, spec: StepSpec | None, inputs: Mapping[str, Any], gone: Mapping[str, str]
) -> Iterator[str]:
    if spec is None:
        yield _comment(f"{row.name} is not defined here; run the cell or import the module that defines it")
        if all(part.isidentifier() for part in row.name.split(".")):
            yield f"{row.name}.fn({_keyword_call(gone)})"
        return
    module, expression = _function_expression(spec)
    if module is not None:
        yield f"import {module}"
    parameters = spec.parameters.signature.parameters
    is_by_place = any(each.kind in _POSITIONAL or each.kind is each.VAR_KEYWORD for each in parameters.values())
    known = [each for each in parameters.values() if each.name in inputs or each.name in gone]
    arguments = ", ".join(_positional_call(known, gone)) if is_by_place else _keyword_call(gone)
    yield f"{'await ' if spec.is_async else ''}{expression}({arguments})"


def _keyword_call(gone: Iterable[str]) -> str:
    return ", ".join(["**inputs", *(f"{name}=..." for name in gone if name.isidentifier())])


def _positional_call(parameters: Iterable[inspect.Parameter], gone: Mapping[str, str]) -> Iterator[str]:
    for each in parameters:
        value = "..." if each.name in gone else f'inputs["{each.name}"]'
        match each.kind:
            case each.VAR_POSITIONAL:
                yield value if each.name in gone else f"*{value}"
            case each.VAR_KEYWORD:
                yield f"**{'{...}' if each.name in gone else value}"
            case each.KEYWORD_ONLY:
                yield f"{each.name}={value}"
            case _:
                yield value


def _function_expression(spec: StepSpec) -> tuple[str | None, str]:
    """Return the module to import, if any, and the expression for the function."""
    module = getattr(spec.function, "__module__", None) or "__main__"
    space = getattr(sys.modules.get(module), "__dict__", {})
    for name in (spec.qualname, *(name for name in list(space) if not name.startswith("_"))):
        suffix = _function_suffix(_find_qualname(space, name), spec.function)
        if suffix is not None:
            return (None, f"{name}{suffix}") if module == "__main__" else (module, f"{module}.{name}{suffix}")
    return None, "function"


def _find_qualname(space: Mapping[str, Any], qualname: str) -> Any:
    first, *parts = qualname.split(".")
    found = space.get(first)
    for part in parts:
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _function_suffix(found: Any, function: Callable[..., Any]) -> str | None:
    """Return the suffix that leads from the object to the function: empty or ``.fn``; None if neither does."""
    if found is function:
        return ""
    is_definition = hasattr(type(found), "__ironflow_definition__")
    return ".fn" if is_definition and found.fn is function else None
