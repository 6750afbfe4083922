"""The table: which workloads there are, which figures are shown beside which floor, and what the budget is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import (
    cells,
    control_room,
    decisions,
    definitions,
    fan_out,
    graphs,
    history,
    live_card,
    long,
    start,
    steps,
    triggers,
    values,
)
from benchmarks.isolated import Workload

Samples = Mapping[str, Sequence[float]]
"""The figures of all repetitions, by name."""

WORKLOADS: Final[Sequence[Workload]] = (
    steps.steps_in_power,
    steps.steps_in_process,
    fan_out.map_in_power,
    fan_out.map_in_process,
    fan_out.gather_in_power,
    graphs.chain_in_power,
    graphs.chain_in_process,
    graphs.fan_in_power,
    steps.replayed_steps,
    steps.replayed_steps_of_many,
    steps.continued_steps,
    steps.run_of_three,
    start.importing,
    start.first_step,
    values.megabytes,
    values.frame_of_numbers,
    values.frame_with_text,
    history.state_of_a_run,
    history.newest_of_many_runs,
    live_card.card_beside_steps,
    live_card.frame_of_many_steps,
    control_room.frame_of_a_dashboard,
    control_room.moves_of_a_slider,
    cells.restored_cells,
    decisions.commands,
    decisions.commands_with_effects,
    decisions.replay,
    decisions.effects,
    definitions.definitions,
    triggers.triggers,
)
LONG: Final[Sequence[Workload]] = (history.events_of_many_runs, long.hundred_thousand_steps)

UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "bytes": 1.0}


@dataclass(frozen=True)
class Row:
    """One line: a figure, its floor, and the budget, which is a ratio to the floor or a figure in the row's unit."""

    what: str
    figure: str
    unit: str = "us"
    floor: str | None = None
    ratio: float | None = None
    limit: float | None = None


