"""Finding runs and steps by what people type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironflow_nb.core.ids import StepRef, parse_step_ref, run_id_prefix
from ironflow_nb.core.rows import RunRow, StepRow
from ironflow_nb.core.texts import plain
from ironflow_nb.errors import AmbiguousRun, AmbiguousStep, RunNotFound, StepNotFound
from ironflow_nb.journal.ports import Reader, Select

_SHOWN: Final = 8


def resolve_run(reader: Reader, text: str) -> RunRow:
    """Return the run of an id or of a prefix that only it has.

    Raises:
        RunNotFound, AmbiguousRun: none or several have it; the message lists what there is.
    """
    prefix = run_id_prefix(text) if isinstance(text, str) else None
    found = [] if prefix is None else reader.runs(Select(run_prefix=prefix, limit=_SHOWN + 1))
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousRun(f"several runs begin with {text!r}: {_listed(found)}; give more characters", prefix=text)
    newest = reader.runs(Select(limit=3))
    known = f"the newest are {_listed(newest)}" if newest else "the journal has no runs"
    raise RunNotFound(f"no run begins with {text!r}; {known}", prefix=text)


def _listed(runs: list[RunRow]) -> str:
    shown = plain(", ".join(f"{run.run_id} ({run.name})" for run in runs[:_SHOWN]))
    return f"{shown}, ..." if len(runs) > _SHOWN else shown


def resolve_step(rows: Iterable[StepRow], reference: object, run_id: str) -> StepRef:
    """Return the step of a run by function, by name if only one step has it, or by reference such as ``fetch[12]``.

    Raises:
        StepNotFound, AmbiguousStep: none or several fit; the message lists what there is.
        TypeError: `reference` is none of these.
    """
    text = reference if isinstance(reference, str) else getattr(reference, "name", None)
    if not isinstance(text, str):
        raise TypeError(f'a step is named by its function, "fetch" or "fetch[12]", not by {reference!r}')
    name, index = parse_step_ref(text)
    refs = {row.step: row for row in rows}
    # A name that is there as it stands goes before one that ends so.
    is_exact = any(row.name == name for row in refs.values())
    fits = [
        ref
        for ref, row in refs.items()
        if (row.name == name or (not is_exact and row.name.endswith(f".{name}"))) and index in {None, row.index}
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        shown = plain(", ".join(sorted(fits, key=lambda ref: refs[ref].index)[:_SHOWN]))
        raise AmbiguousStep(
            f"run {run_id} has {len(fits)} steps {text!r}: {shown}{', ...' if len(fits) > _SHOWN else ''}; name one",
            run_id=run_id,
            step=text,
        )
    names = plain(", ".join(sorted({row.name for row in refs.values()})[:_SHOWN])) or "none yet"
    raise StepNotFound(f"run {run_id} has no step {text!r}; its steps are: {names}", run_id=run_id, step=text)


def resolve_steps(rows: list[StepRow], step: object, run_id: str) -> list[StepRef]:
    """Return the steps of that function or name by index; a name that is there as it stands goes before a last part.

    Raises:
        StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
        TypeError: `step` is no name.
    """
    name = step if isinstance(step, str) else getattr(step, "name", None)
    known = {row.name for row in rows}
    names = sorted(other for other in known if other == name or (name not in known and other.endswith(f".{name}")))
    if not names:
        return [resolve_step(rows, step, run_id)]  # "fetch[12]" is one step; of what names none it tells
    if len(names) > 1:
        listed = plain(", ".join(names))
        raise AmbiguousStep(
            f"run {run_id} has steps of several {name!r}: {listed}; name one", run_id=run_id, step=str(name)
        )
    refs = {row.step: row.index for row in rows if row.name == names[0]}
    return sorted(refs, key=refs.__getitem__)
