"""The card of a decider: its live state diagram, an instance to choose, its commands as forms, and its open work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ironflow_nb.deciders.current_view import CurrentDecider, current_decider, outcome_words, send_typed
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.deciders.possible_transitions import Explorer
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.notebook.live_pictures import AnyDecider, decider_progress
from ironflow_nb.notebook.watched_card import WatchedCard


class DeciderContent:
    """What the card of a decider shows and does."""

    is_over = False

    def __init__(self, engine: Engine, decider: AnyDecider) -> None:
        self._engine = engine
        self._decider = decider
        self._explorer = Explorer()
        self._chosen: str | None = None
        self._progress: object = None
        self._current: CurrentDecider | None = None
        self._svg: str | None = None

    def advance(self) -> Mapping[str, Any] | None:
        """See `CardContent`."""
        newest = REGISTRY.find(self._decider.kind, self._decider.name)
        if isinstance(newest, Decider):  # its cell was edited and run
            self._decider = newest
        progress = self._chosen, decider_progress(self._engine, self._decider)
        if progress == self._progress:
            return None
        self._progress = progress
        before = self._svg
        self._current = current_decider(self._engine, self._decider, self._explorer, self._chosen)
        self._svg = self._current.diagram.svg
        change: dict[str, Any] = {"view": msgspec.to_builtins(self._current.view)}
        return {"change": change | ({} if self._svg == before else {"svg": self._svg, "elements": {}})}

    def frame(self) -> Mapping[str, Any]:
        """See `CardContent`."""
        assert self._current is not None
        view = msgspec.to_builtins(self._current.view)
        return {"now": self._engine.clock.now(), "view": view, "svg": self._svg, "elements": {}}

    def bundle(self) -> dict[str, str]:
        """See `CardContent`."""
        assert self._current is not None
        return self._current.diagram._repr_mimebundle_()

    def act(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `CardContent`."""
        decider = self._decider
        if REGISTRY.engine() is not self._engine:
            raise ValueError("another journal is the default one by now; show the decider again")
        match message:
            case {"do": "choose", "instance": str() | None as chosen}:
                self._chosen = chosen or None
                return {}
            case {"do": "send", "command": str(command), "fields": dict(fields)}:
                texts = {str(name): str(text) for name, text in fields.items()}
                outcome = send_typed(decider, command, self._chosen, texts)
                if self._chosen is None and decider.id_field in texts:
                    self._chosen = texts[decider.id_field]
                return {"told": outcome_words(command, outcome)}
            case {"do": "requeue", "instance": str(instance), "key": str(key)}:
                n = decider.requeue(instance=instance, key=key)
                return {"told": f"{n} put back on the queue"}
            case {"do": "perform"}:
                return {"told": f"{decider.run_until_idle()} performed"}
            case _:
                raise ValueError(f"the card of a decider has no {message.get('do')!r}")


def show_decider(decider: AnyDecider) -> WatchedCard:
    """Display a decider; its card follows the journal until the kernel ends."""
    from ironflow_nb.notebook.card_widget import DeciderWidget

    engine = REGISTRY.engine()

    def make(frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> DeciderWidget:
        return DeciderWidget(frame, heard)

    card = WatchedCard(engine, DeciderContent(engine, decider), make)
    card.begin()
    return card