ROWS: Final = (
    Row("sequential durable step, power", "step, power", floor="row, power", ratio=1.3),
    Row("sequential durable step, process", "step, process", floor="row, process", ratio=4),
    Row("1,000 steps on 10 threads, power: a step", "mapped step, power", floor="row of threads, power", ratio=1.3),
    Row("the same, process", "mapped step, process", floor="row of threads, process"),
    Row("async gather of 1,000, power: a step, beyond the gather", "gathered step", floor="gathered row", limit=60),
    Row("node of a graph, one after the other, power", "node, power", floor="step beside nodes, power", ratio=1.5),
    Row("the same, process", "node, process", floor="step beside nodes, process", ratio=1.5),
    Row("1,000 nodes side by side, power: a node", "node of a fan", floor="mapped step beside nodes", ratio=2),
    Row("replayed step of 1,000, loading included", "replayed step of 1,000", floor="row read of 1,000", ratio=5),
    Row("replayed step of 10,000", "replayed step of 10,000", floor="row read of 10,000", ratio=5),
    Row(
        "4,000 steps continued with 4,000 new ones: processor time of a step, over that of 1,000",
        "new step beside 4,000", floor="new step beside 1,000", ratio=1.1,
    ),
    Row("run of 3 steps, power", "run of 3", floor="row beside runs, power", ratio=6.5),
    Row("`import ironflow_nb`, beyond Python's own start", "import", "ms", limit=100),
    Row(
        "first durable step of a process, existing journal",
        "first step, existing journal", "ms", floor="python before a step", limit=150,
    ),
    Row(
        "first durable step of a process, new journal",
        "first step, new journal", "ms", floor="python before a step", limit=250,
    ),
    Row("step that returns 1e6 bytes, power", "step of 1e6 bytes", "ms", floor="file of 1e6 bytes"),
    Row(
        "DataFrame of 1e6 x 4 numbers stored, power",
        "frame stored, numbers", "ms", floor="arrow file stored, numbers", ratio=1.3,
    ),
    Row("the same loaded", "frame loaded, numbers", "ms", floor="arrow file loaded, numbers", ratio=1.5),
    Row("the same as an argument: digest", "frame digested, numbers", "ms", "blake2b of the frame, numbers", ratio=1.5),
    Row(
        "DataFrame of 1e6 x 4, one column of text, stored, power",
        "frame stored, text", "ms", floor="arrow file stored, text", ratio=1.3,
    ),
    Row("the same loaded", "frame loaded, text", "ms", floor="arrow file loaded, text", ratio=1.5),
    Row("the same as an argument: digest", "frame digested, text", "ms", "blake2b of the frame, text", ratio=1.5),
    Row("state of a run after its 10,000th event", "state after 10,000 events", "ms", limit=50),
    Row("the last run of a flow, in a journal of 60,000 runs", "last of many runs", "ms", limit=5),
    Row("the ten newest steps there", "newest steps of many", "ms", limit=10),
    Row("fast step of a run with a live card, process", "step with a card", floor="step without a card", ratio=1.02),
    Row("live card of 10,000 steps: a frame read and made", "frame of 10,000 steps", "ms"),
    Row("the same: the delta of two frames", "delta of 10,000 steps", "ms", limit=20),
    Row("the same: what is sent for it", "patch of 10,000 steps", "ms", limit=20),
    Row("a frame of the dashboard of 10,000 runs", "frame of 10,000 runs", "ms", limit=100),
    Row("a move of the slider over 10,000 events", "move over 10,000 events", "ms", limit=100),
    Row(
        "ten durable cells restored by a new process, each a frame of 1e5 x 4",
        "ten restored cells", "ms", floor="shell with pandas", limit=2000,
    ),
    Row("a command decided, power", "command, power", floor="row beside commands, power", ratio=1.5),
    Row(
        "the same, with an effect and a timer",
        "command with an effect, power", floor="row beside effects, power",
    ),
    Row("an effect claimed, performed and settled, power", "effect, power", floor="row beside settling, power"),
    Row("replay of 10,000 events of an instance", "replay of 10,000 events", "ms", limit=20),
    Row("a graph of 1,000 nodes, as data: taken and checked", "graph checked", "ms", limit=200),
    Row("the same read from YAML, before it is checked", "graph read", "ms", limit=300),
    Row("a run begun over HTTP by 32 clients that wait for it", "trigger", "ms", floor="request to Starlette", limit=1),
    Row("the same: 99 of 100 are answered within", "trigger, p99", "ms"),
    Row("the same with a step", "trigger of a step", "ms", floor="request to Starlette"),
    Row("the same: 99 of 100 are answered within", "trigger of a step, p99", "ms"),
    Row("1e6 events as a DataFrame", "events as a frame", "s", floor="events fetched", ratio=1.2),
    Row(
        "100,000 steps, process: processor time of the last thousand over the first, a step",
        "step of the last thousand", floor="step of the first thousand", ratio=1.1,
    ),
    Row("the same: memory a step", "memory of a step", "bytes", limit=1000),
    Row("the same: journal a step", "journal of a step", "bytes"),
)  # fmt: skip


def table(samples: Samples, rows: Sequence[Row] = ROWS) -> str:
    """Return the rows of which there are figures as a Markdown table."""
    lines = ["| what | measured | floor | ratio | budget |", "| --- | --: | --: | --: | --: |"]
    return "\n".join([*lines, *(_line(row, samples) for row in rows if row.figure in samples)])


def _line(row: Row, samples: Samples) -> str:
    measured = statistics.median(samples[row.figure])
    floor = statistics.median(samples[row.floor]) if row.floor else None
    ratio = ratio_of(samples, row.figure, row.floor) if row.floor else None
    cells = [
        row.what,
        shown(measured, row.unit),
        "" if floor is None else shown(floor, row.unit),
        "" if ratio is None else f"{ratio:.2f}",
        _budget(row, measured, ratio),
    ]
    return f"| {' | '.join(cells)} |"


def ratio_of(samples: Samples, figure: str, floor: str) -> float:
    """Return the median ratio of two figures that were measured one after the other."""
    return statistics.median(above / below for above, below in zip(samples[figure], samples[floor], strict=True))


def _budget(row: Row, measured: float, ratio: float | None) -> str:
    if row.ratio is not None and ratio is not None:
        return f"{row.ratio:g} x{'' if round(ratio, 2) <= row.ratio else ', missed'}"
    if row.limit is not None:
        return f"{row.limit:g} {row.unit}{'' if measured / UNITS[row.unit] <= row.limit else ', missed'}"
    return ""


def shown(figure: float, unit: str) -> str:
    """Return the figure with its unit, to three places that count."""
    scaled = figure / UNITS[unit]
    places = 0 if abs(scaled) >= 100 else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:,.{places}f} {unit}"
