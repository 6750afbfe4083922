"""A durable cell that is done comes back with all it left behind, and runs again when something changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb.errors import DefinitionError, NotAllowedInStep
from tests.durable_cells.conftest import Notebook

SCALE = "def scale(n):\n    return n * by\n"
ABOUT_SCALE = "def scale(n):\n    # of a comment nothing depends\n    return n * by\n"


def test_a_cell_is_executed_once_and_restored_in_every_later_process(notebook: Notebook) -> None:
    outcome = notebook.step("load", "import json\nn = 2\ntext = json.dumps(n)")
    assert (outcome.outs, outcome.is_restored) == ({"n": 2, "text": "2"}, False)
    assert notebook.said == ""
    for _ in range(2):
        notebook.restart()
        outcome = notebook.step("load", "import json\nn = 2\ntext = json.dumps(n)")
        assert (outcome.outs, outcome.is_restored) == ({"n": 2, "text": "2"}, True)
        assert notebook.space["json"].__name__ == "json"
        assert "restored load (" in notebook.said
    assert notebook.bodies() == ["load"]


def test_frames_arrays_and_objects_come_back_and_identify_as_inputs_of_the_next_cell(notebook: Notebook) -> None:
    made = (
        "import numpy as np\nimport pandas as pd\nfrom collections import Counter\n"
        "array = np.arange(4)\nframe = pd.DataFrame({'a': array})\n"
        "class Model:\n    __slots__ = ('k', '__weakref__')\n    def __init__(self, k): self.k = k\n"
        "    def __reduce__(self): return Model, (self.k,)\n"
        "model = Model({'b', 'a'})\nlisted = [model, {1: (2,)}]\ncounted = Counter('abb')"
    )
    used = "total = int(array.sum() + frame.a.sum()) + len(model.k) + len(listed) + counted['b']"
    notebook.step("make", made)
    notebook.step("use", used)
    for _ in range(2):
        notebook.restart()
        notebook.step("make", made)
        notebook.step("use", used)
        assert notebook.space["total"] == 6 + 6 + 2 + 2 + 2
        assert np.array_equal(notebook.space["array"], np.arange(4))
        assert isinstance(notebook.space["frame"], pd.DataFrame)
        assert sorted(notebook.space["model"].k) == ["a", "b"]
    assert notebook.bodies() == ["make", "use"]


def test_only_what_depends_on_an_edit_runs_again_and_says_why(notebook: Notebook) -> None:
    def run_all(scale: str = SCALE, by: int = 3) -> list[str]:
        notebook.restart()
        notebook.define(scale)
        notebook.space["by"] = by
        lines = []
        for name, source in [
            ("load", "n = 2"),
            ("clean", "m = scale(n)"),
            ("other", "k = n + 1"),
            ("sum", "s = m + k"),
        ]:
            notebook.step(name, source)
            lines.append(notebook.said)
        return lines

    run_all()
    assert notebook.bodies() == ["load", "clean", "other", "sum"]
    run_all(ABOUT_SCALE)
    assert notebook.bodies() == []
    lines = run_all(SCALE.replace("* by", "* by + 1"))
    assert notebook.bodies() == ["clean", "sum"]
    assert "clean: edited line 2 of `scale`; it runs again" in lines[1]
    assert "sum: input m changed; it runs again" in lines[3]
    lines = run_all(by=4)
    assert notebook.bodies() == ["clean", "sum"]
    assert "constant by: 3 -> 4" in lines[1]
    run_all()
    assert notebook.bodies() == []


def test_an_edit_of_the_cell_itself_is_told_by_its_line_and_undoing_it_restores(notebook: Notebook) -> None:
    notebook.step("load", "n = 2\nm = 3")
    notebook.step("load", "n = 2\nm = 4")
    assert "load: edited line 3 of `load`" in notebook.said
    notebook.step("load", "n = 2  # two\n\nm = 3")
    assert notebook.bodies() == ["load", "load"]
    assert notebook.space["m"] == 3


def test_minutes_of_work_are_no_reason_to_stop_a_cell_that_was_edited(notebook: Notebook) -> None:
    clock = notebook.lab.simulate_time()
    notebook.space["wait"] = clock.advance
    source = "wait(7200)\nn = 2"
    notebook.step("load", source, ins=())
    assert notebook.step("load", source + " + 1", ins=()).outs == {"n": 3}
    assert "it runs again (last time 2 h)" in notebook.said


def test_a_failed_cell_runs_again_and_its_traceback_has_its_own_lines(notebook: Notebook) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        notebook.step("load", "n = 2\n1 / 0")
    frames = [frame for frame in caught.traceback if str(frame.path).startswith("<durable")]
    assert [frame.lineno + 1 for frame in frames] == [3]
    assert "the cell load failed; correct it and run it again" in caught.value.__notes__[0]
    notebook.step("load", "n = 2\n1 / 1")
    assert notebook.step("load", "n = 2\n1 / 1").is_restored
    assert notebook.bodies() == ["load", "load"]


def test_a_cell_whose_process_died_in_the_middle_runs_again(notebook: Notebook) -> None:
    notebook.space["die"] = notebook.lab.die_in_flow
    with pytest.raises(SystemExit):
        notebook.step("load", "n = 1\ndie()")
    notebook.restart(dies=False)
    notebook.space["die"] = int
    assert notebook.step("load", "n = 1\ndie()").outs == {"n": 1}
    notebook.restart()
    notebook.space["die"] = int
    assert notebook.step("load", "n = 1\ndie()").is_restored
    assert notebook.bodies() == ["load", "load"]


def test_restoring_writes_nothing(notebook: Notebook) -> None:
    notebook.step("load", "n = 2")
    notebook.restart()
    before = iron.events()["position"].max()
    notebook.step("load", "n = 2")
    assert iron.events()["position"].max() == before
    assert iron.runs()["kind"].tolist() == ["cell"]


def test_what_a_cell_changes_in_place_comes_back_changed(notebook: Notebook) -> None:
    def run_all() -> None:
        notebook.step("load", "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\nrows = []\nsame = rows")
        notebook.step("change", "df['b'] = 2\nrows.append(1)\ndel same")

    run_all()
    notebook.restart()
    run_all()
    assert list(notebook.space["df"].columns) == ["a", "b"]
    assert notebook.space["rows"] == [1]
    assert "same" not in notebook.space
    assert notebook.bodies() == ["load", "change"]


def test_names_of_one_object_stay_names_of_one_object(notebook: Notebook) -> None:
    for _ in range(2):
        notebook.step("load", "a = [1]\nb = a")
        assert notebook.space["a"] is notebook.space["b"]
        notebook.restart()


def test_names_with_an_underscore_stay_in_the_cell_unless_it_is_told_to_leave_them(notebook: Notebook) -> None:
    assert notebook.step("load", "_n = 1\nn = 2").outs == {"n": 2}
    notebook.restart()
    assert notebook.step("load", "_n = 1\nn = 2").is_restored
    assert "_n" not in notebook.space
    assert notebook.step("load", "_n = 1\nn = 2", outs=("_n",)).outs == {"_n": 1}


def test_what_nothing_stores_is_named_and_the_cell_runs_again_in_a_new_process(notebook: Notebook) -> None:
    notebook.step("gen", "n = 1\nitems = (i for i in range(3))")
    assert "items (builtins.generator) can't be stored" in notebook.said
    assert "--out n" in notebook.said
    assert notebook.step("gen", "n = 1\nitems = (i for i in range(3))").is_restored
    notebook.restart()
    assert list(notebook.step("gen", "n = 1\nitems = (i for i in range(3))").outs["items"]) == [0, 1, 2]
    assert notebook.said.count("\n") == 0
    notebook.restart()
    assert notebook.step("gen", "n = 1\nitems = (i for i in range(3))", outs=("n",)).outs == {"n": 1}
    assert notebook.step("gen", "n = 1\nitems = (i for i in range(3))", outs=("n",)).is_restored
    assert notebook.bodies() == ["gen", "gen", "gen"]


def test_a_closed_file_is_nothing_that_has_to_be_kept(notebook: Notebook) -> None:
    source = "with open('text.txt', 'w') as file:\n    file.write('text')\nn = 1"
    assert notebook.step("write", source).outs == {"n": 1}
    notebook.restart()
    assert notebook.step("write", source).is_restored


def test_a_pool_that_is_shut_down_is_nothing_that_has_to_be_kept(notebook: Notebook) -> None:
    source = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool:\n    n = pool.submit(int, '1').result()"
    )
    assert notebook.step("compute", source).outs == {"n": 1}
    assert notebook.said == ""
    notebook.restart()
    assert notebook.step("compute", source).is_restored
    assert "pool" not in notebook.space


def test_what_a_with_bound_and_nothing_stores_is_left_out_and_said(notebook: Notebook) -> None:
    source = "import sqlite3\nwith sqlite3.connect(':memory:') as db:\n    n = db.execute('SELECT 1').fetchone()[0]"
    notebook.step("ask", source)
    assert (
        notebook.said
        == "ask: db (sqlite3.Connection) of a with can't be stored, and is not defined after it is restored"
    )
    notebook.space["db"].close()
    notebook.restart()
    assert notebook.step("ask", source).is_restored
    assert (notebook.space["n"], "db" in notebook.space) == (1, False)
    db = notebook.step("ask", source, outs=("db", "n"))
    assert "db (sqlite3.Connection) can't be stored, so the cell runs again" in notebook.said
    assert not db.is_restored
    notebook.space["db"].close()


def test_an_object_of_a_with_that_has_another_name_is_lost_with_that_name(notebook: Notebook) -> None:
    source = "import sqlite3\nwith sqlite3.connect(':memory:') as db:\n    kept = db"
    for _ in range(2):
        notebook.step("ask", source)
        assert notebook.space["kept"] is notebook.space["db"]
        notebook.space["db"].close()
        notebook.restart()
    assert notebook.bodies() == ["ask", "ask"]


def test_an_input_that_can_not_be_recognised_makes_it_run_again_in_a_new_process(notebook: Notebook) -> None:
    for _ in range(2):
        notebook.define("import threading\nlock = threading.Lock()")
        notebook.step("ask", "n = int(lock.locked())")
        assert notebook.step("ask", "n = int(lock.locked())").is_restored
        notebook.restart()
    assert notebook.bodies() == ["ask", "ask"]


def test_definitions_are_executed_again_and_may_read_what_the_cell_made(notebook: Notebook) -> None:
    source = "k = 5\ndef add(n, k=k):\n    return n + k\nclass Thing:\n    size = k\nadd_one = lambda n: n + 1"
    notebook.step("tools", source)
    for _ in range(2):
        notebook.restart()
        notebook.step("tools", source)
        notebook.step("use", "r = add(1) + Thing.size + add_one(1)")
        assert notebook.space["r"] == 13
    assert notebook.bodies() == ["tools", "use"]


def test_a_definition_that_would_come_out_differently_at_the_end_is_not_restored(notebook: Notebook) -> None:
    source = "k = 5\ndef add(n, k=k):\n    return n + k\nk = 6"
    for _ in range(2):
        notebook.step("tools", source)
        assert notebook.space["add"](1) == 6
        notebook.restart()
    assert notebook.bodies() == ["tools", "tools"]


def test_await_runs_on_the_loop_of_the_engine(notebook: Notebook) -> None:
    source = "import asyncio\nn = await asyncio.sleep(0.01, 7)\n[await asyncio.sleep(0, i) for i in range(2)]"
    assert notebook.step("wait", source).outs == {"n": 7}
    notebook.restart()
    assert notebook.step("wait", source).outs == {"n": 7}
    assert notebook.bodies() == ["wait"]


def test_what_takes_too_long_fails_and_leaves_no_interrupt_behind(notebook: Notebook) -> None:
    for source in ("import time\ntime.sleep(30)", "import asyncio\nawait asyncio.sleep(30)"):
        with pytest.raises(TimeoutError, match="slow took longer than 100 ms"):
            notebook.step("slow", source, timeout_s=0.1)
        assert list(iron.attempts()["status"])[-1] == "timed_out"
    assert notebook.step("slow", "n = 1", timeout_s=30.0).outs == {"n": 1}


def test_a_retry_begins_with_the_inputs_as_they_were(notebook: Notebook) -> None:
    notebook.lab.simulate_time()
    notebook.space["n"] = 1
    notebook.define("tries = []\ndef attempt():\n    tries.append(1)\n    assert len(tries) > 1")
    assert notebook.step("try", "n = n + 1\nattempt()", retries=1).outs == {"n": 2}
    assert notebook.bodies() == ["try", "try"]
    assert iron.attempts()["status"].tolist() == ["failed", "completed"]


@pytest.mark.parametrize("source", ["rows.append(1)", "rows.append(1)\nrows = rows[:]"])
def test_what_has_changed_its_inputs_in_place_is_not_tried_again(notebook: Notebook, source: str) -> None:
    notebook.lab.simulate_time()
    notebook.space["rows"] = []
    with pytest.raises(ZeroDivisionError) as caught:
        notebook.step("try", f"{source}\nn = len(rows)\n1 / 0", retries=3)
    assert notebook.bodies() == ["try"]
    assert any("not tried again, because it has changed rows in place" in note for note in caught.value.__notes__)
    assert iron.attempts()["status"].tolist() == ["failed"]


def test_cached_cells_are_shared_by_notebooks(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        monkeypatch.setenv("JPY_SESSION_NAME", name)
        monkeypatch.setattr("ironflow_nb.durable_cells.cell_lookup.notebook_path", lambda name=name: name)
        notebook.restart()
        assert notebook.step("load", "n = 2", cache=True).outs == {"n": 2}
    assert notebook.bodies() == ["load"]
    assert len(iron.runs()) == 2


def test_cells_of_two_notebooks_have_nothing_to_do_with_each_other(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.ipynb", "b.ipynb"):
        monkeypatch.setattr("ironflow_nb.durable_cells.cell_lookup.notebook_path", lambda name=name: name)
        notebook.step("load", "n = 2")
    assert notebook.bodies() == ["load", "load"]


class Death:
    """What a body may call and what does not identify it, though it is another one after a restart."""

    def __init__(self, die: Callable[[], object]) -> None:
        self.die = die

    def __ironflow_digest__(self) -> bytes:
        return b"death"


def test_a_flow_that_a_cell_calls_is_a_run_of_its_own_and_continues(notebook: Notebook) -> None:
    flow = (
        "import ironflow_nb as iron\n@iron.step\ndef work(n):\n    did(n)\n"
        "    if n == plan.get('die_at'): death.die()\n    return n\n"
        "@iron.flow\ndef main():\n    return [work(n) for n in range(3)]"
    )
    notebook.space |= {"plan": {"die_at": 2}, "death": Death(notebook.lab.die_in_flow)}
    notebook.define(flow)
    with pytest.raises(SystemExit):
        notebook.step("call", "r = main()")
    notebook.restart(dies=False)
    notebook.space |= {"plan": {}, "death": Death(notebook.lab.die)}
    notebook.define(flow)
    assert notebook.step("call", "r = main()").outs == {"r": [0, 1, 2]}
    assert notebook.bodies() == ["call", 0, 1, 2, "call", 2]


@pytest.mark.parametrize(
    ("name", "source", "options", "message"),
    [
        ("a/b", "x = 1", {}, "can't be the name of a cell"),
        ("a", "", {}, "empty"),
        ("a", "x = 1", {"ins": ["n"]}, "n, which is not defined"),
        ("a", "x = 1", {"outs": ["a b"]}, "is not the name of a variable"),
        ("a", "x = 1", {"outs": "x"}, "lists of names"),
    ],
)
def test_what_can_not_be_a_cell_is_refused(
    notebook: Notebook, name: str, source: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        iron.cell_step(name, source, **options)  # type: ignore[arg-type]


def test_the_twin_in_python_returns_what_the_cell_left_behind(notebook: Notebook) -> None:
    space = {"n": 2}
    assert iron.cell_step("double", "m = n * 2", space) == {"m": 4}
    assert space["m"] == 4
    unset: dict[str, None] = dict.fromkeys(("ins", "outs", "retries", "timeout_s", "cache"))
    assert iron.cell_step("double", "m = n * 2", {"n": 2}, **unset) == {"m": 4}
    assert len(iron.attempts()) == 1


def test_a_cell_inside_a_flow_is_refused(notebook: Notebook) -> None:
    @iron.flow
    def main() -> None:
        iron.cell_step("load", "n = 1")

    with pytest.raises(NotAllowedInStep, match="inside a flow"):
        main()


def test_what_can_not_be_read_any_more_is_made_again_with_one_line(notebook: Notebook) -> None:
    journal = notebook.lab.engine.journal
    source = "text = 'x' * 100_000\nn = 1"
    notebook.step("load", source)
    if journal.location == "memory":
        journal._values.clear()  # type: ignore[attr-defined]
    else:
        for path in Path(journal.location).parent.rglob("*"):
            if path.is_file() and 50_000 < path.stat().st_size < 200_000 and "journal.db" not in path.name:
                path.unlink()
    notebook.restart()
    assert not notebook.step("load", source).is_restored
    assert "it runs again" in notebook.said
    assert "\n" not in notebook.said.strip()
    notebook.restart()
    assert notebook.step("load", source).outs == {"text": "x" * 100_000, "n": 1}
    assert notebook.bodies() == ["load", "load"]


def test_settings_are_done_again(notebook: Notebook) -> None:
    source = "import os\nos.environ['IRONFLOW_TEST_SETTING'] = '1'\nn = 1"
    notebook.step("set", source)
    del os.environ["IRONFLOW_TEST_SETTING"]
    assert notebook.step("set", source).is_restored
    assert os.environ.pop("IRONFLOW_TEST_SETTING") == "1"


def test_a_cancelled_cell_may_be_executed_again(notebook: Notebook) -> None:
    with pytest.raises(ZeroDivisionError):
        notebook.step("load", "n = 1 / 0")
    iron.get_run(iron.runs()["run_id"][0]).cancel()
    assert iron.runs()["status"].tolist() == ["cancelled"]
    assert notebook.step("load", "n = 1").outs == {"n": 1}
