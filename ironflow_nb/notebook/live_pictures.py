"""Live pictures of runs and deciders: they update their own output, and stay in a saved notebook.

Where a person sits at a front end with widgets, a run has a card while it goes on (`run_card.py`); at its end the
picture replaces the card, so that the saved notebook has no widget. A paused run keeps its card, to be resumed there,
and one that failed or was interrupted keeps it for a while, for there it is seen what an edit changes.

A picture is drawn again only after a change, at most four times a second, so that drawing takes about two per cent of
the time. The picture of a run is final when the run has ended, and all bodies of it that run here: an interrupt leaves
those behind that were in flight, and what they return is recorded. A decider never ends: its picture is live until the
same decider is shown again, and it is updated at the end of every cell, so that a saved notebook has the last state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.deciders.decider import Decider
from ironflow_nb.execution import REGISTRY, Engine, is_interactive, logger, shell
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_picture import bundle_of, drawn, trouble, view_of
from ironflow_nb.handles.run_progress import Moment, Progress, earlier_durations, progress_of, progress_since
from ironflow_nb.history.run_status import when_ended
from ironflow_nb.journal.ports import QueueSelect, Select

if TYPE_CHECKING:
    from ironflow_nb.notebook.run_card import RunCard
    from ironflow_nb.views.run_view import RunView

FIRST_S: Final = 0.15
EVERY_S: Final = 0.25
CARD_AFTER_S: Final = 0.5
"""What takes less time needs no controls, and the library of widgets takes a fifth of a second to import."""
KEPT_S: Final = 1800.0
"""How long there is a card while nothing happens there; a saved notebook has the picture."""
RESTING_FACTOR: Final = 50
"""The pause between two drawings, in multiples of the time that a drawing takes."""
AT_LEAST_EVERY_S: Final = 5.0
"""The longest pause. A drawing of 10,000 steps takes a tenth of a second; others take long when threads are busy."""
_TO_GO_ON: Final = frozenset({RunStatus.FAILED, RunStatus.INTERRUPTED})


class LiveOutput:
    """One output that shows the latest run of a cell, and is updated while this run goes on."""

    def __init__(
        self, engine: Engine, display_id: str, *, is_in_cell: bool = False, is_asked_for: bool = False
    ) -> None:
        self._engine = engine
        self._display_id = display_id
        self._is_in_cell = is_in_cell
        self._is_asked_for = is_asked_for
        self._card: RunCard | None = None
        self._may_have_card = True
        self._began_s = 0.0
        self._rested_s: float | None = None
        self._durations: tuple[RunId, Sequence[int]] | None = None
        self._wakeup = engine.threads.wakeup()
        self._run_id: RunId | None = None
        self._moment: Moment | None = None
        self._shown: tuple[RunView, bool, bool] | None = None
        self._n_sessions: int | None = None
        self._is_following = False
        self._lock = engine.threads.lock()
        self._drawing_lock = engine.threads.lock()
        self._drawing_s = 0.0
        self._is_final = self._is_settled = False

    @property
    def run_id(self) -> RunId | None:
        """The run that is followed."""
        return self._run_id

    def follow(self, run_id: RunId) -> None:
        """Follow this run from now on."""
        with self._lock:
            self._run_id = run_id
            if self._is_following:
                return
            self._is_following = True
            self._began_s = self._engine.access.clock.monotonic()
        when_ended(self._engine, run_id, self._wakeup.set)
        self._engine.threads.spawn("ironflow-picture", self._keep_up)

    def _keep_up(self) -> None:
        clock, n_drawn = self._engine.access.clock, 0
        self._wakeup.take(FIRST_S)
        while True:
            began_s = clock.monotonic()
            is_over = self.paint()
            self._drawing_s = clock.monotonic() - began_s if n_drawn else 0.0  # the first one waits for imports
            n_drawn += 1
            with self._lock:
                if is_over:
                    self._is_following = False
                    return
            is_at_rest = self._moment is not None and self._moment.status in ENDED
            self._wakeup.take(IDLE_S if is_at_rest and self._card is not None else _pause_after(self._drawing_s))

    def finish(self) -> None:
        """Draw the current state. If the run has ended, and nothing of it still runs, this state is final.

        A later continuation of the run is shown by its own cell.
        """
        self._is_in_cell = False
        self._is_final = self.paint()
        self._n_sessions = None if self._shown is None else self._shown[0].n_sessions

    def paint(self) -> bool:
        """Draw the current state if it has changed; return True if the run has ended and the picture is final."""
        with self._drawing_lock:  # a state that was read later is also shown later
            if self._is_final:
                return True
            run_id = self._run_id
            assert run_id is not None
            try:
                session = self._engine.sessions.get(run_id)  # before reading: what has landed is in the journal
                is_at_rest = session is None or not session.in_flight()
                moment, progress = progress_since(self._engine, run_id, self._moment)
                view = None if progress is None else view_of(run_id, progress, self._earlier(progress))
                if view is not None and self._is_continued(view):
                    self._leave()
                    return True
                is_over = moment.status in ENDED and is_at_rest
                view = view or (self._shown[0] if self._shown is not None else None)
                self._note_rest(moment.status)
                if view is not None:
                    self._show(view, is_over=is_over)
                self._moment = moment
                is_over = is_over and (self._card is None or view is None or not self._is_kept(view))
            except Exception as error:  # noqa: BLE001 -- the picture shows what happened to the journal, and ends
                is_over = True
                if self._shown is not None and self._shown[0].status in ENDED:
                    self._leave()
                else:
                    update(self._display_id, bundle_of(trouble(run_id, error)))
                    self._drop_card()
            return is_over and run_id == self._run_id

    def _earlier(self, progress: Progress) -> Sequence[int]:
        """Return how long earlier runs took, read once for each run that has a card."""
        if self._card is None or progress.run is None:
            return ()
        run_id = progress.run.run_id
        if self._durations is None or self._durations[0] != run_id:
            self._durations = run_id, earlier_durations(self._engine, progress.run)
        return self._durations[1]

    def _show(self, view: RunView, *, is_over: bool) -> None:
        has_card = not is_over or self._is_in_cell or self._is_kept(view)
        card = self._card_of(view) if has_card else None
        if card is not None:
            card.look_at_code()
        now_shown = view, is_over, card is not None
        if now_shown == self._shown:
            return
        if card is not None:
            card.show(view)
            is_first = self._shown is None or not self._shown[2]
            if is_first or card.is_late():  # it may be the picture that is seen
                update(self._display_id, card.bundle())
        else:
            update(self._display_id, bundle_of(drawn(view), is_moving=not is_over))
            self._drop_card(view)  # after its output was replaced
        self._shown = now_shown

    def _note_rest(self, status: RunStatus) -> None:
        if status not in ENDED:
            self._rested_s = None
        elif self._rested_s is None:
            self._rested_s = self._engine.access.clock.monotonic()

    def _is_kept(self, view: RunView) -> bool:
        """Return True if a run at rest is to be looked at, or gone on with, here."""
        now_s, rested_s = self._engine.access.clock.monotonic(), self._rested_s
        is_kept = self._is_asked_for or (view.status in _TO_GO_ON and not self._is_settled)
        is_fresh = rested_s is None or now_s - rested_s < KEPT_S
        return view.status is RunStatus.PAUSED or (is_kept and is_fresh and bool(view.actions))

    def _shown_s(self) -> float:
        return self._engine.access.clock.monotonic() - self._began_s

    def settle(self) -> None:
        """Replace the card of a run at rest by its picture, unless it was paused."""
        self._is_asked_for, self._is_settled = False, True
        self._wakeup.set()

    def _card_of(self, view: RunView) -> RunCard | None:
        """Return the card, made if the front end may show one; None if no front end has shown it."""
        from ironflow_nb.notebook.run_card import RunCard

        is_due = view.status in ENDED or self._shown_s() >= CARD_AFTER_S
        if self._card is None and self._may_have_card and is_due and view.actions:
            self._may_have_card = False
            try:
                if can_show_card():
                    self._card = RunCard(self._engine, view, self._wakeup.set)
            except Exception:  # noqa: BLE001 -- without a card there is the picture
                logger().debug("no card of run %s", view.run_id, exc_info=True)
                self._card = None
        return None if self._card is None or self._card.is_unheard else self._card

    def _drop_card(self, view: RunView | None = None) -> None:
        if self._card is not None:
            if view is not None:
                self._card.show(view)
            self._card.close()
            self._card = None

    def _is_continued(self, view: RunView) -> bool:
        """Return True if the run was continued since the cell of this output ended, and not by its card."""
        is_here = self._card is not None and self._card.has_continued
        return not is_here and bool(self._n_sessions) and view.n_sessions > (self._n_sessions or 0)

    def _leave(self) -> None:
        """Show the picture of the state that was shown: what follows is shown elsewhere."""
        self._is_final = True
        if self._card is not None and self._shown is not None:
            update(self._display_id, bundle_of(drawn(self._shown[0])))
            self._drop_card()


class CellPicture:
    """The picture of what one cell runs directly."""

    def __init__(self) -> None:
        self._following: LiveOutput | None = None

    def follow(self, engine: Engine, run_id: RunId) -> None:
        """Show the run in the picture of the cell. The first run creates the output, above later output of the cell."""
        if self._following is None:
            display_id = new_display_id(engine)
            show_placeholder(display_id)
            self._following = LiveOutput(engine, display_id, is_in_cell=True)
        self._following.follow(run_id)

    def finish(self) -> None:
        """Draw the last state at the end of the cell."""
        if self._following is not None:
            self._following.finish()


def show_run(run: Run[Any]) -> LiveOutput | None:
    """Display a run, live until it ends; in a terminal, which can't replace output, only once.

    One that has ended has a card, too, until the output that is returned is settled.
    """
    engine = run._engine  # noqa: SLF001 -- the picture of a handle belongs to it
    display_id = new_display_id(engine)
    try:
        view = view_of(run.id, progress_of(engine, run.id))
        goes_on = view.status not in ENDED
        moving = can_update() and (goes_on or (bool(view.actions) and can_show_card()))
        bundle = bundle_of(drawn(view), is_moving=goes_on)
    except Exception as error:  # noqa: BLE001 -- a display never raises, also if the journal can't be read
        moving, bundle = False, bundle_of(trouble(run.id, error))
    show_bundle(display_id, bundle)
    if not moving:
        return None
    output = LiveOutput(engine, display_id, is_asked_for=not goes_on)
    output.follow(run.id)
    return output


def can_show_card() -> bool:
    """Return True if a person sits at a front end that may show widgets, and the library for it is installed."""
    is_static = os.environ.get("IRONFLOW_STATIC", "") not in {"", "0"}
    return not is_static and hasattr(shell(), "kernel") and is_interactive() and find_spec("anywidget") is not None


def can_update() -> bool:
    """Return True if the front end can replace an output later."""
    return hasattr(shell(), "kernel")


def new_display_id(engine: Engine) -> str:
    """Return a fresh id of an output."""
    return f"ironflow-{engine.entropy(8).hex()}"


def show_placeholder(display_id: str) -> None:
    """Create the output of a picture with a placeholder."""
    show_bundle(display_id, {"text/plain": "starting"})


def show_bundle(display_id: str, bundle: dict[str, Any]) -> None:
    """Display a MIME bundle under the id."""
    from IPython.display import display

    display(bundle, raw=True, display_id=display_id)  # type: ignore[no-untyped-call]


def update(display_id: str, bundle: dict[str, Any]) -> None:
    """Replace the output with this id; works from any thread, also while another cell runs."""
    from IPython.display import update_display

    update_display(bundle, raw=True, display_id=display_id)  # type: ignore[no-untyped-call]


AnyDecider: TypeAlias = Decider[Any, Any, Any, Any]

BUSY_FACTOR: Final = 5
"""The shortest pause, in multiples of the time of a drawing, which is long for a history of a million commands."""
IDLE_S: Final = 2.0
"""The longest pause between two reads of the journal while nothing changes."""


class DeciderPictures:
    """The live pictures of deciders in one notebook; of each decider its latest picture is live."""

    def __init__(self) -> None:
        self._following: dict[str, LiveDeciderOutput] = {}

    def show(self, decider: AnyDecider) -> None:
        """Display the decider, live; in a terminal, which can't replace output, only once."""
        engine = REGISTRY.engine()
        following = LiveDeciderOutput(engine, decider, new_display_id(engine))
        following.begin()
        if can_update():
            self.stop(decider.name)
            self._following[decider.name] = following
            following.follow()

    def paint(self) -> None:
        """Update all live pictures."""
        for following in self._following.values():
            following.paint()

    def stop(self, name: str | None = None) -> None:
        """Stop the live picture of that decider, or all of them."""
        for each in [name] if name is not None else list(self._following):
            following = self._following.pop(each, None)
            if following is not None:
                following.stop()


