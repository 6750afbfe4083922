"""The Gantt chart of a run: its attempts as bars over a common axis of time, as SVG and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import StepStatus
from ironflow_nb.diagram.palette import LINE, WAY, step_look
from ironflow_nb.diagram.sizes import clipped, xml_attribute, xml_text
from ironflow_nb.diagram.svg_shapes import number
from ironflow_nb.diagram.time_axis import TimeAxis

STEP, WAIT, CHILD, QUEUE = "step", "wait", "child", "queue"
"""What a bar shows: a body at work, a wait, the call of another flow, and standing in line before a body."""

_LABELS, _WIDTH, _HEIGHT, _AXIS, _MARGIN = 200, 560, 20, 24, 110
_CURVE, _GAP, _INDENT, _FONT = 40, 22, 10, 11
_N_TICKS: Final = 4
_N_ROWS: Final = 100
"""The rows of a picture at most; the frame has all attempts."""
_N_CHARACTERS: Final = 48
_LABEL_LENGTH: Final = 28
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_SHADES: Final = {STEP: "█", WAIT: "░", QUEUE: "·", CHILD: "▔"}


class Bar(NamedTuple):
    """An attempt in the chart, from its beginning `until` the end of its work; microseconds UTC.

    `reason` is why it ran, of a bar of a queue what it stood in line for. `path` are the names of the calls that led to
    it, and its own. One that `is_taken` has taken a result that was there, and did no work in this run.
    """

    run_id: RunId
    step: StepRef
    attempt: int
    kind: str
    status: StepStatus
    reason: str
    started_at: int
    finished_at: int | None
    until: int
    path: tuple[str, ...]
    is_taken: bool = False
    is_critical: bool = False

    @property
    def words(self) -> str:
        """What the bar says, as a sentence for tooltips and readers of screens."""
        what = f"waited for {self.reason}" if self.kind == QUEUE else f"{self.kind} {self.status.value}"
        critical = ", on the critical path" if self.is_critical else ""
        return f"{self.step or 'the run'}, attempt {self.attempt}: {what}, {spoken(self.duration_s)}{critical}"

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return (self.until - self.started_at) / 1e6


class _Row(NamedTuple):
    """A line of the chart: bars of one step after each other; only the first line of a step has its label."""

    label: str
    depth: int
    bars: list[Bar]

    @property
    def duration(self) -> str:
        """How long its bars took, on average if there are several."""
        busy = [bar for bar in self.bars if bar.kind != QUEUE] or self.bars
        mean = spoken(sum(bar.duration_s for bar in busy) / len(busy))
        return mean if len(busy) == 1 else f"{len(busy)} {_TIMES} {mean}"


def gantt_svg(bars: Sequence[Bar], curve: Sequence[tuple[int, int]], name: str) -> str:
    """Return the chart. Bars on the critical path have a strong outline, waits a dashed one, queues are thin.

    Args:
        bars: what has a length of its own, by its beginning.
        curve: from which instant on how many bodies were at work.
        name: of the run.
    """
    rows, n_more = _shown(rows_of(bars))
    axis = TimeAxis.of([(bar.started_at, bar.until) for bar in bars], _WIDTH, _GAP)
    top = _AXIS + _HEIGHT * (len(rows) + (n_more > 0))
    width, height = _LABELS + _WIDTH + _MARGIN, top + _CURVE + 16
    parts = [_ticks(axis, top + _CURVE)]
    parts += [_drawn(row, axis, _AXIS + index * _HEIGHT) for index, row in enumerate(rows)]
    if n_more:
        parts.append(_text(8, top - 6, f"and {n_more} more rows"))
    parts.append(_parallelism(curve, axis, top + 8))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label={xml_attribute(f"timeline of {name}")} font-family="system-ui,sans-serif" '
        f'font-size="{_FONT}">{"".join(parts)}</svg>'
    )


def gantt_text(bars: Sequence[Bar]) -> str:
    """Return the chart as text: a line for each row, ``*`` marks one that is on the critical path."""
    rows, n_more = _shown(rows_of(bars))
    axis = TimeAxis.of([(bar.started_at, bar.until) for bar in bars], _N_CHARACTERS, 1)
    more = [f"and {n_more} more rows"] if n_more else []
    return "\n".join([*(_line(row, axis) for row in rows), *more])


def rows_of(bars: Iterable[Bar]) -> list[_Row]:
    """Return the rows of the chart: those of one step beside each other, and below a call those of its run.

    Bars that do not overlap share a row, so a step that is called a thousand times, eight at once, has eight rows.
    """
    groups: dict[tuple[str, ...], list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.path, []).append(bar)
    began = {path: order for order, path in enumerate(groups)}

    def place(path: tuple[str, ...]) -> list[tuple[int, str]]:
        return [(began.get(path[: n + 1], began[path]), path[n]) for n in range(len(path))]

    return [row for path in sorted(groups, key=place) for row in _packed(path, groups[path])]


def _packed(path: tuple[str, ...], bars: Sequence[Bar]) -> Iterator[_Row]:
    lines: list[list[Bar]] = []
    line_of: dict[tuple[RunId, StepRef], int] = {}
    for bar in bars:
        free = [n for n, line in enumerate(lines) if line[-1].until <= bar.started_at]
        last = line_of.get((bar.run_id, bar.step))  # a step stays on its line, with its queue and its attempts
        chosen = last if last in free else next(iter(free), len(lines))
        assert chosen is not None
        if chosen == len(lines):
            lines.append([])
        lines[chosen].append(bar)
        line_of[bar.run_id, bar.step] = chosen
    short = path[-1].rpartition(".")[2] or "the run"
    label = short if len(line_of) == 1 else f"{short} {_TIMES}{len(line_of)}"
    if len(line_of) == 1 and bars[0].step:
        label = bars[0].step.rpartition(".")[2]
    for n, line in enumerate(lines):
        yield _Row(label if n == 0 else "", len(path) - 1, line)


def _shown(rows: Sequence[_Row]) -> tuple[list[_Row], int]:
    """Return the rows that fit, those on the critical path before others, and how many do not."""
    by_weight = sorted(range(len(rows)), key=lambda n: not any(bar.is_critical for bar in rows[n].bars))
    chosen = sorted(by_weight[:_N_ROWS])
    return [rows[n] for n in chosen], len(rows) - len(chosen)


def _line(row: _Row, axis: TimeAxis) -> str:
    cells = [" "] * _N_CHARACTERS
    for gap in axis.gaps:
        cells[min(int(gap.left + 0.5), _N_CHARACTERS - 1)] = "¦"
    for bar in row.bars:
        first = min(round(axis.place(bar.started_at)), _N_CHARACTERS - 1)
        last = max(first + 1, min(round(axis.place(bar.until)), _N_CHARACTERS))
        cells[first:last] = _SHADES[bar.kind] * (last - first)
    label = f"{'  ' * row.depth}{row.label}"
    label = label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"
    mark = "*" if any(bar.is_critical for bar in row.bars) else " "
    glyph = step_look(row.bars[-1].status).glyph if row.label else " "
    return f"{glyph} {label:<{_LABEL_LENGTH}} {mark}|{''.join(cells)}| {row.duration}"


def _ticks(axis: TimeAxis, bottom: float) -> str:
    parts = []
    for index in range(_N_TICKS + 1):
        left = _LABELS + _WIDTH * index / _N_TICKS
        line = f'<path d="M{number(left)} {_AXIS - 4}V{number(bottom)}" stroke="{LINE}" stroke-opacity=".25"/>'
        since_s = (axis.instant(_WIDTH * index / _N_TICKS) - axis.first) / 1e6
        parts.append(line + _text(left + 2, 12, spoken(since_s) if index else "0"))
    for gap in axis.gaps:
        left, right = _LABELS + gap.left, _LABELS + gap.left + _GAP
        title = f"<title>{xml_text(f'nothing for {spoken(gap.length_s)}')}</title>"
        lines = "".join(f"M{number(x)} {_AXIS}V{number(bottom)}" for x in (left, right))
        parts.append(
            f'<g>{title}<rect x="{number(left)}" y="{_AXIS}" width="{_GAP}" height="{number(bottom - _AXIS)}" '
            f'fill="{LINE}" fill-opacity=".12"/><path d="{lines}" stroke="{LINE}" stroke-dasharray="2 3"/></g>'
        )
    return "".join(parts)


def _drawn(row: _Row, axis: TimeAxis, top: float) -> str:
    label = clipped(row.label, font_size=_FONT, room=_LABELS - 40 - _INDENT * row.depth)
    glyph = step_look(row.bars[-1].status).glyph if row.label else ""
    texts = _text(8 + _INDENT * row.depth, top + 14, f"{glyph} {label}".rstrip())
    texts += _text(_LABELS + _WIDTH + 8, top + 14, row.duration)
    return texts + "".join(_rectangle(bar, axis, top) for bar in _visible(row.bars, axis))


def _visible(bars: Iterable[Bar], axis: TimeAxis) -> Iterator[Bar]:
    """Yield the bars without those that would cover a pixel that another one of the same look covers already."""
    drawn: tuple[float, StepStatus, str, bool] | None = None
    for bar in bars:
        look = round(axis.place(bar.until)), bar.status, bar.kind, bar.is_critical
        if look != drawn:
            yield bar
        drawn = look


def _rectangle(bar: Bar, axis: TimeAxis, top: float) -> str:
    look, left = step_look(bar.status), axis.place(bar.started_at)
    width = max(axis.place(bar.until) - left, 2)
    outline = f'stroke="{WAY}" stroke-width="2.5"' if bar.is_critical else f'stroke="{look.stroke}"'
    dashed = ' stroke-dasharray="4 2"' if bar.kind == WAIT else ""
    inset = {QUEUE: 8, CHILD: 6}.get(bar.kind, 3)
    box = f'x="{number(_LABELS + left)}" y="{number(top + inset)}" width="{number(width)}"'
    shape = f'<rect {box} height="{_HEIGHT - 2 * inset}" rx="{2 if width > 6 else 0}" fill="{look.fill}" '
    return f"<g><title>{xml_text(bar.words)}</title>{shape}{outline}{dashed}/></g>"


def _parallelism(curve: Sequence[tuple[int, int]], axis: TimeAxis, top: float) -> str:
    """Return how many bodies were at work, as an area below the bars."""
    most = max((n for _, n in curve), default=0)
    if not most:
        return ""
    bottom = top + _CURVE
    steps = [f"M{number(_LABELS)} {number(bottom)}"]
    peaks: dict[int, int] = {}
    last: dict[int, int] = {}
    for at, n in curve:  # of each pixel the most, and what it goes on with
        left = round(_LABELS + axis.place(at))
        peaks[left], last[left] = max(peaks.get(left, 0), n), n
    for left, n in peaks.items():
        steps.append(f"H{left}V{number(bottom - n / most * _CURVE)}")
        if last[left] != n:
            steps.append(f"H{left + 1}V{number(bottom - last[left] / most * _CURVE)}")
    area = f'<path d="{"".join(steps)}H{number(_LABELS + _WIDTH)}V{number(bottom)}Z" fill="{LINE}" fill-opacity=".35"/>'
    told = f"at work at once: {most} at most"
    return f"<g><title>{xml_text(told)}</title>{area}{_text(8, bottom - 4, told)}</g>"


def _text(left: float, top: float, text: str) -> str:
    return f'<text x="{number(left)}" y="{number(top)}" fill="{LINE}">{xml_text(text)}</text>'
