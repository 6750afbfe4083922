"""The questions that runs ask now: what is recorded of each, their frame, and answers to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import plain, short_repr
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import CLOSED, OWNED, RunKind, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import WaitKind, parse_work_key
from ironflow_nb.errors import (
    AmbiguousStep,
    InputInvalid,
    IronflowError,
    NothingToDo,
    RunFinished,
    StepNotFound,
    ValueUnreadable,
)
from ironflow_nb.execution import REGISTRY, Engine, answer_waiting, refuse_answered
from ironflow_nb.handles.questions import Choice, Question, Typed, answer_of
from ironflow_nb.history.lookup import resolve_step
from ironflow_nb.history.recorded_values import CONTENT_LIMIT, fields_of_call, preview_argument, references
from ironflow_nb.history.run_status import run_and_status, statuses_of
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueSelect, Reader, Select
from ironflow_nb.values.codecs import REFERENCE
from ironflow_nb.values.stored_value import StoredValue, legible
from ironflow_nb.values.tagged import TAG, untag

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.views.inbox_view import QuestionView
    from ironflow_nb.views.run_view import WaitView


_COLUMNS: Final = {
    "run_id": TEXT, "flow": TEXT, "step": TEXT, "question": TEXT, "fits": TEXT, "choices": "object", "payload": TEXT,
    "asked_at": INSTANT, "expires_at": INSTANT, "status": TEXT, "expression": TEXT,
}  # fmt: skip
_UNKNOWN: Final = Typed("?", {})
_LENGTH: Final = 80


class OpenQuestion(NamedTuple):
    """A question that a run asks, with a preview of its payload, None without one; the error if it can't be read."""

    row: StepRow
    question: Question
    payload: str | None
    error: IronflowError | None = None

    def __str__(self) -> str:
        return f"{self.row.step} {self.question}"

    @property
    def expression(self) -> str:
        """The expression that answers it."""
        return self.question.expression(self.row.run_id, self.row.step)


def waiting(*, engine: Engine | None = None) -> pd.DataFrame:
    """Return the questions that all runs of the journal ask now, one row each, the oldest first.

    A notebook displays it as an inbox, with a form for each question; it stays a DataFrame.

    Columns: run_id, flow (its name), step (``iron.approve[0]``), question, fits (which answers do, in words), choices
    (a list where there is one to choose from, else None), payload (a preview), asked_at, expires_at (empty for a
    question without a time limit), status (of the run: ``waiting``, or ``running`` while something else in it does),
    expression (which answers it).

    Args:
        engine: the journal to read; by default the current one.
    """
    from ironflow_nb.handles.inbox_frame import Inbox

    engine = engine or REGISTRY.engine()
    return Inbox.of_rows(questions_frame(asked_now(engine)), engine)


def questions_frame(asked: Iterable[tuple[OpenQuestion, RunRow, RunStatus]]) -> pd.DataFrame:
    """Return the frame of `waiting` of these questions."""
    return frame_of_records(_COLUMNS, [_record(*each) for each in asked])


def asked_now(engine: Engine, newest: int | None = None) -> list[tuple[OpenQuestion, RunRow, RunStatus]]:
    """Return the open questions of all runs, or the newest, the oldest first, each with its run and its status."""
    with engine.reading() as reader:
        items = sorted(reader.work(QueueSelect(kind=WaitKind.APPROVAL)), key=lambda item: item.created_at)
        items = items if newest is None else items[-newest:]
        found = reader.runs(Select(run_ids={item.run_id for item in items}))
        statuses = statuses_of(engine, reader, found)
        asking = [run_id for run_id, status in statuses.items() if status in OWNED or status is RunStatus.INTERRUPTED]
        questions = questions_of(engine, reader, asking)
    runs = {run.run_id: run for run in found}
    return [(each, runs[each.row.run_id], statuses[each.row.run_id]) for each in questions]


def question_views(engine: Engine, newest: int | None = None) -> list[QuestionView]:
    """Return what is shown of the open questions of all runs, or of the newest, the oldest first."""
    from ironflow_nb.views.inbox_view import QuestionView

    return [
        QuestionView(run_id=run.run_id, flow=plain(run.name), status=status, wait=wait_view(asked))
        for asked, run, status in asked_now(engine, newest)
    ]


