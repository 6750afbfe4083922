"""The recorded part of the handle of a run: steps, events, values, logs, pictures, past states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind, RunStatus
from ironflow_nb.errors import AmbiguousStep
from ironflow_nb.execution import FOREIGN, Engine, own_runs
from ironflow_nb.handles.explanation import Explanation, explain_step
from ironflow_nb.handles.recorded_call import RecordedCall, push_to_notebook, recorded_call, step_to_debug
from ironflow_nb.handles.run_picture import bundle_of, picture_of
from ironflow_nb.handles.snapshot import Snapshot, snapshot_of
from ironflow_nb.history import frames, run_status
from ironflow_nb.history.lookup import resolve_step, resolve_steps
from ironflow_nb.history.recorded_values import arguments_of_run, latest_output, output_of, read_output
from ironflow_nb.history.run_history import RunHistory
from ironflow_nb.history.step_pairs import steps_that_count
from ironflow_nb.history.telemetry_frames import log_of, metrics
from ironflow_nb.journal.ports import Select

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.core.moments import Moment
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.handles.slider import Slider
    from ironflow_nb.history.lineage import Lineage
    from ironflow_nb.history.run_log import RunLog
    from ironflow_nb.history.timeline import Timeline


class RecordedRun:
    """The recorded side of a run: nothing here changes it."""

    def __init__(self, engine: Engine, run_id: RunId) -> None:
        self._engine = engine
        self._history = RunHistory(engine, run_id)
        self.id = run_id

    @property
    def status(self) -> RunStatus:
        """The current status; a run whose process died is interrupted."""
        return run_status.run_and_status(self._engine, self.id)[1]

    def at(self, at: Moment | Snapshot | None = None, *, position: int | None = None) -> Snapshot:
        """Return the state that the run had at a moment, as a value that never changes.

        Args:
            at: a version, the number of an event of the run as `events` shows it (``-1`` is the newest, ``-3`` the
                third newest); an instant (a datetime, local if it is naive; ISO text); or a time of day (``"10:42"``,
                local, the latest one in the run). An instant means the newest event until then.
            position: a position of the journal in place of it, of an event of this run.

        Raises:
            VersionNotFound: the run has no such version; it had not begun then, or had ended.
            TypeError, ValueError: `at` is no moment.
        """
        return snapshot_of(self._engine, self._history, at, position)

    def slider(self) -> Slider:
        """Return the moments of the run to be moved through; it displays itself, in a notebook as a slider.

        Each moment is that of `at`. Its `text` is the sequence of changes.
        """
        from ironflow_nb.handles.run_moments import RunMoments
        from ironflow_nb.handles.slider import Slider

        return Slider(RunMoments(self._engine, self._history))

    def explain(self, step: object) -> Explanation:
        """Return why the attempts of a step ran: it was new, edited, failed, or which of its arguments changed.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
        """
        rows = self._attempts()
        return explain_step(self._engine, self.id, rows, self._step(rows, step))

    def debug(self, step: object = None) -> RecordedCall:
        """Return a recorded call of a step, to be repeated by hand; by default of the one that failed the run.

        In a notebook `inputs`, `error` and `error_text` become variables, and the next cell is ready: it calls the
        undecorated function with `inputs`. Arguments that were not stored are named there. If another user began the
        run, no variable is assigned and no cell is proposed.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several; or no step has failed it.
            InputsNotStored: the arguments are missing in the journal.
            ValueUnreadable: an argument can't be read here.
        """
        rows = self._attempts()
        with self._engine.reading() as reader:
            ref = step_to_debug(reader, self.id, self.status, rows, step)
        is_own = self._is_own(run_status.run_and_status(self._engine, self.id)[0])
        call = recorded_call(self._engine, [row for row in rows if row.step == ref][-1], is_own=is_own)
        push_to_notebook(call)
        return call

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The recorded arguments of the call, by name; of a graph its input.

        Each one is decoded on access. One that was not stored, because it is larger than 1 MB or can't be pickled, is
        listed, and its access raises `InputsNotStored`.

        Raises:
            InputsNotStored: they are missing in the journal or damaged.
        """
        with self._engine.reading() as reader:
            run = reader.runs(Select(run_ids=[self.id]))
        return arguments_of_run(self._engine, run[0]) if run else {}

    # -- history -----------------------------------------------------------------------------------------------

    def steps(self) -> pd.DataFrame:
        """Return its steps; see `ironflow_nb.steps`."""
        return frames.steps(run=self.id, engine=self._engine)

    def attempts(self) -> pd.DataFrame:
        """Return every attempt of its steps; see `ironflow_nb.attempts`."""
        return frames.attempts(run=self.id, engine=self._engine)

    def events(self) -> pd.DataFrame:
        """Return its events; see `ironflow_nb.events`."""
        return frames.events(run=self.id, engine=self._engine)

    def metrics(self) -> pd.DataFrame:
        """Return the values that were recorded in it; see `ironflow_nb.metrics`."""
        return metrics(run=self.id, engine=self._engine)

    def log(self, step: object = None) -> RunLog:
        """Return what its flow and its steps have written to stdout, stderr and logging, by time, a line a row.

        It displays itself as text, and ``str(run.log())`` is the text. Columns: run_id, step (empty for what the flow
        wrote between its steps), attempt (of the flow the number of the continuation), at, stream (``stdout``,
        ``stderr``, ``logging``, or ``omitted`` for the line in place of the middle of a long log), level (of logging),
        text.

        Args:
            step: only the log of this step, or of all steps of a function: the function, ``"fetch"``, ``"fetch[12]"``.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
        """
        return log_of(self._engine, self.id, step)

    def value(self, step: object) -> Any:
        """Return the recorded output of a step, named by its function, ``"fetch"`` or ``"fetch[12]"``.

        Of several steps with the name it is that which a completed run used last, if there is one: what an edit has
        replaced does not count.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
            StepNotFound: the step has no output (yet).
            ValueUnreadable: the output can't be read here.
        """
        rows = self._attempts()
        return output_of(self._engine, rows, self._step(rows, step), self.id)

    def values(self, step: object) -> list[Any]:
        """Return the recorded outputs of all steps of that function or name that have one, by index.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
            ValueUnreadable: an output can't be read here.
        """
        rows = self._attempts()
        found = [latest_output(rows, ref) for ref in resolve_steps(rows, step, self.id)]
        return [read_output(self._engine, row) for row in found if row is not None]

    def inputs(self, step: object) -> dict[str, Any]:
        """Return the recorded arguments of a step by name, those of its latest attempt.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
            InputsNotStored: they are missing in the journal.
            ValueUnreadable: one of them can't be read here.
        """
        rows = self._attempts()
        ref = self._step(rows, step)
        return recorded_call(self._engine, [row for row in rows if row.step == ref][-1]).inputs

    def timeline(self) -> Timeline:
        """Return the attempts of its steps and of the runs below it by time; it displays itself as a Gantt chart.

        Columns: run_id, step (empty for a run that waits for its place), attempt, kind (``step``, ``wait``, ``child``
        for the call of another flow, ``queue`` for the time before an attempt in which it waited for a lane or a
        breaker), status, reason (why it ran; of a queue what it waited for), started_at, finished_at (missing while it
        goes on, and where its process died), duration_s (of its work: until now if it goes on, until the last sign of
        its process if that died; 0 for a result that was taken over or given by hand), is_critical (on the critical
        path: the last one to end, and before each of them the one that ended last until it began; the steps of a child
        stand for their call). Sorted by started_at.
        """
        from ironflow_nb.history.timeline import timeline_of

        return timeline_of(self._engine, self.id)

    def lineage(self, step: object = None) -> Lineage:
        """Return which results and arguments went into each call of the run, and into its result, also as a picture.

        With a step only what went into it, directly or through others, and where its output went. The journal keeps
        the values, and not the ways that they took: a value came from where an equal one was recorded before. One that
        the flow itself has changed on its way has no source here; what is in values over 1 MB, or in pickles and
        frames, is not looked at.

        Columns: target (the step that was called, or ``result``), argument, source (a step, or ``argument n`` of the
        run), match (``whole``, or ``part`` if the source is in the argument), is_sure (False if several sources have
        an equal value, or it is as common as 0 or an empty text). By the beginnings of the steps.

        Raises:
            StepNotFound, AmbiguousStep: it names no step of the run, or several.
        """
        from ironflow_nb.history.lineage import lineage_of

        return lineage_of(self._engine, self.id, step)

    def diagram(self) -> Picture:
        """Return the current picture of the run, which displays itself in a notebook and has `svg` and `text`."""
        return picture_of(self._engine, self.id)

    def _is_own(self, run: RunRow | None) -> bool:
        """Return True if this user began the run; instances of deciders belong to every user."""
        if run is None or run.kind == RunKind.DECIDER or self.id in self._engine.sessions:
            return True
        with self._engine.access.journal.reading() as reader:
            return bool(own_runs(self._engine.access.signer, reader, [run]))

    def _step(self, rows: list[StepRow], step: object) -> StepRef:
        """Return the step that is named; of several of that name the one that a completed run used last."""
        try:
            return resolve_step(rows, step, self.id)
        except AmbiguousStep:
            run, status = run_status.run_and_status(self._engine, self.id)
            if run is None:
                raise
            with self._engine.reading() as reader:
                counted, _ = steps_that_count(reader, run, status)
            return resolve_step(counted, step, self.id)

    def _attempts(self) -> list[StepRow]:
        with self._engine.reading() as reader:
            rows = reader.steps(Select(run_ids=[self.id]))
        if not rows:  # that the run is not there is said as such
            run_status.run_and_status(self._engine, self.id)
        return rows

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(picture_of(self._engine, self.id))

    def __repr__(self) -> str:
        try:
            run, status = run_status.run_and_status(self._engine, self.id)
            foreign = "" if self._is_own(run) else f", {FOREIGN}"
        except Exception as error:  # noqa: BLE001 -- a repr never raises, also if the journal can't be read
            return plain(f"<run {self.id}: {error}>")
        name = run.name if run is not None else "?"
        durability = run.durability if run is not None else self._engine.durability.value
        return plain(f"<run {self.id} of {name}: {status.value}, durability={durability}{foreign}>")
