"""Answers as a form gives them: a line that was typed, or the rows of a table that was edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import InputInvalid
from ironflow_nb.execution import Engine
from ironflow_nb.handles.open_questions import answer_question, answer_typed, find_question
from ironflow_nb.handles.recorded_call import recorded_call

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.handles.frame_table import FrameTable


def give_answer(engine: Engine, run_id: RunId, form: Mapping[str, Any]) -> None:
    """Answer a question of the run by a form: by its `line`, or by the `rows` of its table.

    Raises:
        InputInvalid: it does not fit.
        RunFinished, NothingToDo, StepNotFound: see `Run.answer`.
    """
    if "rows" not in form:
        answer_typed(engine, run_id, form["line"], form["step"])
        return
    from ironflow_nb.handles.frame_table import edited_frame

    frame = _asked_frame(engine, run_id, form["step"])
    try:
        edited = edited_frame(frame, form["rows"])
    except ValueError as error:
        raise InputInvalid(f"{error}; nothing was answered", name=form["step"]) from None
    answer_question(engine, run_id, edited, form["step"])


def table_of(engine: Engine, run_id: RunId, step: str) -> FrameTable:
    """Return the frame that a question asks to edit, as texts.

    Raises:
        ValueUnreadable: it can't be read here.
        ValueError: it is too large to be edited in a form.
    """
    from ironflow_nb.handles.frame_table import frame_table

    return frame_table(_asked_frame(engine, run_id, step))


def _asked_frame(engine: Engine, run_id: RunId, step: str) -> pd.DataFrame:
    asked = find_question(engine, run_id, step)
    found: pd.DataFrame = recorded_call(engine, asked.row).inputs["payload"]
    return found
