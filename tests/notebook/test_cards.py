"""The card that loading shows where runs were interrupted."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.notebook import unfinished_card
from tests.conftest import Lab
from tests.notebook.shells import Shell

FLOW = """
import ironflow_nb as iron

@iron.step
def work(n):
    return n

@iron.flow(name="<b>tag</b>")
def main(n, how):
    for i in range(n):
        work(i)
    if how:
        raise {"stop": KeyboardInterrupt, "fail": ValueError}[how]
"""


def fresh(shell: Shell) -> None:
    """Begin as a new process does, on the journal that is there."""
    REGISTRY.engine().close()
    REGISTRY._engine = None


def test_nothing_is_shown_where_nothing_is_unfinished(shell: Shell) -> None:
    assert shell.fine("%load_ext ironflow_nb").bundles == []
    shell.fine(FLOW)
    assert isinstance(shell.run("main(1, 'fail')").error, ValueError)
    shell.fine("main(1, '')")
    fresh(shell)
    assert shell.fine("%reload_ext ironflow_nb").bundles == []


def test_a_run_that_failed_is_on_the_card_until_its_flow_runs_again(shell: Shell) -> None:
    shell.fine(FLOW)
    assert isinstance(shell.run("main(3, 'fail')").error, ValueError)
    fresh(shell)
    (bundle,) = shell.fine("%load_ext ironflow_nb").bundles
    assert "failed " in bundle["text/plain"]
    assert "3 finished steps are safe (" in bundle["text/plain"]
    assert ": ValueError" in bundle["text/plain"]


def test_a_failure_of_long_ago_is_not_on_the_card(lab: Lab) -> None:
    clock = lab.simulate_time()

    @iron.flow
    def main() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        main()
    clock.advance(6 * 86400)
    assert [each.status for each in unfinished_card.unfinished(lab.engine).runs] == ["failed"]
    clock.advance(2 * 86400)
    assert not unfinished_card.unfinished(lab.engine)


def test_flows_that_are_not_defined_yet_are_named(shell: Shell) -> None:
    shell.fine(FLOW)
    shell.run("main(2, 'stop')")
    fresh(shell)
    REGISTRY.forget("flow", "<b>tag</b>")
    view = unfinished_card.unfinished(REGISTRY.engine())
    assert view.undefined == ("<b>tag</b>",)
    assert "Not defined here yet: <b>tag</b>." in unfinished_card.as_text(REGISTRY.engine(), view)
    shell.fine(FLOW)
    assert unfinished_card.unfinished(REGISTRY.engine(), [view.runs[0].run_id]).undefined == ()


def test_the_card_names_the_run_what_is_safe_and_how_to_go_on(shell: Shell) -> None:
    shell.fine(FLOW)
    shell.run("main(2, 'stop')")
    run_id = iron.runs()["run_id"][0]
    fresh(shell)
    (bundle,) = shell.fine("%load_ext ironflow_nb").bundles
    text, html = bundle["text/plain"], bundle["text/html"]
    assert text.startswith("ironflow: 1 unfinished run\n")
    assert f"  {run_id}  <b>tag</b>  interrupted " in text
    assert "2 finished steps are safe" in text
    assert f"%ironflow resume {run_id[:6]}" in text
    root = ET.fromstring(html)
    words = " ".join(" ".join(root.itertext()).split())
    assert run_id in words
    assert "<b>tag</b>" in words  # as text: it is escaped
    assert not {element.tag for element in root.iter()} & {"script", "style", "form", "button"}
    continued = shell.fine("%load_ext ironflow_nb\nimport ironflow_nb as iron\n%ironflow show").value
    assert continued.id == run_id


def test_the_card_shows_the_newest_and_counts_the_others(shell: Shell) -> None:
    shell.fine(FLOW)
    for n in range(7):
        shell.run(f"main({n}, 'stop')")
    newest_first = iron.runs()["run_id"].tolist()
    fresh(shell)
    text = shell.fine("%load_ext ironflow_nb").bundles[0]["text/plain"]
    assert text.startswith(f"ironflow: 7 unfinished runs, of which the newest {unfinished_card.SHOWN} are\n")
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert listed == newest_first[: unfinished_card.SHOWN]


def test_a_run_whose_process_died_is_on_the_card_and_one_that_goes_on_is_not(lab: Lab) -> None:
    @iron.step
    def work() -> int:
        return 1

    @iron.flow
    def main() -> None:
        work()
        assert not unfinished_card.unfinished(lab.engine)
        lab.die_in_flow()

    with pytest.raises(SystemExit):
        main()
    (item,) = unfinished_card.unfinished(lab.engine).runs
    assert (item.name, item.status, item.n_safe) == (main.name, "interrupted", 1)
    assert 0 <= lab.engine.clock.now() - item.active_at < 60e6


def test_runs_of_long_ago_are_not_on_the_card(lab: Lab) -> None:
    clock = lab.simulate_time()

    @iron.flow
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    clock.advance(29 * 86400)
    assert len(unfinished_card.unfinished(lab.engine).runs) == 1
    clock.advance(2 * 86400)
    assert not unfinished_card.unfinished(lab.engine)


def test_the_card_needs_no_journal_and_makes_none(shell: Shell) -> None:
    assert not unfinished_card.unfinished(REGISTRY.engine())
    unfinished_card.show_unfinished()
    assert list(Path.cwd().iterdir()) == []
