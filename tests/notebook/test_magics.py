"""``%ironflow``: every verb with what it takes and with what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter

import ironflow_nb as iron
from ironflow_nb.handles.run import Run
from ironflow_nb.notebook.ironflow_magic import complete
from tests.notebook.shells import Shell
from tests.waits.conftest import until

FLOW = """
import ironflow_nb as iron

@iron.step
def work(n):
    return n

is_stopped = True

@iron.flow
def main(n):
    total = work(n) + work(n + 1)
    if n == 3 and is_stopped:
        raise KeyboardInterrupt
    return total
"""


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """A shell with the extension, a completed run and a newer interrupted one."""
    shell.fine("%load_ext ironflow_nb")
    shell.fine(FLOW)
    shell.fine("done = main.start(1).wait()")
    assert isinstance(shell.run("main(3)").error, KeyboardInterrupt)
    return shell


def ids(shell: Shell) -> list[str]:
    found: list[str] = iron.runs()["run_id"].tolist()
    return found


# -- runs --------------------------------------------------------------------------------------------------------


def test_runs_is_the_frame_of_runs(ready: Shell) -> None:
    assert ready.fine("%ironflow runs").value.equals(iron.runs())
    assert ready.fine("%ironflow runs main --status completed").value["run_id"].tolist() == ids(ready)[1:]
    assert ready.fine("%ironflow runs --since 1h --limit 1").value["run_id"].tolist() == ids(ready)[:1]
    assert ready.fine("%ironflow runs other").value.empty


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--status green", "%ironflow runs: status must be one of pending, running"),
        ("--since yesterday", "'yesterday' is no duration"),
        ("--limit many", "argument --limit: invalid int value: 'many'"),
        ("--limit -1", "limit must be an int >= 0, got -1"),
        ("main other", "unrecognized arguments: other; usage: ironflow runs"),
        ("--colour red", "unrecognized arguments: --colour"),
        ("--limit", "expected one argument"),
        ("'main", "No closing quotation"),
        ("-h", "usage: ironflow runs"),
    ],
)
def test_runs_refuses_what_it_does_not_know(ready: Shell, arguments: str, message: str) -> None:
    shown = ready.run(f"%ironflow runs {arguments}")
    assert message in shown.refused()
    assert shown.text == ""


# -- show, steps, events -----------------------------------------------------------------------------------------


def test_show_is_the_run_with_its_picture(ready: Shell) -> None:
    newest, older = ids(ready)
    for words, expected in (("", newest), (older[:6], older), (older.upper(), older), ("done", older)):
        shown = ready.fine(f"%ironflow show {words}")
        assert isinstance(shown.value, Run)
        assert shown.value.id == expected
        (bundle,) = shown.bundles
        assert bundle["image/svg+xml"].startswith("<svg")
        assert "main" in bundle["text/plain"]


def test_steps_and_events_are_frames_of_one_run(ready: Shell) -> None:
    newest, older = ids(ready)
    assert ready.fine("%ironflow steps").value.equals(iron.steps(run=newest))
    assert ready.fine(f"%ironflow steps {older[:5]} --status completed").value["run_id"].tolist() == [older] * 2
    assert ready.fine("%ironflow steps done --status failed").value.empty
    assert ready.fine("%ironflow events done").value.equals(iron.events(run=older))
    assert ready.fine("%ironflow events").value["type"].iloc[-1] == "RunInterrupted"


@pytest.mark.parametrize("verb", ["show", "steps", "events", "resume", "cancel", "pause", "attach"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("zzzzzz", "no run begins with 'zzzzzz'; the newest are"),
        ("main", "no run begins with 'main'"),  # a variable that holds no run
        ("a b", "unrecognized arguments: b"),
        ("--limit 3", "unrecognized arguments"),
    ],
)
def test_a_run_that_can_not_be_found_is_refused(ready: Shell, verb: str, words: str, message: str) -> None:
    assert message in ready.run(f"%ironflow {verb} {words}").refused()


@pytest.mark.parametrize("verb", ["show", "steps", "events", "resume", "cancel", "pause", "attach", "diagram"])
def test_an_ambiguous_prefix_lists_the_runs(ready: Shell, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0xAA0 << 52, 0xAA1 << 52])
    ledger = iron.engine().access
    entropy = ledger.entropy
    monkeypatch.setattr(ledger, "entropy", lambda n: next(given).to_bytes(8, "big"))
    ready.fine("one, two = main.start(5).wait(), main.start(6).wait()")
    monkeypatch.setattr(ledger, "entropy", entropy)
    text = ready.run(f"%ironflow {verb} n8").refused()
    assert "several runs begin with 'n8'" in text
    assert all(ready.space[name].id in text for name in ("one", "two"))


def test_steps_refuses_a_status_that_is_none(ready: Shell) -> None:
    assert "status must be one of pending, running" in ready.run("%ironflow steps --status green").refused()


@pytest.mark.parametrize("verb", ["show", "steps", "events", "resume", "cancel", "pause", "attach", "diagram"])
def test_without_a_journal_there_are_no_runs(shell: Shell, verb: str) -> None:
    shell.fine("%load_ext ironflow_nb")
    assert f"there are no runs in {Path.cwd()}" in shell.run(f"%ironflow {verb}").refused()
    assert "the journal has no runs" in shell.run(f"%ironflow {verb} abc").refused()
    assert shell.fine("%ironflow runs").value.empty
    assert list(Path.cwd().iterdir()) == []


# -- resume ------------------------------------------------------------------------------------------------------


def test_resume_continues_a_run_in_the_background_and_returns_it(ready: Shell) -> None:
    ready.fine("is_stopped = False")
    shown = ready.fine("%ironflow resume")
    assert shown.value.result(timeout_s=20) == 7
    assert shown.value.steps()["reused"].all()
    assert iron.runs()["status"].tolist() == ["completed", "completed"]
    assert ready.fine("%ironflow resume done").value is ready.space["done"]


def test_resume_says_what_is_missing(ready: Shell) -> None:
    ready.fine("""
