"""``%load_ext ironflow_nb``: loading and unloading the extension of a shell."""

from __future__ import annotations

import os
from typing import Any, Final

from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.durable_cells.cell import MAGIC as CELL_MAGIC
from ironflow_nb.execution import EXTENSION_ATTRIBUTE, REGISTRY
from ironflow_nb.flows.step import Bindable
from ironflow_nb.notebook import tracebacks
from ironflow_nb.notebook.graph_completion import GraphMatcher
from ironflow_nb.notebook.graph_magic import GraphMagics
from ironflow_nb.notebook.ironflow_magic import IronflowMagics, RunMatcher
from ironflow_nb.notebook.notebook_hooks import NotebookHooks
from ironflow_nb.notebook.step_magic import StepMagics, complete_options
from ironflow_nb.notebook.unfinished_card import SILENT_ATTRIBUTE, show_unfinished
from ironflow_nb.notebook.whole_notebook import whole_notebook

_OF_THE_CLASS: Final = ("call_def", "call_docstring", "class_docstring", "init_docstring", "string_form")


def attach_inspector(shell: Any) -> None:
    """Make ``fetch?`` of a step or flow show its function only, without the class of the decorator."""
    inspector = shell.inspector
    plain = inspector.info

    def info(value: Any, *args: Any, **options: Any) -> Any:
        found = plain(value, *args, **options)
        if isinstance(value, Bindable):
            found |= dict.fromkeys(_OF_THE_CLASS)
        return found

    inspector.info = info


def detach_inspector(shell: Any) -> None:
    """Restore the inspector of the shell."""
    vars(shell.inspector).pop("info", None)


def load_ipython_extension(shell: Any) -> None:
    """Add the magics, the displays and the card of unfinished runs; a second load does nothing.

    No journal is created or locked: an existing one is only read.
    """
    if getattr(shell, EXTENSION_ATTRIBUTE, None) is not None:
        return
    hooks = NotebookHooks(shell)
    hooks.attach()
    tracebacks.attach(shell)
    attach_inspector(shell)
    setattr(shell, EXTENSION_ATTRIBUTE, hooks)
    shell.register_magics(IronflowMagics)
    shell.register_magics(StepMagics)
    shell.register_magics(GraphMagics)
    shell.Completer.custom_matchers += [GraphMatcher(shell), RunMatcher(shell)]
    shell.set_hook("complete_command", complete_options, str_key=CELL_MAGIC)
    if os.environ.get("IRONFLOW_CELLS") == "1":
        whole_notebook(shell).turn_on()
    if not hasattr(shell, SILENT_ATTRIBUTE):
        hooks.keep("unfinished", show_unfinished())


def unload_ipython_extension(shell: Any) -> None:
    """Remove everything that loading has added."""
    hooks = getattr(shell, EXTENSION_ATTRIBUTE, None)
    if hooks is None:
        return
    whole_notebook(shell).turn_off()
    hooks.detach()
    tracebacks.detach(shell)
    detach_inspector(shell)
    for known in REGISTRY.definitions(KIND):
        REGISTRY.forget(KIND, known.name)
    delattr(shell, EXTENSION_ATTRIBUTE)
    shell.magics_manager.magics["line"].pop("ironflow", None)
    for cell_magic in ("step", "graph"):
        shell.magics_manager.magics["cell"].pop(cell_magic, None)
    for magics in (IronflowMagics, StepMagics, GraphMagics):
        shell.magics_manager.registry.pop(magics.__name__, None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if not isinstance(each, GraphMatcher | RunMatcher)]
    shell.strdispatchers["complete_command"].strs.pop(CELL_MAGIC, None)
