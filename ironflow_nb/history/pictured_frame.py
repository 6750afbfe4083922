"""DataFrames that display a headline and a picture above their rows; a plan is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, Final, Self

import pandas as pd

from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.draw import Picture, draw
from ironflow_nb.diagram.model import Diagram
from ironflow_nb.diagram.states import NodeState, node_states
from ironflow_nb.history.history_frame import column_texts
from ironflow_nb.history.plan_summary import summary
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records

_SHOWN_ROWS = 60


class WholeTextFrame(pd.DataFrame):
    """A DataFrame that displays its texts in full in a notebook, and other values shortly.

    Pandas cuts texts after 50 characters, and shows instants with all their digits.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return WholeTextFrame

    def _repr_html_(self) -> str | None:
        rows = pd.DataFrame(self)
        if len(rows) <= _SHOWN_ROWS and rows.columns.is_unique:
            rows = pd.DataFrame({name: column_texts(rows[name]) for name in rows})
        with pd.option_context("display.max_rows", _SHOWN_ROWS, "display.max_colwidth", None):
            return rows._repr_html_()  # type: ignore[operator,no-any-return]


class PicturedFrame(WholeTextFrame):
    """A DataFrame with a headline and a picture; what is derived from it has neither."""

    _metadata = ["headline", "picture"]  # noqa: RUF012 -- how pandas lets a subclass have attributes of its own
    headline: str = ""
    picture: Picture | None = None

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, picture: Picture | None, headline: str = "") -> Self:
        """Return the rows of the frame, shown below the headline and the picture."""
        made = cls(frame)
        made.headline, made.picture = headline, picture
        return made

    def __repr__(self) -> str:
        return f"{self.headline}\n{super().__repr__()}".lstrip("\n")

    def _repr_html_(self) -> str | None:
        table = super()._repr_html_()
        picture = self.picture
        drawn = f"<div>{picture.html}</div>" if picture is not None and picture.html is not None else ""
        headline = f"<b>{escape(self.headline)}</b>" if self.headline else ""
        return f"<div>{headline}{drawn}{table}</div>"


COLUMNS: Final = {
    "step": TEXT, "name": TEXT, "index": "int64", "action": TEXT, "reason": TEXT, "duration_s": "float64",
    "attempt": COUNT, "finished_at": INSTANT,
}  # fmt: skip

_STATUSES: Final = {
    Action.REUSE: StepStatus.COMPLETED, Action.REPLAY: StepStatus.FAILED, Action.RETRY: StepStatus.PENDING,
    Action.REDO: StepStatus.PENDING, Action.STOP: StepStatus.WAITING, Action.ASK: StepStatus.UNKNOWN,
    Action.MISSING: StepStatus.SKIPPED,
}  # fmt: skip


class Plan(PicturedFrame):
    """What would happen to each recorded step, one row each; `headline` sums it up."""

    @classmethod
    def of(
        cls,
        planned: Iterable[Planned],
        begin: str,
        diagram: Diagram | None = None,
        keys: Mapping[StepRef, str] | None = None,
    ) -> Plan:
        """Make the plan.

        Args:
            planned: what would happen to the recorded steps.
            begin: the first part of the headline: what happens to the run.
            diagram: that of its flow.
            keys: the keys of the nodes that show the steps; by default the names of the steps.
        """
        steps = list(planned)
        frame = frame_of_records(COLUMNS, [_plan_row(each) for each in steps])
        picture = (
            None
            if diagram is None
            else draw(diagram, _node_states(steps, keys or {}), prefix=f"iron-plan-{diagram.name}")
        )
        return cls.of_frame(frame, picture, plain(f"{begin}: {parts}" if (parts := summary(steps)) else begin))

    def diagram(self) -> Picture | None:
        """Return the diagram of the flow with the plan of its steps; None if nothing is recorded.

        Steps that would be done or tried again are pending. A step that stops the run is waiting. A step without a
        known outcome is unknown.
        """
        return self.picture


def _node_states(planned: list[Planned], keys: Mapping[StepRef, str]) -> dict[str, NodeState]:
    return node_states(
        (keys.get(each.step, each.row.name), _STATUSES[each.action], 1, each.row.duration_s) for each in planned
    )


def _plan_row(planned: Planned) -> dict[str, Any]:
    row = planned.row
    return {
        "step": plain(planned.step), "name": plain(row.name), "index": row.index, "action": planned.action.value,
        "reason": plain(planned.reason), "duration_s": row.duration_s, "attempt": row.attempt,
        "finished_at": row.finished_at,
    }  # fmt: skip
