"""Loading the extension: once, twice, again; what it adds, and that it leaves no trace."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter

from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.system.frontend import frontend
from ironflow_nb.notebook.ironflow_magic import VERBS
from tests.notebook.shells import Shell

FLOW = """
import ironflow_nb as iron

@iron.step
def work(n):
    return n

@iron.flow
def main(n):
    values = [work(i) for i in range(n)]
    if n == 3:
        raise KeyboardInterrupt
    return values
"""


def completions(shell: Shell, line: str) -> list[str]:
    with provisionalcompleter():
        return [found.text.rpartition(" ")[2] for found in shell.ipython.Completer.completions(line, len(line))]


def hooks(shell: Shell) -> int:
    return sum(len(found) for found in shell.ipython.events.callbacks.values())


def test_loading_adds_a_magic_that_documents_itself_and_completes(shell: Shell) -> None:
    assert "UsageError" in shell.run("%ironflow runs").warnings
    shown = shell.fine("%load_ext ironflow_nb")
    assert (shown.text, shown.warnings, shown.bundles) == ("", "", [])
    assert set(VERBS) <= set(completions(shell, "%ironflow "))
    assert "resume" in completions(shell, "%ironflow re")
    magic = shell.ipython.find_line_magic("ironflow")
    assert all(f"%ironflow {verb}" in magic.__doc__ for verb in VERBS)


def test_loading_twice_changes_nothing_more(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    loaded, n_hooks = frontend(), hooks(shell)
    assert "already loaded" in shell.fine("%load_ext ironflow_nb").text
    shell.fine("import ironflow_nb\nironflow_nb.load_ipython_extension(get_ipython())")
    assert frontend() is loaded
    assert hooks(shell) == n_hooks


def test_unloading_takes_everything_away(shell: Shell) -> None:
    n_hooks = hooks(shell)
    shell.fine("%load_ext ironflow_nb")
    assert hooks(shell) == n_hooks + 2
    shell.fine("%unload_ext ironflow_nb")
    assert frontend() is None
    assert hooks(shell) == n_hooks
    assert "UsageError" in shell.run("%ironflow runs").warnings
    assert not {"runs", "resume"} & set(completions(shell, "%ironflow "))
    assert shell.fine(FLOW + "run = main.start(2)\nrun.result()").value == [0, 1]


def test_unloading_what_is_not_loaded_is_no_error(shell: Shell) -> None:
    n_hooks = hooks(shell)
    shell.fine("import ironflow_nb\nironflow_nb.unload_ipython_extension(get_ipython())")
    assert hooks(shell) == n_hooks
    assert frontend() is None


def test_reloading_works_as_loading(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    n_hooks = hooks(shell)
    for _ in range(3):
        shell.fine("%reload_ext ironflow_nb")
    assert hooks(shell) == n_hooks
    assert completions(shell, "%ironflow res") == ["resume"]
    assert shell.fine("%ironflow runs").value.empty


def test_loading_and_looking_create_no_file(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine("%ironflow runs")
    shell.run("%ironflow show")
    completions(shell, "%ironflow show ")
    assert list(Path.cwd().iterdir()) == []


def test_loading_over_a_journal_touches_no_file_beside_it(shell: Shell) -> None:
    shell.run(FLOW + "main(3)")
    engine = REGISTRY.engine()
    engine.close()
    REGISTRY._engine = None

    def files() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in Path.cwd().rglob("*") if path.is_file()}

    before = files()
    assert any(name.endswith("journal.db") for name in before)
    assert shell.fine("%load_ext ironflow_nb").bundles != []
    assert files() == before


@pytest.mark.parametrize("kind", ["noise", "folder"])
def test_loading_beside_something_that_is_no_journal_warns_and_loads(
    shell: Shell, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(".ironflow") / "journal.db"
    path.parent.mkdir()
    if kind == "noise":
        path.write_bytes(b"noise " * 1000)
    else:
        path.mkdir()
    shell.fine("%load_ext ironflow_nb")
    (record,) = caplog.records
    assert "journal.db" in record.getMessage()
    assert "journal.db" in shell.run("%ironflow runs").refused()


def test_each_cell_is_an_execution_and_a_cell_inside_a_cell_does_not_end_it(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.space["cell"] = lambda: frontend().cell()  # type: ignore[union-attr]
    first = shell.fine("cell()").value
    shell.fine("""
before = cell()
get_ipython().run_cell("inner = cell()")
get_ipython().run_cell("")
get_ipython().run_cell("raise ValueError", silent=True)
after = cell()
""")
    space = shell.space
    assert first < space["before"] < space["inner"]
    assert space["after"] == space["before"]
    assert shell.fine("cell()").value > space["inner"]
    assert frontend().cell() is None  # type: ignore[union-attr]


def test_a_cell_inside_the_loading_cell_does_not_end_that_one(shell: Shell) -> None:
    shell.space["face"] = frontend
    shell.fine("""
%load_ext ironflow_nb
before = face().cell()
get_ipython().run_cell("inner = face().cell()")
after = face().cell()
""")
    assert shell.space["before"] == shell.space["after"] is not None
    assert shell.space["inner"] not in {None, shell.space["before"]}
    assert frontend().cell() is None  # type: ignore[union-attr]


def test_outside_of_cells_there_is_none_even_if_a_configuration_loaded_the_extension(shell: Shell) -> None:
    shell.ipython.extension_manager.load_extension("ironflow_nb")
    assert frontend().cell() is None  # type: ignore[union-attr]
    shell.fine("1 + 1")
    assert frontend().cell() is None  # type: ignore[union-attr]


def test_what_other_threads_say_is_logged_and_not_printed_into_a_cell(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ironflow_nb")
    shell.fine("%load_ext ironflow_nb")
    shell.space["face"] = frontend
    shown = shell.fine("""
import threading
thread = threading.Thread(target=lambda: face().say("from beside"))
thread.start(); thread.join()
face().say("from the cell")
""")
    assert shown.text == "from the cell\n"
    assert [record.getMessage() for record in caplog.records] == ["from beside"]


def test_equal_calls_in_one_cell_are_several_runs(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(FLOW)
    ids = shell.fine("[main.start(1).wait().id for _ in range(3)]").value
    assert all(one != other for one, other in itertools.combinations(ids, 2))


def test_a_call_of_an_async_flow_that_nobody_awaits_says_so(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine("import ironflow_nb as iron\n@iron.flow\nasync def later(n): return n\nasync def other(): ...")
    told = "later is async, and this call has not begun: await later(...), or later.start(...)"
    assert told in shell.fine("call = later(2)\ncall").text
    assert shell.fine("print(await call)").text == "2\n"
    assert "<coroutine object other at" in shell.fine("made = other()\nmade").text
    shell.fine("await made")
