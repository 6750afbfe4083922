"""`run.debug` and ``%ironflow debug`` in a notebook: variables, and a next cell that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebook.shells import Shell

FLOW = """
import ironflow_nb as iron

@iron.step
def half(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2

@iron.flow
def main(n):
    return half(n)
"""


@pytest.fixture
def failed(shell: Shell) -> Shell:
    """A shell whose newest run has failed."""
    shell.fine("%load_ext ironflow_nb")
    shell.fine(FLOW)
    assert isinstance(shell.run("main(3)").error, ValueError)
    return shell


@pytest.mark.parametrize("line", ["main.last.debug()", "%ironflow debug", "%ironflow debug {main.last.id} half[0]"])
def test_the_next_cell_is_ready_and_fails_as_the_step_did(failed: Shell, line: str) -> None:
    failed.fine(line)
    assert failed.space["inputs"] == {"n": 3}
    assert isinstance(failed.space["error"], ValueError)
    assert "3 is odd" in failed.space["error_text"]
    ready = failed.ipython.rl_next_input
    assert ready.splitlines() == [
        f"# half[0] of run {failed.space['main'].last.id}: ValueError: 3 is odd (line 6 of the cell, in half)",
        "half.fn(**inputs)",
    ]
    assert isinstance(failed.run(ready).error, ValueError)


def test_the_mended_function_is_called(failed: Shell) -> None:
    failed.fine("%ironflow debug")
    failed.fine(FLOW.replace('raise ValueError(f"{n} is odd")', "return n / 2"))
    assert failed.fine(failed.ipython.rl_next_input).value == 1.5


def test_a_function_of_a_module_is_imported(shell: Shell) -> None:
    Path("halves.py").write_text(FLOW)
    shell.fine("%load_ext ironflow_nb\nimport sys; sys.path.insert(0, '')\nfrom halves import main")
    assert isinstance(shell.run("main(3)").error, ValueError)
    shell.fine("%ironflow debug")
    ready = shell.ipython.rl_next_input
    assert "(line 7 of halves.py, in half)" in ready
    assert ready.endswith("import halves\nhalves.half.fn(**inputs)")
    assert isinstance(shell.run(ready).error, ValueError)
    shell.fine("del sys.modules['halves'], sys.path[0]")


def test_a_step_that_is_not_there_is_refused(failed: Shell) -> None:
    assert "has no step 'third'" in failed.run("%ironflow debug {main.last.id} third").refused()
