"""How a sweep shows itself: how many rows have each status, as text and as a strip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import escape
from typing import Final

from ironflow_nb.core.plain_text import counted, plain
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.palette import LINE, run_look

ORDER: Final = (
    RunStatus.COMPLETED, RunStatus.RUNNING, RunStatus.COMPENSATING, RunStatus.WAITING, RunStatus.CANCELLING,
    RunStatus.PAUSED, RunStatus.INTERRUPTED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PENDING,
)  # fmt: skip


def bundle_of_counts(name: str, read: Callable[[], Counter[RunStatus]]) -> dict[str, str]:
    """Return the strip as HTML, and the text; also if the journal can't be read."""
    try:
        counts = read()
    except Exception as error:  # noqa: BLE001 -- a display never raises
        return {"text/plain": f"sweep of {plain(name)}: {type(error).__name__}: {error}"}
    return {"text/plain": text_of(name, counts), "text/html": html_of(name, counts)}


def text_of(name: str, counts: Counter[RunStatus]) -> str:
    """Return the counts as one line."""
    parts = [f"{run_look(status).glyph} {n} {status.value}" for status, n in _in_order(counts)]
    return f"sweep of {plain(name)}: {counted(counts.total(), 'row')}{': ' if parts else ''}{', '.join(parts)}"


def html_of(name: str, counts: Counter[RunStatus]) -> str:
    """Return the counts as a strip with a legend."""
    total = max(counts.total(), 1)
    words = escape(text_of(name, counts))
    pieces, legend = [], []
    for status, n in _in_order(counts):
        style = run_look(status)
        pieces.append(f'<span style="flex:{n} 0 2px;background:{style.stroke}" title="{n} {status.value}"></span>')
        legend.append(f'<span style="color:{style.stroke}">{style.glyph}</span> {n}&nbsp;{status.value}')
    n_of = counts.total()
    n_ended = sum(n for status, n in counts.items() if status in {RunStatus.COMPLETED, RunStatus.FAILED})
    strip = "".join(pieces)
    return (
        f'<div role="img" aria-label="{words}" style="font:13px system-ui,sans-serif;color:{LINE};max-width:640px">'
        f"<div><b>{escape(plain(name))}</b> &nbsp;{n_ended}/{n_of} &nbsp;{round(100 * n_ended / total)}&thinsp;%</div>"
        f'<div style="display:flex;gap:1px;height:12px;margin:4px 0;border-radius:3px;overflow:hidden">{strip}</div>'
        f"<div>{' &nbsp; '.join(legend)}</div></div>"
    )


def _in_order(counts: Counter[RunStatus]) -> list[tuple[RunStatus, int]]:
    return [(status, counts[status]) for status in ORDER if counts[status]]
