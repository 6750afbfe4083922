"""Waiting for a run that a call has joined, in its cell or terminal: what the run asks is asked there."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.plain_text import plain
from ironflow_nb.errors import InputInvalid, NothingToDo, ResultTimeout, RunFinished
from ironflow_nb.execution import Engine, ReadingEnded, can_read_line, read_line, say
from ironflow_nb.handles.open_questions import OpenQuestion, answer_typed, questions_of_family

if TYPE_CHECKING:
    from ironflow_nb.handles.run import Run

LOOK_S: Final = 0.5
"""Seconds between two looks for questions."""


def wait_for_joined(engine: Engine, run: Run[Any]) -> None:
    """Wait until the run has ended. Where a line can be typed, ask what it or a child of it asks meanwhile."""
    if not (engine.threads.is_main() and can_read_line()):
        run.wait()
        return
    left_for_later: set[tuple[str, str]] = set()
    while True:
        with suppress(ResultTimeout):
            run.wait(LOOK_S)
            return
        for asked in _open_questions(engine, run):
            place = asked.row.run_id, asked.row.step
            if place not in left_for_later and asked.question.prompt is not None and not _is_answered(engine, asked):
                left_for_later.add(place)


def _open_questions(engine: Engine, run: Run[Any]) -> list[OpenQuestion]:
    with engine.reading() as reader:
        return questions_of_family(engine, reader, run.id)


def _prompt(asked: OpenQuestion) -> str:
    """Return the question, a preview of its payload, and what fits."""
    question, _, hint = (asked.question.prompt or "").rpartition("\n")
    return "\n".join([question, *([] if asked.payload is None else [plain(asked.payload)]), hint])


def _is_answered(engine: Engine, asked: OpenQuestion) -> bool:
    """Ask until there is an answer, from here or elsewhere; return False if the person has none yet."""
    trouble, row = "", asked.row

    def is_over() -> bool:
        with engine.reading() as reader:
            return all(each.row.step != row.step for each in questions_of_family(engine, reader, row.run_id))

    while True:
        try:
            line = read_line(f"{trouble}{_prompt(asked)} (an empty line: later): ", is_over)
        except ReadingEnded:
            return True
        except EOFError:  # stdin is at its end
            line = ""
        if not line.strip():
            return False
        try:
            answer_typed(engine, row.run_id, line, row.step)
        except InputInvalid as error:
            trouble = f"{error}\n"
        except (NothingToDo, RunFinished) as error:
            say(str(error))
            return True
        else:
            return True