class LiveDeciderOutput:
    """One output that shows one decider."""

    def __init__(self, engine: Engine, decider: AnyDecider, display_id: str) -> None:
        self._engine = engine
        self._decider = decider
        self._display_id = display_id
        self._wakeup = engine.threads.wakeup()
        self._drawing_lock = engine.threads.lock()
        self._shown: object = None
        self._is_over = False

    def begin(self) -> None:
        """Make the output."""
        self._shown = self._progress()
        show_bundle(self._display_id, self._decider._repr_mimebundle_())

    def follow(self) -> None:
        """Follow the decider from now on."""
        self._engine.threads.spawn("ironflow-decider-picture", self._keep_up)

    def stop(self) -> None:
        """Draw it for the last time."""
        self.paint()
        self._is_over = True
        self._wakeup.set()

    def paint(self) -> bool:
        """Draw the current state if it has changed; return True if it has."""
        with self._drawing_lock:
            if self._is_over or self._engine.access.is_closed or REGISTRY.engine() is not self._engine:
                self._is_over = True
                return False
            progress = self._progress()
            if progress is None or progress == self._shown:
                return False
            self._shown = progress
            update(self._display_id, self._decider._repr_mimebundle_())
            return True

    def _keep_up(self) -> None:
        clock, rest_s = self._engine.access.clock, EVERY_S
        while not self._is_over:
            self._wakeup.take(rest_s)
            began_s = clock.monotonic()
            has_changed = self.paint()
            took_s = clock.monotonic() - began_s
            rest_s = _rest_after(took_s) if has_changed else min(2 * rest_s, max(IDLE_S, BUSY_FACTOR * took_s))

    def _progress(self) -> object:
        """Return what changes when the picture does; None if the journal can't be read: the picture stays then."""
        try:
            return decider_progress(self._engine, self._decider)
        except Exception:  # noqa: BLE001 -- whatever became of the journal, a picture is no place to say so again
            return None


def decider_progress(engine: Engine, decider: AnyDecider) -> object:
    """Return what changes when the picture of the decider does.

    A rejected command changes nothing of it: it leads nowhere.
    """
    with engine.reading() as reader:
        runs = reader.runs(Select(kind=decider.kind, name=decider.name, is_full_name=True))
        work = reader.work(QueueSelect(of=[(decider.kind, decider.name)]))
    todo = [(each.run_id, each.kind, each.key, each.dead_at, each.attempts) for each in work]
    return [(row.run_id, row.updated_at, row.status) for row in runs], todo, decider.functions, decider.code


def _rest_after(took_s: float) -> float:
    return max(_pause_after(took_s), BUSY_FACTOR * took_s)


def _pause_after(took_s: float) -> float:
    return min(max(EVERY_S, RESTING_FACTOR * took_s), AT_LEAST_EVERY_S)
