"""The view of a journal as text, and as tables of HTML that need no script: what a saved notebook keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final, NamedTuple

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.plain_text import counted
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.palette import run_look
from ironflow_nb.views.journal_view import FlowSummary, JournalView, RunSummary

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BARS: Final = "▁▂▃▄▅▆▇█"
_LENGTH: Final = 60
_STYLE: Final = "font:13px/1.45 system-ui,sans-serif"


class TableText(NamedTuple):
    """A part of what is shown: a title, and rows of texts, of which the first are the names of the columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]


def journal_text(view: JournalView) -> str:
    """Return the view as text; its times are local."""
    lines = list(_headlines(view))
    for title, rows in _tables(view):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["", title]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def journal_html(view: JournalView) -> str:
    """Return the view as HTML that cleaners of untrusted notebooks leave as it is."""
    parts = [f"<div><b>{escape(line)}</b></div>" if not n else f"<div>{escape(line)}</div>"
             for n, line in enumerate(_headlines(view))]  # fmt: skip
    for title, (head, *body) in _tables(view):
        names = "".join(f'<th style="text-align:left">{escape(each)}</th>' for each in head)
        lines = "".join(f"<tr>{''.join(f'<td>{escape(each)}</td>' for each in row)}</tr>" for row in body)
        parts.append(f"<h4>{escape(title)}</h4><table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>")
    return f'<div style="{_STYLE}">{"".join(parts)}</div>'


def _headlines(view: JournalView) -> Iterator[str]:
    """Yield what the numbers above the tables say."""
    n_runs = sum(view.n_by_status.values())
    since = "" if view.since_at is None else f" since {_instant(view.since_at)}"
    yield f"{view.location}: {counted(n_runs, 'run')}{since}"
    said = [status_words(view.n_by_status)] if n_runs else []
    if view.p50_s is not None and view.p95_s is not None:
        said.append(f"a run takes {spoken(view.p50_s)} (p50), {spoken(view.p95_s)} (p95)")
    said += [f"{view.n_waiting} wait for an answer"] if view.n_waiting else []
    said += [counted(view.n_dead, "dead letter")] if view.n_dead else []
    if said:
        yield " · ".join(said)
    ends = [sum(each) for each in zip(*_ends(view), strict=True)]
    if any(ends):
        yield f"ended, {spoken(view.throughput.span_s)} a bar: {_bars(ends)} (at most {max(ends)})"


def _ends(view: JournalView) -> tuple[Sequence[int], ...]:
    return view.throughput.n_completed, view.throughput.n_failed, view.throughput.n_other


def _bars(numbers: Sequence[int]) -> str:
    top = max(numbers)
    return "".join(" " if not n else _BARS[(n * len(_BARS) - 1) // top] for n in numbers)


def status_words(counts: Mapping[str, int]) -> str:
    """Return how many have each status, with its glyph."""
    return ", ".join(f"{run_look(RunStatus(status)).glyph} {n} {status}" for status, n in counts.items())


def _tables(view: JournalView) -> Iterator[TableText]:
    """Yield the tables that have rows."""
    more = f", the first {len(view.runs)} of {view.n_found}" if view.n_found > len(view.runs) else ""
    yield from _table(f"runs{more}", ("run", "name", "status", "started", "took", "steps", "error"), [
        _run_row(each) for each in view.runs
    ])  # fmt: skip
    yield from _table("flows", ("name", "kind", "runs", "p50", "p95"), [_flow_row(each) for each in view.flows])
    yield from _table("failures", ("n", "flow", "error", "last"), [
        (str(each.n), each.flow, _cut(each.signature), each.run_id) for each in view.failures
    ])  # fmt: skip
    yield from _table("waiting for an answer", ("flow", "question", "until", "run"), [
        (each.flow, _cut(each.question), _instant(each.due_at), each.run_id) for each in view.waiting
    ])  # fmt: skip
    yield from _table("lanes", ("lane", "at work", "limit", "waiting"), [
        (f"{each.lane} {each.key}".strip(), str(each.n_held), str(each.limit or ""), str(each.n_waiting))
        for each in view.lanes
    ])  # fmt: skip
    yield from _table("breakers", ("breaker", "failures in a row", "open until"), [
        (each.name, str(each.n_failed), _instant(each.open_until)) for each in view.breakers
    ])  # fmt: skip
    yield from _table("schedules", ("schedule", "flow", "when", "state", "next", "missed"), [
        (each.name, each.flow, each.rule, each.state, _instant(each.next_at), str(each.n_missed))
        for each in view.schedules
    ])  # fmt: skip
    yield from _table("dead letters", ("kind", "of", "error"), [
        (each.kind, each.name, _cut(each.error or "")) for each in view.dead_letters
    ])  # fmt: skip
    yield from _table("projections", ("projection", "events behind", "error"), [
        (each.name, "" if each.lag is None else str(each.lag), _cut(each.error or "")) for each in view.projections
    ])  # fmt: skip


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[TableText]:
    if rows:
        yield TableText(title, (head, *(tuple(map(_one_line, row)) for row in rows)))


def _run_row(run: RunSummary) -> tuple[str, ...]:
    took = "" if run.ended_at is None else spoken(max(run.ended_at - run.started_at, 0) / 1e6)
    failed = f", {run.n_failed} failed" if run.n_failed else ""
    status = f"{run_look(RunStatus(run.status)).glyph} {run.status}"
    steps = f"{run.n_done} of {run.n_known}{failed}" if run.n_known else ""
    return run.run_id, run.name, status, _instant(run.started_at), took, steps, _cut(run.error or "")


def _flow_row(flow: FlowSummary) -> tuple[str, ...]:
    p50, p95 = ("" if each is None else spoken(each) for each in (flow.p50_s, flow.p95_s))
    return flow.name, flow.kind, status_words(flow.n_by_status), p50, p95


def _instant(at: int | None) -> str:
    if at is None:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=at)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # no date that a calendar has
        return ""


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"


def _one_line(text: str) -> str:
    return " ".join(text.split())