from ironflow_nb.execution.registry import REGISTRY
known = dict(REGISTRY._definitions)
REGISTRY._definitions.clear()
""")
    text = ready.run("%ironflow resume").refused()
    ready.fine("REGISTRY._definitions.update(known)")
    assert "%ironflow resume: run" in text
    assert "is of flow main, which is not defined here; run the cell" in text


# -- what is done to runs, and the rest ----------------------------------------------------------------------------


def test_cancel_and_pause_are_those_of_the_run(ready: Shell) -> None:
    newest, older = ids(ready)
    assert ready.fine("%ironflow cancel").value.id == newest
    assert iron.get_run(newest).status == "cancelled"
    assert "is completed" in ready.run(f"%ironflow pause {older}").refused()


def test_fork_goes_on_from_a_moment(ready: Shell) -> None:
    forked = ready.fine("%ironflow fork done").value
    assert forked.result(20) == 3
    position = iron.events(run=ids(ready)[-1])["position"].iloc[2]
    assert ready.fine(f"%ironflow fork done {position}").value.result(20) == 3
    assert "invalid int value: 'first'" in ready.run("%ironflow fork done first").refused()


def test_diagram_is_that_of_a_run_or_of_a_flow(ready: Shell) -> None:
    of_flow = ready.fine("%ironflow diagram main").value
    of_run = ready.fine("%ironflow diagram done").value
    assert type(of_flow) is type(of_run)
    assert "work" in str(of_flow)


def test_attach_shows_the_run_once_where_no_output_can_be_replaced(ready: Shell) -> None:
    shown = ready.fine("%ironflow attach done")
    assert shown.value.id == ids(ready)[-1]
    assert [bundle for bundle in shown.bundles if "image/svg+xml" in bundle]


def test_sql_takes_the_rest_of_the_line(ready: Shell) -> None:
    query = "SELECT name, count(*) AS n FROM runs WHERE status = 'completed' AND name LIKE '%ain' GROUP BY name"
    assert ready.fine(f"%ironflow sql {query}").value.equals(iron.sql(query))
    assert "write a query" in ready.run("%ironflow sql").refused()


def test_live_off_shows_no_cards_until_it_is_on_again(ready: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONFLOW_STATIC", "")
    assert ready.fine("%ironflow live off").value is None
    assert os.environ["IRONFLOW_STATIC"] == "1"
    ready.fine("%ironflow live on")
    assert os.environ["IRONFLOW_STATIC"] == ""
    assert "invalid choice: 'slow'" in ready.run("%ironflow live slow").refused()


def test_trust_is_that_of_the_module(ready: Shell) -> None:
    assert ready.fine("%ironflow trust").value == iron.trust()


# -- doctor ------------------------------------------------------------------------------------------------------


def test_doctor_tells_how_the_journal_is_and_shows_it_in_full(ready: Shell) -> None:
    shown = ready.fine("%ironflow doctor")
    assert shown.value["what"].tolist() == iron.doctor()["what"].tolist()
    assert "doctor" in complete("%ironflow d")
    assert f"{Path.cwd() / '.ironflow' / 'journal.db'}" in shown.value._repr_html_()
    assert "unrecognized arguments: now" in ready.run("%ironflow doctor now").refused()


def test_doctor_makes_nothing_where_there_is_no_journal(shell: Shell) -> None:
    shell.fine("import ironflow_nb as iron")
    report = shell.fine("iron.doctor()").value
    assert report.query("what == 'extension'")["advice"].tolist() == ["%load_ext ironflow_nb"]
    shell.fine("%load_ext ironflow_nb")
    report = shell.fine("%ironflow doctor").value
    assert report.query("what == 'extension'")["found"].tolist() == ["loaded"]
    assert list(Path.cwd().iterdir()) == []


# -- use ---------------------------------------------------------------------------------------------------------


def test_use_makes_another_journal_the_default_one(ready: Shell) -> None:
    before = iron.engine()
    assert ready.fine("%ironflow use 'other place/journal.db' --durability process").value is None
    assert iron.engine() is not before
    assert iron.engine().durability == "process"
    assert iron.runs().empty
    ready.fine("main.start(1).wait()")
    assert (Path("other place") / "journal.db").exists()
    assert len(iron.runs()) == 1
    ready.fine("%ironflow use .ironflow/journal.db")
    assert len(iron.runs()) == 2
    assert iron.engine().durability == "power"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: path"),
        ("a.db b.db", "unrecognized arguments: b.db"),
        ("a.db --durability some", "invalid choice: 'some'"),
    ],
)
def test_use_refuses_what_it_does_not_know_and_changes_nothing(ready: Shell, arguments: str, message: str) -> None:
    before = iron.engine()
    assert message in ready.run(f"%ironflow use {arguments}").refused()
    assert iron.engine() is before


# -- the overview and Tab ----------------------------------------------------------------------------------------


def test_without_a_verb_the_newest_runs_are_shown_and_what_can_be_typed(ready: Shell) -> None:
    shown = ready.fine("%ironflow")
    assert shown.value["run_id"].tolist() == ids(ready)
    assert "the newest runs (1 interrupted, 1 completed)" in shown.text
    assert "%ironflow runs | show | steps | events" in shown.text


def test_the_overview_makes_nothing_where_there_is_no_journal(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    assert "no runs" in shell.fine("%ironflow").text
    assert list(Path.cwd().iterdir()) == []


def offered(shell: Shell, line: str) -> list[str]:
    with provisionalcompleter():
        return [each.text for each in shell.ipython.Completer.completions(line, len(line))]


def test_tab_offers_verbs_first_and_nothing_else(ready: Shell) -> None:
    assert offered(ready, "%ironflow ")[:3] == ["runs", "show", "steps"]
    assert offered(ready, "%ironflow res") == ["resume"]
    assert offered(ready, "%ironflow show ") == ids(ready)


@pytest.mark.parametrize("line", ['done.explain("', "done.value('", 'main.last.debug( "'])
def test_tab_offers_steps_in_the_quotes_of_a_run(ready: Shell, line: str) -> None:
    assert offered(ready, line) == ["work[0]", "work[1]"]
    assert offered(ready, f"{line}work[1") == ["work[1]"]


def test_tab_offers_no_steps_elsewhere(ready: Shell) -> None:
    assert "work[0]" not in offered(ready, 'main.explain("')
    assert "work[0]" not in offered(ready, 'nothing.explain("')


@pytest.mark.parametrize("internal", ["request", "run_call", "call_as_child", "bound_to", "receiver", "spec", "policy"])
def test_names_of_the_inside_are_not_offered(ready: Shell, internal: str) -> None:
    for name in ("main", "work"):
        assert internal not in dir(ready.space[name])
    assert {"start", "plan", "runs", "last", "options", "fn", "name"} <= set(dir(ready.space["main"]))
    assert {"map", "submit", "options", "fn", "name"} <= set(dir(ready.space["work"]))


def test_names_of_the_inside_of_deciders_graphs_and_projections_are_not_offered() -> None:
    decider = iron.Decider("order", initial=0)
    totals = iron.projection("totals", initial=0)(lambda state, event: state)
    for value, inside, outside in (
        (decider, {"decide_with", "event_codec", "memory", "continue_run"}, {"send", "decide", "state", "diagram"}),
        (iron.Graph("g"), {"define_steps", "tracked", "request", "definition"}, {"node", "validate", "start", "plan"}),
        (totals, {"fold", "continue_run"}, {"state", "frame", "rebuild", "start"}),
    ):
        assert not inside & set(dir(value))
        assert outside <= set(dir(value))


# -- the words themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%ironflow rnus", "knows no 'rnus'; did you mean %ironflow runs?"),
        ("%ironflow step", "did you mean %ironflow steps?"),
        ("%ironflow resmue x", "did you mean %ironflow resume?"),
        ("%ironflow xyz", "knows no 'xyz'; there are: runs, show, steps, events, waiting, answer, signal, resume, "),
        ("%ironflow --help", "knows no '--help'; there are"),
    ],
)
def test_a_word_that_is_no_verb_is_refused_with_a_hint(ready: Shell, line: str, message: str) -> None:
    assert message in ready.run(line).refused()


def test_the_twins_of_the_magics_do_the_same(ready: Shell) -> None:
    assert ready.fine("iron.runs()").value.equals(ready.fine("%ironflow runs").value)
    assert ready.fine("done.steps()").value.equals(ready.fine("%ironflow steps done").value)
    frame = ready.fine("frame = %ironflow events done\nframe").value
    assert frame.equals(ready.fine("done.events()").value)


# -- people ------------------------------------------------------------------------------------------------------

ASKS = """
import ironflow_nb as iron