def wait_view(asked: OpenQuestion) -> WaitView:
    """Return what is shown of a question."""
    from ironflow_nb.views.run_view import WaitView

    row, answer = asked.row, asked.question.answer
    return WaitView(
        step=row.step, kind=WaitKind.APPROVAL, since_at=row.started_at, due_at=row.due_at,
        question=plain(asked.question.text), fits=plain(answer.fits), payload=asked.payload, form=answer.form,
        choices=answer.choices, expression=asked.expression,
    )  # fmt: skip


def _record(asked: OpenQuestion, run: RunRow, status: RunStatus) -> Mapping[str, object]:
    row, question = asked.row, asked.question
    return {
        "run_id": row.run_id,
        "flow": plain(run.name),
        "step": plain(row.step),
        "question": plain(question.text),
        "fits": plain(question.answer.fits),
        "choices": list(question.answer.options) if isinstance(question.answer, Choice) else None,
        "payload": asked.payload,
        "asked_at": row.started_at,
        "expires_at": row.due_at,
        "status": status.value,
        "expression": plain(asked.expression),
    }


def questions_of(
    engine: Engine, reader: Reader, run_ids: Collection[str], waits: Sequence[StepRow] | None = None
) -> list[OpenQuestion]:
    """Return the questions that these runs ask, in the order in which they were asked.

    Args:
        engine: it reads the values.
        reader: the transaction.
        run_ids: the runs.
        waits: the steps of theirs that wait, if they were read already.
    """
    items = reader.work(QueueSelect(run_ids=run_ids, kind=WaitKind.APPROVAL))
    asking = {(item.run_id, parse_work_key(item.key)[0]) for item in items}
    select = Select(run_ids=[run_id for run_id, _ in asking], step_statuses={StepStatus.WAITING}, is_latest=True)
    rows = [] if not asking else waits if waits is not None else reader.steps(select)
    asked = sorted((row for row in rows if (row.run_id, row.step) in asking), key=lambda row: row.started_at)
    inputs = {row.inputs_id for row in asked if row.inputs_id is not None}
    records = reader.values(inputs, of=[row.row_key for row in asked])
    calls = [_fields(records.get(row.inputs_id) if row.inputs_id else None) for row in asked]
    of_payloads = {each for fields in calls for each in references({"payload": fields.get("payload")})}
    values = reader.values(of_payloads, content_limit=CONTENT_LIMIT)
    needed = {each for fields in calls for each in references({**fields, "payload": None})}
    values |= reader.values(needed)
    return [_question(engine, row, fields, values) for row, fields in zip(asked, calls, strict=True)]


def _fields(record: StoredValue | None) -> Mapping[str, Any]:
    return (None if record is None else fields_of_call(record, RunKind.FLOW)) or {}


def _question(
    engine: Engine, row: StepRow, fields: Mapping[str, Any], values: Mapping[ValueId, StoredValue]
) -> OpenQuestion:
    payload = None if fields.get("payload") is None else preview_argument(fields["payload"], values)
    try:
        text = _read(engine, fields["question"], values)
        answer = answer_of(_read(engine, fields.get("answer"), values))
    except (IronflowError, KeyError) as error:  # its classes are not here, or the journal is damaged
        trouble = ValueUnreadable(f"{row.step} of run {row.run_id} can't be read here: {error}", run_id=row.run_id)
        return OpenQuestion(row, Question("(can't be read here)", _UNKNOWN), payload, trouble)
    return OpenQuestion(row, Question(str(text), answer), payload)


def _read(engine: Engine, tree: Any, values: Mapping[ValueId, StoredValue]) -> Any:
    """Return an argument of a question."""
    if type(tree) is not dict or tree.get(TAG) != REFERENCE:
        return untag(tree)
    stored = values.get(ValueId(bytes.fromhex(tree["v"])))
    if stored is None:
        raise ValueUnreadable("it is missing in the journal; put that back from a copy")
    return engine.codecs.decode(stored)


