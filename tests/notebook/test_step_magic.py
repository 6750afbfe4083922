"""``%%step``: how a cell is named and read, and what it shows when it is executed and when it is restored."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.utils.capture import capture_output

import ironflow_nb as iron
from ironflow_nb.notebook.step_magic import complete_options
from tests.conftest import PARSE
from tests.notebook.shells import Shell


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """A shell with the extension."""
    shell.fine("%load_ext ironflow_nb")
    return shell


def in_cell(shell: Shell, cell_id: str, source: str) -> Any:
    """Execute the source as the cell of that id; return its error."""
    with capture_output() as captured:
        result = shell.ipython.run_cell(source, store_history=True, cell_id=cell_id)
    return captured.stderr if result.error_in_exec is not None else None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%step\nx = 1", "give the cell a name: %%step load"),
        ("%%step a/b\nx = 1", "'a/b' can't be the name of a cell"),
        ("%%step load\n# nothing\n", "the cell load is empty"),
        ("%%step load --outs x\nx = 1", "has no option --outs; did you mean --out?"),
        ("%%step load --blue\nx = 1", "has no option --blue; the options are --in, --out"),
        ("%%step load --in n\nx = 1", "takes in n, which is not defined"),
        ("%%step load --out 'a b'\nx = 1", "'a b' is not the name of a variable"),
        ("%%step load --retries many\nx = 1", "invalid int value: 'many'"),
        ("%%step load --retries -1\nx = 1", "--retries must be 0 or more"),
        ("%%step load --timeout-s 0\nx = 1", "--timeout-s more than 0"),
        ("%%step load --cache yesterday\nx = 1", "'yesterday' is no duration"),
        ("%%step load other\nx = 1", "unrecognized arguments: other"),
        ("%%step 'load\nx = 1", "No closing quotation"),
    ],
)
def test_what_it_does_not_know_is_refused(ready: Shell, cell: str, message: str) -> None:
    assert message in ready.run(cell).refused()
    assert "x" not in ready.space
    assert iron.runs().empty


def test_the_result_of_a_cell_is_shown_and_kept_as_that_of_any_cell(ready: Shell) -> None:
    assert ready.fine("%%step load\nn = 2\nn + 1").value == 3
    assert ready.fine("%%step quiet\nn + 1;").bundles == []


def test_what_was_shown_is_shown_again_in_its_order(ready: Shell) -> None:
    source = (
        "%%step show\nimport sys\nfrom IPython.display import display, HTML\n"
        "print('one')\nprint('two', file=sys.stderr)\ndisplay(HTML('<b>three</b>'))\nprint('four')\n{'five': 5}"
    )
    first = ready.fine(source)
    again = ready.fine(source)
    line, _, rest = again.text.partition("\n")
    assert line.startswith("restored show (")
    assert first.text.startswith(rest)
    assert (rest, again.warnings) == ("one\nfour\n", "two\n")
    assert [list(bundle) for bundle in again.bundles] == [["text/plain", "text/html"], ["text/plain"]]
    assert again.bundles[0]["text/html"] == "<b>three</b>"
    assert again.bundles[1]["text/plain"] == "{'five': 5}"


def test_of_much_output_a_part_is_kept_and_a_note(ready: Shell) -> None:
    source = (
        "%%step much\nfrom IPython.display import display\nfor n in range(5):\n"
        "    display({'text/plain': 'x' * 300_000}, raw=True)"
    )
    assert len(ready.fine(source).bundles) == 5
    again = ready.fine(source)
    assert len(again.bundles) == 3
    assert "MB of output were not recorded" in again.warnings


def test_an_output_that_was_updated_is_kept_as_it_was_last(ready: Shell) -> None:
    source = (
        "%%step update\nfrom IPython.display import display, HTML\nshown = display(HTML('a'), display_id=True)\n"
        "shown.update(HTML('b'))\ndel shown"
    )
    ready.fine(source)
    assert [bundle["text/html"] for bundle in ready.fine(source).bundles] == ["b"]


def test_magics_and_lines_of_the_system_work_and_their_names_are_found(ready: Shell) -> None:
    source = "%%step magic\n%time t = sum(range(n))\nlines = !echo {n}\n"
    ready.fine("n = 4")
    ready.fine(source)
    assert (ready.space["t"], list(ready.space["lines"])) == (6, ["4"])
    del ready.space["t"], ready.space["lines"]
    assert "restored magic" in ready.fine(source).text
    assert (ready.space["t"], list(ready.space["lines"])) == (6, ["4"])
    ready.fine("n = 5")
    assert "magic: input n changed" in ready.fine(source).text
    assert ready.space["t"] == 10


def test_a_traceback_has_the_lines_of_the_notebook_and_begins_in_the_cell(ready: Shell) -> None:
    ready.ipython.run_line_magic("xmode", "Plain")
    shown = ready.run("%%step bad\n\nx = 1\ndef fail():\n    1 / 0\nfail()")
    assert isinstance(shown.error, ZeroDivisionError)
    lines = [line for line in shown.text.splitlines() if "line" in line and ("Cell" in line or "File" in line)]
    assert "line 6" in lines[0] or ":6" in lines[0]
    assert not any("ironflow_nb" in line or "IPython" in line for line in lines)
    assert "the cell bad failed; correct it and run it again" in shown.text


def test_a_syntax_error_shows_its_line(ready: Shell) -> None:
    shown = ready.run("%%step bad\n\nx = = 1")
    assert isinstance(shown.error, SyntaxError)
    assert shown.error.lineno == 3


@pytest.mark.parametrize("body", ["x = = 1", "def f(:\n    pass", "x = 'abc", "print 3", "if True:\nx = 1"])
def test_a_syntax_error_is_shown_as_that_of_any_cell(ready: Shell, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ast, "parse", PARSE)  # without the frame of the tests' own
    plain = ready.run(f"# %%step bad\n{body}")
    shown = ready.run(f"%%step bad\n{body}")
    assert isinstance(shown.error, SyntaxError)

    def lines(text: str) -> list[str]:
        return re.sub(r"Cell In ?\[\d+\]", "", re.sub(r"\x1b\[[0-9;]*m", "", text)).split("\n")

    assert lines(shown.text) == lines(plain.text)


def test_two_cells_of_one_name_are_refused_until_one_of_them_is_gone(ready: Shell) -> None:
    assert in_cell(ready, "a", "%%step load\nx = 1") is None
    refusal = in_cell(ready, "b", "%%step load\nx = 2")
    assert "two cells of this notebook are called 'load'" in refusal
    assert "x = 1" in refusal
    assert in_cell(ready, "a", "%%step load\nx = 1") is None
    assert in_cell(ready, "b", "%%step load\nx = 2") is not None
    assert in_cell(ready, "b", "%%step load\nx = 2") is None
    assert ready.space["x"] == 2


def test_a_cell_that_was_renamed_leaves_its_name_to_others(ready: Shell) -> None:
    assert in_cell(ready, "a", "%%step load\nx = 1") is None
    assert in_cell(ready, "a", "%%step read\nx = 1") is None
    assert in_cell(ready, "b", "%%step load\nx = 2") is None


def test_a_cell_in_a_cell_of_its_own_name_is_refused(ready: Shell) -> None:
    shown = ready.run("%%step load\nget_ipython().run_cell_magic('step', 'load', 'x = 1')")
    assert "is being executed, and runs itself" in shown.warnings


def test_unloading_takes_the_magic_away(ready: Shell) -> None:
    ready.fine("%unload_ext ironflow_nb")
    assert "step" not in ready.ipython.magics_manager.magics["cell"]


def test_options_and_names_are_completed(ready: Shell) -> None:
    ready.fine("%%step load\nx = 1")

    def completed(line: str) -> list[str]:
        return complete_options(None, SimpleNamespace(line=line, symbol=line.rsplit(" ", maxsplit=1)[-1]))

    assert completed("%%step load --") == ["--in", "--out", "--retries", "--timeout-s", "--cache"]
    assert completed("%%step load --in x --") == ["--out", "--retries", "--timeout-s", "--cache"]
    assert completed("%%step lo") == ["load"]


def test_the_value_of_a_cell_is_what_it_left_behind_by_name(ready: Shell) -> None:
    ready.fine("%%step load\nx = 1\ny = [2]\nimport json")
    assert iron.get_run(iron.runs()["run_id"][0]).value("load") == {"x": 1, "y": [2]}


def test_the_run_of_a_cell_can_not_be_resumed_by_itself(ready: Shell) -> None:
    ready.run("%%step load\n1 / 0")
    assert "to the cell load; run the cell again instead" in ready.run("%ironflow resume").refused()


def test_what_a_failed_cell_says_is_about_cells(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    failed = shell.run("%%step bad\n1 / 0")
    assert isinstance(failed.error, ZeroDivisionError)
    assert failed.error.__notes__ == [
        "ironflow: the cell bad failed; correct it and run it again: the cells before it are restored"
    ]
