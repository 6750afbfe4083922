"""A shell for each test of the extension, with a default journal of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ironflow_nb.execution.registry import REGISTRY
from tests.notebook.shells import Shell


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Return a shell in an empty folder, where ironflow_nb is installed and not loaded."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr(REGISTRY, "_engine", None)
    made = InteractiveShell.instance(
        config=Config(HistoryManager={"enabled": False}, InteractiveShell={"xmode": "Minimal"})
    )
    try:
        yield Shell(made)
    finally:
        if REGISTRY._engine is not None:
            REGISTRY._engine.close()
        made.run_cell("%unload_ext ironflow_nb", silent=True)
        made.restore_sys_module_state()
        made.cleanup()
        InteractiveShell.clear_instance()