# -- answers ---------------------------------------------------------------------------------------------------------


def answer_question(engine: Engine, run_id: RunId, value: object, step: object = None) -> None:
    """Answer an open question of the run, or of its children if it asks none; see `Run.answer`."""
    asked = find_question(engine, run_id, step)
    answer_waiting(engine, asked.row, sent_answer(engine, asked, value))


def answer_typed(engine: Engine, run_id: RunId, line: str, step: object = None) -> None:
    """Answer an open question of the run by what a person has typed; see `Run.answer`."""
    asked = find_question(engine, run_id, step)
    try:
        payload = asked.question.read(line)
    except ValueError as error:
        raise _misfit(asked, line, error) from None
    answer_waiting(engine, asked.row, payload)


def find_question(engine: Engine, run_id: RunId, step: object = None) -> OpenQuestion:
    """Return the open question of that reference, or the only one.

    Raises:
        RunFinished, NothingToDo, AmbiguousStep, StepNotFound: see `Run.answer`.
    """
    status = run_and_status(engine, run_id)[1]
    if status in CLOSED:
        raise RunFinished(f"run {run_id} is {status.value}, so it waits for no answer any more", run_id=run_id)
    with engine.reading() as reader:
        found = questions_of_family(engine, reader, run_id)
        if step is not None:
            found = _named(reader, run_id, found, step)
    if not found:
        raise NothingToDo(f"run {run_id} asks nothing now; iron.waiting() lists all open questions", run_id=run_id)
    if len(found) > 1:
        listed = "; ".join(map(str, found))
        raise AmbiguousStep(
            f'run {run_id} asks several questions: {listed}; name one: .answer(..., step="{found[0].row.step}")',
            run_id=found[0].row.run_id,
            step=found[0].row.name,
        )
    return found[0]


def _named(reader: Reader, run_id: RunId, found: list[OpenQuestion], step: object) -> list[OpenQuestion]:
    """Return the question that is this step of the run, or else of a child; raise an error if it is no longer open.

    A step of the run itself takes precedence: an answer that is given twice must not answer the question of a child.
    """
    unknown: StepNotFound | None = None
    for asking in dict.fromkeys([run_id, *(each.row.run_id for each in found)]):
        rows = reader.steps(Select(run_ids=[asking], is_latest=True))
        try:
            ref = resolve_step(rows, step, asking)
        except StepNotFound as error:
            unknown = unknown or error
            continue
        named = [each for each in found if (each.row.run_id, each.row.step) == (asking, ref)]
        if not named:
            refuse_answered(reader, next(row for row in rows if row.step == ref))
        return named
    assert unknown is not None
    raise unknown


def questions_of_family(engine: Engine, reader: Reader, run_id: RunId) -> list[OpenQuestion]:
    """Return the questions of the run, or if it asks none those of its children."""
    found = questions_of(engine, reader, [run_id])
    if found:
        return found
    children = [row.child_run_id for row in reader.steps(Select(run_ids=[run_id], is_latest=True)) if row.child_run_id]
    return [each for child in children for each in questions_of_family(engine, reader, child)]


def sent_answer(engine: Engine, asked: OpenQuestion, value: object) -> Any:
    """Return the answer in the form in which it is sent to the run.

    Raises:
        InputInvalid: it does not fit.
        ValueUnreadable: what fits can't be read here.
    """
    if asked.error is not None:
        raise asked.error
    session = engine.sessions.get(asked.row.run_id)
    here = None if session is None else session.waits.question(asked.row.step)
    answer = here.answer if isinstance(here, Question) else asked.question.answer  # the flow knows the type itself
    try:
        return answer.sent(value)
    except ValueError as error:
        raise _misfit(asked, value, error) from None


def _misfit(asked: OpenQuestion, value: object, error: ValueError) -> InputInvalid:
    given = legible(" ".join(short_repr(value).split()), _LENGTH)
    return InputInvalid(
        f"{asked} of run {asked.row.run_id} takes {plain(asked.question.answer.fits)}, not {given}: "
        f"{plain(str(error))}; it waits on",
        name=asked.row.step,
    )
