"""What is shown of one node of a run's diagram: the steps that belong to it, as texts, and its source."""

from __future__ import annotations

import msgspec

from ironflow_nb.views.item_strip import ItemStrip


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """The latest attempt of a step. Inputs, output and error are previews; times are microseconds UTC."""

    step: str
    status: str
    attempt: int
    """The number of the attempt, from 1: how many there were."""
    started_at: int
    duration_s: float | None = None
    reason: str = ""
    inputs: str = ""
    output: str | None = None
    error: str | None = None
    child_run_id: str | None = None
    can_edit: bool = False
    """Whether it can be given a result by hand now."""


class NodeDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A node with its steps: those that failed or are at work first, then the newest."""

    node_id: str
    label: str
    title: str = ""
    n_steps: int = 0
    strip: ItemStrip = ItemStrip()
    """The states of all steps of the node, if there are several."""
    steps: tuple[StepView, ...] = ()
    source: str = ""
    """The source of the step as it is defined here; empty if it is not."""
    log: tuple[str, ...] = ()
    """The last lines that the listed steps have written."""
