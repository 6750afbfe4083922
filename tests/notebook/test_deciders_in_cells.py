"""Deciders in cells: a command that is sent again is told, and so is what waits when a journal is opened."""

from __future__ import annotations

from pathlib import Path

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import QueueSelect
from tests.notebook.shells import Shell

DECIDER = """
import ironflow_nb as iron
from tests.deciders.counters import Add, Ask, Call, Remind, counters
counter = counters("cell_counter")
"""
LINE = "cell_counter c: an equal Add was accepted"


def test_an_equal_command_of_a_cell_that_runs_again_is_told_once(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(DECIDER)
    cell = "for n in (1, 1, 2): counter.send(Add('c', n))"
    assert LINE not in shown(shell, cell)
    again = shown(shell, cell)
    assert again.count(LINE) == 1
    assert "has been decided again; with send(command, key=...) it is decided once" in again
    assert LINE not in shown(shell, "counter.send(Add('c', 3))")
    assert LINE not in shown(shell, "counter.send(Add('d', 1))")


def test_a_command_with_a_key_and_one_that_is_rejected_are_not_told(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(DECIDER)
    for cell in ("counter.send(Add('c'), key='k')", "counter.send(Add('d', 0))"):
        assert "an equal Add was accepted" not in shown(shell, cell) + shown(shell, cell)


def shown(shell: Shell, cell: str) -> str:
    """Return everything that a cell shows, as text."""
    found = shell.fine(cell)
    return "\n".join([found.text, found.warnings, *(str(bundle) for bundle in found.bundles)])


def test_loading_tells_what_waits_for_a_decider_that_is_not_defined_here_and_performs_nothing(shell: Shell) -> None:
    shell.fine(DECIDER)
    for cell in ("counter.send(Ask('c', 'x'))", "counter.send(Ask('d', 'x'))", "counter.send(Remind('c', 0))"):
        shell.fine(cell)
    REGISTRY.engine().close()
    REGISTRY._engine = None
    REGISTRY.forget("decider", "cell_counter")
    before = Path(".ironflow/journal.db").read_bytes()
    (bundle,) = shell.fine("%load_ext ironflow_nb").bundles
    assert bundle["text/plain"] == "ironflow: 2 effects and 1 timer of cell_counter wait for their notebook"
    assert bundle["text/html"] == f"<div>{bundle['text/plain']}</div>"
    assert Path(".ironflow/journal.db").read_bytes() == before
    with REGISTRY.engine().reading() as reader:
        assert {work.attempts for work in reader.work(QueueSelect())} == {0}
    shell.fine(DECIDER)
    assert shell.fine("%reload_ext ironflow_nb").bundles == []
    shell.fine("counter.perform(Call)(lambda effect: None)")
    assert shell.fine("counter.run_until_idle()").value == 3
    assert len(iron.runs()) == 2


def test_one_thing_that_waits_is_one(shell: Shell) -> None:
    shell.fine(DECIDER)
    shell.fine("counter.send(Remind('c', 3600))")
    REGISTRY.engine().close()
    REGISTRY._engine = None
    REGISTRY.forget("decider", "cell_counter")
    (bundle,) = shell.fine("%load_ext ironflow_nb").bundles
    assert bundle["text/plain"] == "ironflow: 1 timer of cell_counter waits for its notebook"
