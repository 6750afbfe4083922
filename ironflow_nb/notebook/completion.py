"""What Tab offers after ``%ironflow``, and in the quotes where a run wants one of its steps."""

from __future__ import annotations

import re
from typing import Any, Final

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult

from ironflow_nb.errors import IronflowError
from ironflow_nb.handles.launching import Launchable
from ironflow_nb.handles.run import Run
from ironflow_nb.notebook.magics import complete

_MAGIC: Final = re.compile(r"\s*%ironflow\s+.*")
_STEP: Final = re.compile(r"""([A-Za-z_]\w*)(\.last)?\.(?:explain|debug|value|values|inputs)\(\s*(["'])([^"']*)$""")
_MOST: Final = 200


class RunMatcher:
    """Completes verbs, ids of runs and ids of steps, and where it knows some, nothing else is offered."""

    # What IPython's completer asks of a matcher.
    matcher_identifier: Final = "ironflow_nb.run"
    matcher_priority: Final = 0
    matcher_api_version: Final = 2

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.__qualname__ = type(self).__name__

    def __call__(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return what fits at the cursor."""
        line = context.line_with_cursor[: context.cursor_position]
        if _MAGIC.fullmatch(line):
            word = "" if line[-1].isspace() else line.split()[-1]
            return _result(complete(line), word)
        found = _STEP.search(line)
        return _result([], "") if found is None else _result(self._steps(found[1], is_last=bool(found[2])), found[4])

    def _steps(self, name: str, *, is_last: bool) -> list[str]:
        """Return the ids of the steps of the run that the variable holds, or of the last run of its flow."""
        held = self._shell.user_ns.get(name)
        try:
            run = held.last if is_last and isinstance(held, Launchable) else held
            steps = run.steps()["step"].tolist() if isinstance(run, Run) else []
        except IronflowError:
            return []
        return [step for step in steps[:_MOST] if step.isprintable()]


def _result(offered: list[str], word: str) -> SimpleMatcherResult:
    fitting = [SimpleCompletion(text=each, type="keyword") for each in offered if each.startswith(word)]
    return {"completions": fitting, "matched_fragment": word, "suppress": bool(fitting), "ordered": True}
