"""``%load_ext ironflow_nb``: what the extension adds to a shell, and takes away again."""

from __future__ import annotations

from typing import Any

from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.durable_cells.first_line import MAGIC as CELL_MAGIC
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.surroundings import FACE_ATTRIBUTE
from ironflow_nb.notebook import question_marks, tracebacks
from ironflow_nb.notebook.cards import show_unfinished
from ironflow_nb.notebook.completion import RunMatcher
from ironflow_nb.notebook.face import NotebookFace
from ironflow_nb.notebook.graph_completion import GraphMatcher
from ironflow_nb.notebook.graphs import GraphMagics
from ironflow_nb.notebook.magics import IronflowMagics
from ironflow_nb.notebook.steps import StepMagics, complete_options


def load_ipython_extension(shell: Any) -> None:
    """Add the magics, the displays and the card of unfinished runs; loading it twice does nothing more.

    Nothing is created or locked: an existing journal is only looked at.
    """
    if getattr(shell, FACE_ATTRIBUTE, None) is not None:
        return
    face = NotebookFace(shell)
    face.attach()
    tracebacks.attach(shell)
    question_marks.attach(shell)
    setattr(shell, FACE_ATTRIBUTE, face)
    shell.register_magics(IronflowMagics)
    shell.register_magics(StepMagics)
    shell.register_magics(GraphMagics)
    shell.Completer.custom_matchers += [GraphMatcher(shell), RunMatcher(shell)]
    shell.set_hook("complete_command", complete_options, str_key=CELL_MAGIC)
    show_unfinished()


def unload_ipython_extension(shell: Any) -> None:
    """Take away what loading has added."""
    face = getattr(shell, FACE_ATTRIBUTE, None)
    if face is None:
        return
    face.detach()
    tracebacks.detach(shell)
    question_marks.detach(shell)
    for known in HOME.definitions(KIND):
        HOME.forget(KIND, known.name)
    delattr(shell, FACE_ATTRIBUTE)
    shell.magics_manager.magics["line"].pop("ironflow", None)
    for cell_magic in ("step", "graph"):
        shell.magics_manager.magics["cell"].pop(cell_magic, None)
    for magics in (IronflowMagics, StepMagics, GraphMagics):
        shell.magics_manager.registry.pop(magics.__name__, None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if not isinstance(each, GraphMatcher | RunMatcher)]
    shell.strdispatchers["complete_command"].strs.pop(CELL_MAGIC, None)
