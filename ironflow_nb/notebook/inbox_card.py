"""The inbox: the open questions of all runs as a card with forms, whose text is their table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

from ironflow_nb.core.plain_text import plain
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.inbox_frame import Inbox
from ironflow_nb.handles.open_questions import question_views, waiting
from ironflow_nb.notebook.journal_card import JournalOutput, show_card
from ironflow_nb.views.inbox_view import InboxView


def show_inbox(inbox: Inbox) -> JournalOutput[InboxView]:
    """Display the questions as a card, which follows the journal that they were read from."""
    engine = inbox.engine or REGISTRY.engine()
    return show_card(engine, partial(_read, engine), partial(_words, engine))


def _read(engine: Engine) -> InboxView:
    return InboxView(questions=tuple(question_views(engine)))


def _words(engine: Engine, _view: InboxView) -> Mapping[str, str]:
    table = cast("Inbox", waiting(engine=engine))
    return {"text/plain": plain(repr(table)), "text/html": plain(Inbox._repr_html_(table) or "")}
