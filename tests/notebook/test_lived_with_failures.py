"""A cell that is run again after a run that lived with failures says how to try those again."""

from __future__ import annotations

import pytest

from ironflow_nb.execution.registry import REGISTRY
from tests.notebook.shells import Shell

CELL = """
from ironflow_nb import flow, step

BAD = {1, 3}

@step
def half(n):
    if n in BAD:
        raise ValueError(n)
    return n / 2

@flow
def main(count):
    return len(half.map(range(count), on_error="collect").ok)
"""


@pytest.fixture
def notebook(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell that continues runs as a kernel does, and not as a test."""
    shell.fine("%load_ext ironflow_nb")
    monkeypatch.setattr(REGISTRY.engine(), "joins_by_default", True)
    shell.fine(CELL)
    return shell


def test_the_line_names_the_run_and_the_call_that_tries_its_failures_again(notebook: Shell) -> None:
    assert notebook.fine("n = main(4)").text == ""
    first = notebook.fine("main.last.id").value
    shown = notebook.fine("n = main(4)")
    ready = f'iron.get_run("{first}").resume(retry="failed")'
    assert shown.text == (
        f"main: a new run is started; in run {first}, which is completed, 2 steps failed. "
        f"To try those again there: {ready}\n"
    )
    assert notebook.fine("main.last.id").value != first
    notebook.fine("BAD.clear()")
    assert notebook.fine(f"import ironflow_nb as iron\n{ready}.result(10)").value == 4


def test_after_a_run_without_failures_nothing_is_said(notebook: Shell) -> None:
    notebook.fine("BAD.clear()")
    notebook.fine("n = main(4)")
    assert notebook.fine("n = main(4)").text == ""


def test_who_asks_for_a_new_run_is_told_nothing(notebook: Shell) -> None:
    notebook.fine("n = main(4)")
    assert notebook.fine("n = main.options(fresh=True)(4)").text == ""
    assert notebook.fine("n = main(5)").text == ""


def test_failures_that_were_tried_again_with_success_are_none(notebook: Shell) -> None:
    notebook.fine("n = main(4)")
    notebook.fine("BAD.clear()\nmain.last.resume(retry='failed').wait()")
    assert notebook.fine("n = main(4)").text == ""


def test_without_the_extension_nothing_is_said(notebook: Shell) -> None:
    notebook.fine("%unload_ext ironflow_nb")
    notebook.fine("n = main(4)")
    assert notebook.fine("n = main(4)").text == ""


def test_a_failure_that_the_run_no_longer_asked_for_is_none(notebook: Shell) -> None:
    notebook.fine(CELL.replace('on_error="collect").ok', ")"))
    assert isinstance(notebook.run("n = main(4)").error, ValueError)
    notebook.fine(CELL.replace('range(count), on_error="collect").ok', "[0, 2])"))
    assert "continuing run" in notebook.fine("n = main(4)").text
    assert notebook.fine("n = main(4)").text == ""
