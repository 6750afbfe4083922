"""Pictures that follow their runs, by updating their own output: no widget, so they stay in the saved notebook.

A picture is drawn again only when something happened, at most four times a second, and rarely enough for drawing to
take about two per cent of the time.
"""

from __future__ import annotations

from typing import Any, Final

from ironflow_nb.core.ids import RunId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.surroundings import shell
from ironflow_nb.execution.watching import look
from ironflow_nb.handles.pictures import bundle_of, picture_of
from ironflow_nb.handles.progress import Progress, progress_of
from ironflow_nb.handles.run import Run

FIRST_S: Final = 0.15
EVERY_S: Final = 0.25
RESTING_FACTOR: Final = 50
"""A picture rests so many times as long as it took to draw..."""
AT_LEAST_EVERY_S: Final = 1.0
"""... but no longer than this: the first one takes long, for it imports, and so does one among busy threads."""


class Following:
    """One output that shows one run after another, and follows the last of them."""

    def __init__(self, engine: Engine, display_id: str) -> None:
        self._engine = engine
        self._display_id = display_id
        self._wakeup = engine.threads.wakeup()
        self._run_id: RunId | None = None
        self._shown: Progress | None = None
        self._is_following = False
        self._lock = engine.threads.lock()
        self._brush = engine.threads.lock()
        self._drawing_s = 0.0
        self._is_final = False

    def follow(self, run_id: RunId) -> None:
        """Follow this run from now on."""
        with self._lock:
            self._run_id = run_id
            if self._is_following:
                return
            self._is_following = True
        self._engine.threads.spawn("ironflow-picture", self._keep_up)

    def _keep_up(self) -> None:
        clock = self._engine.ledger.clock
        self._wakeup.take(FIRST_S)
        while True:
            began_s = clock.monotonic()
            is_over = self.paint()
            self._drawing_s = clock.monotonic() - began_s
            with self._lock:
                if is_over:
                    self._is_following = False
                    return
            self._wakeup.take(min(max(EVERY_S, RESTING_FACTOR * self._drawing_s), AT_LEAST_EVERY_S))

    def finish(self) -> None:
        """Show the run as it is; if it has ended, that stays, whatever another cell makes of the run."""
        self._is_final = self.paint()

    def paint(self) -> bool:
        """Show the run as it is, if that differs from what is shown; tell whether nothing more will come."""
        with self._brush:  # so that what was seen later is also shown later
            if self._is_final:
                return True
            run_id = self._run_id
            assert run_id is not None
            try:
                progress = progress_of(self._engine, run_id)
                status = progress.status
            except Exception:  # noqa: BLE001 -- whatever became of the journal, its picture tells, and there is no more
                status, progress = RunStatus.INTERRUPTED, None
            if progress is None or progress != self._shown:
                self._shown = progress
                moving = status not in ENDED
                update(self._display_id, bundle_of(picture_of(self._engine, run_id), is_moving=moving))
            return status in ENDED and run_id == self._run_id


class CellPicture:
    """The picture of what one cell runs directly."""

    def __init__(self) -> None:
        self._following: Following | None = None

    def follow(self, engine: Engine, run_id: RunId) -> None:
        """Show the run in the picture of the cell; the first one makes the output, so that it stands on top."""
        if self._following is None:
            display_id = new_display_id(engine)
            first_word(display_id)
            self._following = Following(engine, display_id)
        self._following.follow(run_id)

    def finish(self) -> None:
        """Show the last state, now that the cell has ended."""
        if self._following is not None:
            self._following.finish()


def show_run(run: Run[Any]) -> None:
    """Display a run, and follow it as long as it goes on; a terminal, where nothing can be replaced, shows it once."""
    engine = run._engine  # noqa: SLF001 -- the face of a handle is part of the handle
    display_id = new_display_id(engine)
    moving = can_update() and _goes_on(engine, run.id)
    publish(display_id, bundle_of(picture_of(engine, run.id), is_moving=moving))
    if moving:
        Following(engine, display_id).follow(run.id)


def can_update() -> bool:
    """Tell whether what is shown can be replaced later."""
    return hasattr(shell(), "kernel")


def _goes_on(engine: Engine, run_id: RunId) -> bool:
    try:
        return look(engine, run_id)[1] not in ENDED
    except Exception:  # noqa: BLE001 -- a display never raises, whatever became of the journal
        return False


def new_display_id(engine: Engine) -> str:
    """Return a fresh id of an output."""
    return f"ironflow-{engine.ledger.entropy(8).hex()}"


def first_word(display_id: str) -> None:
    """Make the output where a picture will stand."""
    publish(display_id, {"text/plain": "starting"})


def publish(display_id: str, bundle: dict[str, str]) -> None:
    """Show a bundle under the id."""
    from IPython.display import display

    display(bundle, raw=True, display_id=display_id)  # type: ignore[no-untyped-call]


def update(display_id: str, bundle: dict[str, str]) -> None:
    """Replace what is shown under the id; works from any thread, and while another cell runs."""
    from IPython.display import update_display

    update_display(bundle, raw=True, display_id=display_id)  # type: ignore[no-untyped-call]
