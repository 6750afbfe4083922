"""Pictures of deciders that follow them: drawn again when commands arrived, from this kernel or from another one.

A decider never ends, so its picture is followed until the same decider is shown elsewhere, and then stays as it was. It
is brought up to date at the end of every cell: what a saved notebook keeps is what was so when its last cell ended.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from ironflow_nb.deciders.decider import Decider
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.journal.ports import Select, WorkSelect
from ironflow_nb.notebook import live

AnyDecider: TypeAlias = Decider[Any, Any, Any, Any]

BUSY_FACTOR: Final = 5
"""A picture rests so many times as long as it took, however long that is: a history of a million commands is read."""
IDLE_S: Final = 2.0
"""While nothing happens it is looked less and less often, but at least as often as this."""


class DeciderPictures:
    """The pictures of deciders in one notebook; of each decider the one that was shown last follows it."""

    def __init__(self) -> None:
        self._following: dict[str, FollowingDecider] = {}

    def show(self, decider: AnyDecider) -> None:
        """Display the decider, and follow it; a terminal, where nothing can be replaced, shows it once."""
        engine = HOME.engine()
        following = FollowingDecider(engine, decider, live.new_display_id(engine))
        following.begin()
        if live.can_update():
            self.stop(decider.name)
            self._following[decider.name] = following
            following.follow()

    def paint(self) -> None:
        """Bring all of them up to date."""
        for following in self._following.values():
            following.paint()

    def stop(self, name: str | None = None) -> None:
        """Let the picture of that decider stay as it is, or all of them."""
        for each in [name] if name is not None else list(self._following):
            following = self._following.pop(each, None)
            if following is not None:
                following.stop()


class FollowingDecider:
    """One output that shows one decider."""

    def __init__(self, engine: Engine, decider: AnyDecider, display_id: str) -> None:
        self._engine = engine
        self._decider = decider
        self._display_id = display_id
        self._wakeup = engine.threads.wakeup()
        self._brush = engine.threads.lock()
        self._shown: object = None
        self._is_over = False

    def begin(self) -> None:
        """Make the output."""
        self._shown = self._progress()
        live.publish(self._display_id, self._decider._repr_mimebundle_())

    def follow(self) -> None:
        """Follow the decider from now on."""
        self._engine.threads.spawn("ironflow-decider-picture", self._keep_up)

    def stop(self) -> None:
        """Show it as it is now, once more and for the last time."""
        self.paint()
        self._is_over = True
        self._wakeup.set()

    def paint(self) -> bool:
        """Show the decider as it is, if that differs from what is shown; tell whether it did."""
        with self._brush:
            if self._is_over or self._engine.ledger.is_closed or HOME.engine() is not self._engine:
                self._is_over = True
                return False
            progress = self._progress()
            if progress is None or progress == self._shown:
                return False
            self._shown = progress
            live.update(self._display_id, self._decider._repr_mimebundle_())
            return True

    def _keep_up(self) -> None:
        clock, rest_s = self._engine.ledger.clock, live.EVERY_S
        while not self._is_over:
            self._wakeup.take(rest_s)
            began_s = clock.monotonic()
            has_changed = self.paint()
            took_s = clock.monotonic() - began_s
            rest_s = _rest_after(took_s) if has_changed else min(2 * rest_s, max(IDLE_S, BUSY_FACTOR * took_s))

    def _progress(self) -> object:
        """Return what changes when the picture does; None if the journal can't be read: the picture stays then.

        A rejected command changes neither: it leads nowhere.
        """
        name, kind = self._decider.name, self._decider.kind
        try:
            with self._engine.reading() as reader:
                runs = reader.runs(Select(kind=kind, name=name, is_full_name=True))
                work = reader.work(WorkSelect(of=[(kind, name)]))
            code = self._decider.functions, self._decider.code
        except Exception:  # noqa: BLE001 -- whatever became of the journal, a picture is no place to say so again
            return None
        todo = [(each.run_id, each.kind, each.key, each.dead_at) for each in work]
        return [(row.run_id, row.updated_at, row.status) for row in runs], todo, code


def _rest_after(took_s: float) -> float:
    rest_s = min(max(live.EVERY_S, live.RESTING_FACTOR * took_s), live.AT_LEAST_EVERY_S)
    return max(rest_s, BUSY_FACTOR * took_s)