@iron.flow(name="asks")
def asks():
    answers = iron.approve("Go?"), iron.ask("Who?", choices=["ann", "bob"]), iron.ask("How many?", type=int)
    return *answers, iron.wait_for("go")

run = asks.start()
"""


def asked(question: str) -> None:
    until(lambda: list(iron.waiting()["question"]) == [question])


def test_questions_are_listed_and_answered_by_what_is_typed(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(ASKS)
    asked("Go?")
    run = shell.space["run"]
    assert list(shell.fine("%ironflow waiting").value["question"]) == ["Go?"]
    assert complete("%ironflow answer ") == [run.id]
    assert complete(f"%ironflow answer {run.id} ") == ["yes", "no"]
    assert "takes True or False, not 'perhaps'" in shell.run(f"%ironflow answer {run.id[:6]} perhaps").refused()
    assert isinstance(shell.fine("%ironflow answer run yes").value, Run)
    asked("Who?")
    assert complete(f"%ironflow answer {run.id} ") == ["ann", "bob"]
    shell.fine("%ironflow answer run 2 --step iron.ask[0]")
    asked("How many?")
    assert complete(f"%ironflow answer {run.id} ") == []
    shell.fine("n = 7")
    shell.fine("%ironflow answer run n")
    assert complete("%ironflow signal ") == [run.id]
    shell.fine("""%ironflow signal run go '{"a": 1}' --id a""")
    assert run.result(60) == (True, "bob", 7, {"a": 1})
    assert "completed, so it waits for no" in shell.run("%ironflow answer run yes").refused()
    assert "another payload" in shell.run("%ironflow signal run go 8 --id a").refused()
    assert "the package's own" in shell.run("%ironflow signal run ironflow:cancel").refused()


def test_the_card_of_a_new_kernel_shows_the_open_questions(shell: Shell) -> None:
    shell.fine(ASKS)
    asked("Go?")
    run = shell.space["run"]
    until(lambda: run.status == "waiting")
    [*_, card] = shell.fine("%load_ext ironflow_nb").bundles
    assert f'asks asks "Go?": iron.get_run("{run.id}").answer(True, "iron.approve[0]")' in card["text/plain"]
    run.cancel()
