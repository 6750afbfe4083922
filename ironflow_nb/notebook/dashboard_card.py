"""The live dashboard: the view of a journal, sent as deltas, with filters, and the card of the run that is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram.palette import looks_of_runs
from ironflow_nb.execution import Engine
from ironflow_nb.handles.dashboard import Dashboard, DashboardFilter, journal_bundle, journal_view
from ironflow_nb.notebook.inner_card import InnerCards
from ironflow_nb.notebook.run_card import RunCard
from ironflow_nb.notebook.watched_card import WatchedCard
from ironflow_nb.views.journal_view import JournalView

_NOTHING = JournalView()


class DashboardContent:
    """What the card of a dashboard shows and does."""

    is_over = False

    def __init__(self, engine: Engine, chosen: DashboardFilter) -> None:
        self._engine = engine
        self._chosen = chosen
        self._view = _NOTHING
        self.say: Callable[..., None] = lambda **_: None
        self._inner = InnerCards(engine, self._tell, RunCard)

    def _tell(self, **content: Any) -> None:
        self.say(**content)

    def advance(self) -> Mapping[str, Any] | None:
        """See `CardContent`."""
        before, self._view = self._view, journal_view(self._engine, self._chosen)
        change = self._view.delta(before)
        return {"change": msgspec.to_builtins(change), "about": self._about(), "now": self._now()} if change else None

    def frame(self) -> Mapping[str, Any]:
        """See `CardContent`."""
        return {"change": msgspec.to_builtins(self._view.delta(_NOTHING)), **self._about(), "now": self._now()}

    def _about(self) -> dict[str, Any]:
        chosen = self._chosen
        status = sorted(chosen.status or ())
        filters = {
            "of": "" if chosen.of is None else " ".join(chosen.of),
            "status": status[0] if len(status) == 1 else "",
            "since": _since_text(chosen),
            "order": chosen.order,
        }
        return {"filter": filters, "looks": looks_of_runs()}

    def _now(self) -> int:
        return self._engine.clock.now()

    def bundle(self) -> dict[str, str]:
        """See `CardContent`."""
        return journal_bundle(self._view)

    def act(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `CardContent`."""
        if message.get("do") == "filter":
            self._chosen = _filter(message, self._chosen)
            return {"change": {}, "about": self._about(), "now": self._now()}
        if not self._inner.act(message):
            raise ValueError(f"a dashboard has no {message.get('do')!r}")
        return {}


def _since_text(chosen: DashboardFilter) -> str:
    return "" if chosen.since is None else str(chosen.since)


def _filter(message: Mapping[str, Any], before: DashboardFilter) -> DashboardFilter:
    kind, _, name = str(message.get("of") or "").partition(" ")
    status, since = message.get("status"), message.get("since")
    return msgspec.structs.replace(
        before,
        of=(kind, name) if name else None,
        status={RunStatus(status)} if status else None,
        since=before.since if since == _since_text(before) else since or None,
        order=str(message.get("order") or "newest"),
    )


def show_dashboard(dashboard: Dashboard) -> WatchedCard:
    """Display a dashboard, live until the kernel ends."""
    from ironflow_nb.notebook.card_widget import DashboardWidget

    engine, chosen = dashboard.source
    content = DashboardContent(engine, chosen)

    def make(frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> DashboardWidget:
        widget = DashboardWidget(frame, heard)
        content.say = widget.say
        return widget

    card = WatchedCard(engine, content, make)
    card.begin()
    return card
