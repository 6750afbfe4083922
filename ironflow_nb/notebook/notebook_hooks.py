"""Hooks into a shell: the running cell, printed lines and pictures of runs, for the engine."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from IPython.core.interactiveshell import InteractiveShell

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import INTERRUPTS, REGISTRY, SCOPE, Engine, SystemThreads, logger, watch_what_is_due
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.handles.sweep import Sweep
from ironflow_nb.notebook.live_pictures import CellPicture, can_show_card, can_update, show_run
from ironflow_nb.notebook.live_sweeps import SweepOutput

if TYPE_CHECKING:
    from ironflow_nb.notebook.journal_card import JournalOutput
    from ironflow_nb.notebook.live_pictures import DeciderPictures, LiveOutput
    from ironflow_nb.notebook.watched_card import WatchedCard
from ironflow_nb.code_identity.tracker import start_epoch

DECIDER: Final = ("ironflow_nb.deciders.decider", "Decider")
INBOX: Final = ("ironflow_nb.handles.inbox_frame", "Inbox")
DASHBOARD: Final = ("ironflow_nb.handles.dashboard", "Dashboard")
SLIDER: Final = ("ironflow_nb.handles.slider", "Slider")


class RunningCell:
    """One cell that is being executed. `info` is the `ExecutionInfo` that IPython passes to both of its events."""

    def __init__(self, number: int, info: object) -> None:
        self.number = number
        self.info = info
        self.picture: CellPicture | None = None


class NotebookHooks:
    """The hooks of one shell. They run in the thread that executes the cell.

    Cells can be nested (``%run`` of a notebook, ``run_cell``) and parallel (subshells), so each thread has a stack of
    cells.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._threads = SystemThreads()
        self._n_cells = 0
        self._cells: dict[int, list[RunningCell]] = {}
        self._deciders: DeciderPictures | None = None
        self._outputs: list[LiveOutput] = []
        self._sweeps: list[SweepOutput] = []
        self._journal_cards: dict[str, JournalOutput[Any]] = {}
        self._watched: list[WatchedCard] = []
        self._decider_cards: dict[str, WatchedCard] = {}
        self._defined: frozenset[int] = frozenset()

    def attach(self) -> None:
        """Hook into the shell."""
        self._shell.events.register("pre_run_cell", self._begin_cell)
        self._shell.events.register("post_run_cell", self._end_cell)
        if is_in_cell():
            self._begin_cell()  # the cell that loads the extension has already begun
        formatter = self._shell.display_formatter.ipython_display_formatter
        formatter.for_type(Run, self._show_run)
        formatter.for_type(Sweep, self._show_sweep)
        formatter.for_type_by_name(*DECIDER, self._show_decider)  # by name: most notebooks do not import deciders
        formatter.for_type_by_name(*INBOX, self._show_inbox)
        formatter.for_type_by_name(*DASHBOARD, self._show_dashboard)
        formatter.for_type_by_name(*SLIDER, self._show_slider)
        self._shell.display_formatter.formatters["text/plain"].for_type(CoroutineType, _print_coroutine)

    def detach(self) -> None:
        """Unhook."""
        self._shell.events.unregister("pre_run_cell", self._begin_cell)
        self._shell.events.unregister("post_run_cell", self._end_cell)
        self._shell.display_formatter.ipython_display_formatter.pop(Run, None)
        self._shell.display_formatter.ipython_display_formatter.pop(Sweep, None)
        for name in (DECIDER, INBOX, DASHBOARD, SLIDER):
            self._shell.display_formatter.ipython_display_formatter.pop(".".join(name), None)
        self._shell.display_formatter.formatters["text/plain"].pop(CoroutineType, None)
        for watched in (*self._watched, *self._decider_cards.values()):
            watched.settle()
        for card in self._journal_cards.values():
            card.settle()
        if self._deciders is not None:
            self._deciders.stop()

    def _show_run(self, run: Run[Any]) -> None:
        """Show a run; an earlier output that shows it at rest becomes a picture."""
        for before in self._outputs:
            if before.run_id == run.id:
                before.settle()
        self._outputs = [each for each in self._outputs if each.run_id != run.id]
        output = show_run(run)
        if output is not None:
            self._outputs.append(output)

    def _show_sweep(self, sweep: Sweep) -> None:
        """Show a sweep, live until it is over."""
        output = SweepOutput(sweep)
        output.show()
        if not output.is_final:
            self._sweeps.append(output)

    def _repeat_sweeps(self) -> None:
        """Draw the sweeps that were live in this cell; the next cell does so again for those that go on."""
        for output in self._sweeps:
            output.repeat()
        self._sweeps = [each for each in self._sweeps if not each.is_final]

    def _show_inbox(self, inbox: Any) -> None:
        """Show open questions as a card; an earlier one becomes a table."""
        if inbox.empty or not can_show_card():
            raise NotImplementedError  # IPython shows the table
        from ironflow_nb.notebook.inbox_card import show_inbox

        self.keep("inbox", show_inbox(inbox))

    def keep(self, name: str, card: JournalOutput[Any] | None) -> None:
        """Note a card of the journal; the one before of that name becomes text."""
        before = self._journal_cards.pop(name, None)
        if before is not None:
            before.settle()
        if card is not None:
            self._journal_cards[name] = card

    def _show_dashboard(self, dashboard: Any) -> None:
        """Show a dashboard; it is live until the kernel ends."""
        from ironflow_nb.notebook.dashboard_card import show_dashboard

        self._watched.append(show_dashboard(dashboard))

    def _show_slider(self, slider: Any) -> None:
        """Show a slider over the moments of a run, or of an instance of a decider."""
        from ironflow_nb.notebook.slider_card import show_slider

        self._watched.append(show_slider(slider))

    def _show_decider(self, decider: Any) -> None:
        """Show a decider as a card, or with a picture that follows it; its earlier one no longer does."""
        if can_show_card():
            from ironflow_nb.notebook.decider_card import show_decider

            before = self._decider_cards.pop(decider.name, None)
            if before is not None:
                before.settle()
            self._decider_cards[decider.name] = show_decider(decider)
            return
        from ironflow_nb.notebook.live_pictures import DeciderPictures

        self._deciders = self._deciders or DeciderPictures()
        self._deciders.show(decider)

    def _begin_cell(self, info: object = None) -> None:
        start_epoch()
        self._n_cells += 1
        self._cells.setdefault(self._threads.ident(), []).append(RunningCell(self._n_cells, info))

    def _end_cell(self, result: Any = None) -> None:
        """End the cell of that result, and cells inside it that are still open.

        An interrupt that arrives meanwhile was meant for the cell, which has ended, and is dropped.
        """
        with suppress(KeyboardInterrupt), INTERRUPTS.taken():
            self._end_cells(result)

    def _end_cells(self, result: Any) -> None:
        thread = self._threads.ident()
        cells = self._cells.get(thread, [])
        depth = _index_of_ended(cells, result)
        over, cells[depth:] = cells[depth:], []
        if not cells:
            self._cells.pop(thread, None)
        for cell in reversed(over):
            if cell.picture is not None:
                cell.picture.finish()
        if not cells and self._deciders is not None:
            self._deciders.paint()
        if not cells:
            self._repeat_sweeps()
            self._watch_new_definitions()

    def _watch_new_definitions(self) -> None:
        """Have what is due in the journal done here, if it is of what the cell has defined."""
        defined = frozenset(map(id, REGISTRY.startable().values()))
        new, self._defined = defined - self._defined, defined
        if new:
            try:
                watch_what_is_due(REGISTRY.engine())
            except IronflowError as error:  # the first run of the notebook meets it again, and tells it
                logger().debug("looking for what is due: %s", error)

    def _current_cell(self) -> RunningCell | None:
        cells = self._cells.get(self._threads.ident())
        return cells[-1] if cells else None

    def finish_picture(self) -> None:
        """Draw the last state in the picture of the cell now, before its output is recorded."""
        cell = self._current_cell()
        if cell is not None and cell.picture is not None:
            cell.picture.finish()

    # -- the port of the engine ----------------------------------------------------------------------------------

    def cell(self) -> int | None:
        """Return the number of the cell that the calling thread executes, or None if it executes none."""
        cell = self._current_cell()
        return None if cell is None else cell.number

    def cell_id(self) -> str | None:
        """Return the id of the cell that the calling thread executes, or None if the front end gives none."""
        cell = self._current_cell()
        found = None if cell is None else getattr(cell.info, "cell_id", None)
        return found if isinstance(found, str) else None

    def running_text(self) -> str | None:
        """Return the text of the cell that the calling thread executes, or None if it executes none."""
        cell = self._current_cell()
        found = None if cell is None else getattr(cell.info, "raw_cell", None)
        return found if isinstance(found, str) else None

    def say(self, line: str, *, is_awaited: bool = False) -> None:
        """Print one line into the cell, or log it if the calling thread executes no cell, and none awaits its task."""
        if self._current_cell() is None and not is_awaited:
            logger().info("%s", line)
        else:
            token = SCOPE.set(None)  # it is no output of the flow that meets it
            print(line)
            SCOPE.reset(token)

    def began(self, engine: Engine, run_id: RunId) -> None:
        """Show the picture of a run that the cell has begun. A cell has one picture, of its latest run."""
        cell = self._current_cell()
        if cell is None or not can_update():
            return
        if cell.picture is None:
            cell.picture = CellPicture()
        cell.picture.follow(engine, run_id)


def _index_of_ended(cells: list[RunningCell], result: Any) -> int:
    """Return the index of the cell that ended. An empty cell ends without having begun: the index is the length."""
    if result is None:  # the cell was cancelled
        return max(len(cells) - 1, 0)
    by_info = [n for n, cell in enumerate(cells) if cell.info is result.info]
    unnamed = [n for n, cell in enumerate(cells) if cell.info is None]
    return (by_info or unnamed or [len(cells)])[0]


def is_in_cell() -> bool:
    """Return True if the calling thread executes a cell. A configuration loads the extension before any cell."""
    frame = sys._getframe()  # no traceback is needed
    running = InteractiveShell.run_code.__code__
    while frame.f_code is not running:
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return True


def _print_coroutine(coroutine: Any, printer: Any, _: object) -> None:
    """Print a call of an async flow that nobody awaits with what to do; any other coroutine as Python does."""
    name = coroutine.__qualname__
    is_ours = coroutine.cr_code is Runnable.begin_call.__code__
    told = f"{name} is async, and this call has not begun: await {name}(...), or {name}.start(...)"
    printer.text(told if is_ours and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED else repr(coroutine))
