"""The command line: runs from a terminal, with JSON for programs and exit codes for scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.cli import run_commands, run_views
from ironflow_nb.cli.command_line import command_line
from ironflow_nb.cli.journal_option import read_settings
from ironflow_nb.execution.registry import REGISTRY
from tests.browser.lab import write_notebook
from tests.waits.conftest import LIMIT_S, until

JOB = """
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

@step
def work(n):
    with Path("bodies.txt").open("a") as file:
        file.write(f"{n}\\n")
    while n == 2 and not Path("go").exists():
        pass
    return n * n

@flow
def squares(n: int):
    print("printed")
    return [work(each) for each in range(n)]

@flow
async def bad():
    raise LookupError("no such page")

@flow
def asks():
    return iron.approve("publish?")

if __name__ == "__main__":
    raise SystemExit("a command runs no main block")
"""
GRAPH = "graph: shout\nnodes:\n  - id: loud\n    transform: '{{ upper(input.text) }}'\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "shout.yaml").write_text(GRAPH)
    return tmp_path


def environment() -> dict[str, str]:
    """Return the environment of a terminal: under pytest nothing continues by itself."""
    return {name: value for name, value in os.environ.items() if name not in {"IRONFLOW_DB", "PYTEST_CURRENT_TEST"}}


def ironflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ironflow_nb", *words], cwd=folder, capture_output=True, text=True, check=False,
        timeout=LIMIT_S, env=environment(),
    )  # fmt: skip


@pytest.mark.slow
def test_a_flow_of_a_file_is_run_and_its_result_is_printed(folder: Path) -> None:
    found = ironflow(folder, "run", "job.py:squares", "--input", '{"n": 2}')
    assert (found.returncode, found.stdout) == (0, "printed\n[0, 1]\n")
    again = ironflow(folder, "run", "job.py:squares", "--input", '{"n": 2}', "--key", "k", "--json")
    assert json.loads(again.stdout)["result"] == [0, 1]
    assert "printed" in again.stderr
    listed = json.loads(ironflow(folder, "list", "--json").stdout)
    assert [(each["name"], each["status"], each["key"]) for each in listed] == [
        ("squares", "completed", "k"),
        ("squares", "completed", None),
    ]


@pytest.mark.slow
def test_a_graph_of_a_file_is_run_and_validated(folder: Path) -> None:
    found = ironflow(folder, "run", "shout.yaml", "--input", '{"text": "hi"}', "--json")
    assert json.loads(found.stdout) | {"run_id": ""} == {"run_id": "", "status": "completed", "result": "HI"}
    (folder / "wrong.yaml").write_text(GRAPH.replace("transform", "transfrom"))
    wrong = ironflow(folder, "validate", "wrong.yaml")
    assert wrong.returncode == 1
    assert "transfrom" in wrong.stderr


@pytest.mark.slow
def test_a_failure_has_the_frames_of_the_user_and_the_exit_code_one(folder: Path) -> None:
    found = ironflow(folder, "run", "job.py:bad", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["error"] == "LookupError: no such page"
    assert 'job.py", line' in found.stderr
    assert f"{os.sep}ironflow_nb{os.sep}execution" not in found.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_an_interrupt_pauses_the_run_and_the_same_command_continues_it(folder: Path) -> None:
    command = [sys.executable, "-m", "ironflow_nb", "run", "job.py:squares", "--input", '{"n": 4}']
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        bodies = folder / "bodies.txt"
        until(lambda: bodies.exists() and bodies.read_text().split() == ["0", "1", "2"])
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for line in process.stderr:
            if "paused before its next step" in line:
                break
        (folder / "go").touch()
        assert process.wait(LIMIT_S) == 130
    found = ironflow(folder, "run", "job.py:squares", "--input", '{"n": 4}')
    assert (found.returncode, found.stdout.split("\n")[-2]) == (0, "[0, 1, 4, 9]")
    assert bodies.read_text().split() == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_a_question_of_a_run_is_said_and_answered_from_another_process(folder: Path) -> None:
    command = [sys.executable, "-m", "ironflow_nb", "run", "job.py:asks", "--json"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "it asks" in line)
        words = said.split("ironflow-nb ")[1].split()[:-1]
        assert ironflow(folder, *words, "maybe").returncode == 1
        assert ironflow(folder, *words, "yes").returncode == 0
        out, _ = process.communicate(timeout=LIMIT_S)
    assert json.loads(out)["result"] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "job.py"], 1, "job.py has squares, bad, asks; choose one: job.py:squares"),
        (["run", "job.py:none"], 1, "no flow or graph 'none'; it has squares, bad, asks"),
        (["run", "nothing.py"], 1, "there is no file"),
        (["run", "job.py:squares"], 2, "missing a required argument: 'n'"),
        (["run", "job.py:squares", "--input", "[1]"], 2, "--input is a JSON object"),
        (["run", "job.py:squares", "--input", '{"n": "two"}'], 2, "n: Expected `int`, got `str`"),
        (["run", "job.py:squares", "--input", "@none.json"], 2, "--input is a JSON object"),
    ],
)
def test_a_wrong_use_is_said_and_runs_nothing(folder: Path, words: list[str], code: int, said: str) -> None:
    found = ironflow(folder, *words)
    assert (found.returncode, found.stdout) == (code, "")
    assert said in found.stderr
    assert not (folder / ".ironflow").exists()


@pytest.mark.slow
def test_a_notebook_that_loads_the_extension_prints_its_result_alone(folder: Path) -> None:
    assert ironflow(folder, "run", "job.py:bad").returncode == 1  # which somebody has to look after
    cells = ["%load_ext ironflow_nb\nimport datetime\nimport ironflow_nb as iron",
             "@iron.flow\ndef later(day: datetime.date): return day + datetime.timedelta(1)"]  # fmt: skip
    write_notebook(folder / "later.ipynb", cells)
    found = ironflow(folder, "run", "later.ipynb", "--input", '{"day": "2026-11-30"}')
    assert (found.returncode, found.stdout) == (0, "2026-12-01\n")
    assert "unfinished" not in found.stderr


# -- commands on a journal -----------------------------------------------------------------------------------------


@step(name="double")
def double(n: int) -> int:
    return 2 * n


@flow(name="doubles")
def doubles(n: int) -> list[int]:
    return [double(each) for each in range(n)]


@flow(name="waits")
def waits() -> object:
    return iron.wait_for("go")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journal.db"
    engine = iron.open(path, durability="process")
    with REGISTRY.replaced(engine):
        doubles(3)
        yield path
    engine.close()


def invoke(command: click.Command, *words: str, journal: Path) -> Result:
    return CliRunner().invoke(command, [*words, "--journal", str(journal)])


def test_runs_are_listed_as_a_table_or_as_json(journal: Path) -> None:
    table = invoke(run_views.list_command, journal=journal)
    assert "doubles" in table.output
    assert "completed" in table.output
    (listed,) = json.loads(invoke(run_views.list_command, "--json", journal=journal).output)
    assert (listed["name"], listed["n_steps"], listed["ended_at"][:4].isdigit()) == ("doubles", 3, True)
    assert json.loads(invoke(run_views.list_command, "--json", "--status", "failed", journal=journal).output) == []


def test_a_run_is_inspected_by_the_beginning_of_its_id(journal: Path) -> None:
    assert doubles.last is not None
    run_id = doubles.last.id
    shown = invoke(run_views.inspect_command, run_id[:6], journal=journal)
    assert "double: 3 of 3" in shown.output
    found: dict[str, Any] = json.loads(invoke(run_views.inspect_command, run_id, "--json", journal=journal).output)
    assert [each["step"] for each in found["steps"]] == ["double[0]", "double[1]", "double[2]"]
    events = json.loads(invoke(run_views.inspect_command, run_id, "--events", "--json", journal=journal).output)
    assert events["events"][0]["type"] == "RunStarted"
    followed = invoke(run_views.inspect_command, run_id, "--follow", journal=journal)
    assert followed.exit_code == 0
    unknown = invoke(run_views.inspect_command, "zzzz", journal=journal)
    assert unknown.exit_code == 1
    assert "no run begins with 'zzzz'" in unknown.output


def test_a_run_is_signalled_and_cancelled_from_outside(journal: Path) -> None:
    run = waits.start()
    until(lambda: len(iron.work()) > 0)
    assert invoke(run_views.signal_command, run.id, "go", '{"n": 1}', journal=journal).exit_code == 0
    assert run.result(LIMIT_S) == {"n": 1}
    other = waits.options(fresh=True).start()
    until(lambda: len(iron.work()) > 0)
    told = json.loads(invoke(run_views.cancel_command, other.id[:8], "--json", journal=journal).output)
    assert told["run_id"] == other.id
    assert other.wait(LIMIT_S).status == "cancelled"
    assert json.loads(invoke(run_views.emit_command, "ready", "--json", journal=journal).output)["event_id"]
    refused = invoke(run_views.pause_command, other.id, journal=journal)
    assert refused.exit_code == 1


@pytest.mark.parametrize("name", ["waiting", "schedules", "lanes", "breakers", "queue", "doctor", "usage", "verify"])
def test_a_frame_of_the_journal_is_printed(name: str, journal: Path) -> None:
    command = command_line.commands[name]
    assert invoke(command, journal=journal).exit_code == 0
    assert isinstance(json.loads(invoke(command, "--json", journal=journal).output), list)


def test_a_run_is_shown_as_it_was_and_event_by_event(journal: Path) -> None:
    assert doubles.last is not None
    run_id = doubles.last.id
    then = json.loads(invoke(run_views.inspect_command, run_id, "--at", "3", "--json", journal=journal).output)
    assert (then["version"], then["status"], [each["step"] for each in then["steps"]]) == (3, "running", ["double[0]"])
    assert "version 3" in invoke(run_views.inspect_command, run_id, "--at", "3", journal=journal).output
    replayed = invoke(run_views.inspect_command, run_id, "--replay", journal=journal).output
    assert replayed.count("version ") == len(doubles.last.events())
    assert "completed" in replayed.split("version ")[-1]
    beyond = invoke(run_views.inspect_command, run_id, "--at", "99", journal=journal)
    assert beyond.exit_code == 1


def test_runs_are_pruned_only_with_yes(journal: Path) -> None:
    listed = json.loads(invoke(run_views.prune_command, "--status", "completed", "--json", journal=journal).output)
    assert [each["name"] for each in listed] == ["doubles"]
    assert len(iron.runs()) == 1
    assert invoke(run_views.prune_command, "--status", "completed", "--yes", journal=journal).exit_code == 0
    assert len(iron.runs()) == 0


def test_a_run_goes_to_a_new_journal_as_one_file(journal: Path, tmp_path: Path) -> None:
    assert doubles.last is not None
    run_id, file, other = doubles.last.id, str(tmp_path / "run.db"), tmp_path / "other" / "journal.db"
    assert invoke(run_views.export_command, run_id, file, journal=journal).output.strip() == file
    assert invoke(run_views.import_command, file, journal=other).output == f"{run_id} completed\n"
    (listed,) = json.loads(invoke(run_views.list_command, "--json", journal=other).output)
    assert listed["run_id"] == run_id
    again = invoke(run_views.import_command, file, journal=other)
    assert again.exit_code == 1
    assert run_id in again.output


def test_a_query_is_printed_and_a_change_is_refused(journal: Path) -> None:
    query = "select count(*) as n from step_history"
    assert json.loads(invoke(run_views.sql_command, query, "--json", journal=journal).output) == [{"n": 3}]
    assert invoke(run_views.sql_command, "delete from runs", journal=journal).exit_code == 1


def test_a_journal_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    found = invoke(run_views.list_command, journal=tmp_path / "none" / "journal.db")
    assert found.exit_code == 1
    assert "there is no journal at" in found.output
    assert not (tmp_path / "none").exists()


def test_kinds_of_nodes_are_listed() -> None:
    found = CliRunner().invoke(run_views.nodes_command, ["--json"])
    assert {"http", "shell"} <= {each["kind"] for each in json.loads(found.output)}


def test_settings_of_a_folder_are_the_defaults_of_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONFLOW_DB", "")  # so that it is taken back at the end
    monkeypatch.delenv("IRONFLOW_DB")
    (tmp_path / "ironflow.toml").write_text('journal = "runs.db"\n[list]\nlimit = 3\n')
    assert read_settings(command_line.commands, tmp_path) == {"list": {"limit": 3}}
    assert os.environ["IRONFLOW_DB"] == str(tmp_path / "runs.db")
    monkeypatch.setenv("IRONFLOW_DB", "other.db")
    read_settings(command_line.commands, tmp_path)
    assert os.environ["IRONFLOW_DB"] == "other.db"


@pytest.mark.parametrize(
    ("text", "said"),
    [("[lst]\nlimit = 3", "has 'lst'"), ("[list]\nlimits = 3", "list has no option 'limits'"), ("a =", "is not TOML")],
)
def test_a_mistake_in_the_settings_is_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "ironflow.toml").write_text(text)
    with pytest.raises(click.UsageError, match=said):
        read_settings(command_line.commands, tmp_path)


def test_each_command_says_what_it_does() -> None:
    assert all(each.help for each in command_line.commands.values())
    assert run_commands.run_command.help
