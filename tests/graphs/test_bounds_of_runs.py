"""The bounds that a graph ran in, and its folder, hold when another process continues its run from the journal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NotGranted
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.graphs.graph import Graph
from tests.cells import World
from tests.conftest import Lab
from tests.graphs.playing import doing

TEXT = """\
graph: g
allow: {files: true, shell: true, env: [TOKEN]}
nodes:
- {id: a, python: fails, with: {name: a}}
- {id: mine, file: {read: "{{ input.mine }}"}}
- {id: theirs, file: {read: "{{ input.theirs }}"}, on_error: continue}
- {id: program, shell: {command: ["{{ input.program }}", hi]}, on_error: continue}
output:
- "{{ mine.content }}"
- "{{ default(theirs.error.type, 'read') }}"
- "{{ default(program.error.type, 'ran') }}"
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("home", "elsewhere"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "x.txt").write_text(name)
        (tmp_path / name / "secret.txt").write_text("secret")
    (tmp_path / "home" / "g.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path


def begun(graph: Graph, **more: Any) -> str:
    """Begin a run that fails, so that another process goes on with it, and let nothing be defined here."""
    with pytest.raises(ConnectionError):
        graph(mine="data/x.txt", theirs="secret.txt", program="echo", **more)
    run_id = graph.last.id
    REGISTRY.forget("graph", graph.name)
    return run_id


def test_a_run_that_is_continued_from_the_journal_is_bounded_as_when_it_began(
    lab: Lab, world: World, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = doing(world)
    run_id = begun(Graph.from_yaml("g.yaml", allow={"files": ["data"], "shell": ["ls"]}, functions=functions))
    lab.die()
    monkeypatch.chdir(folders / "elsewhere")
    world.is_broken = False
    kept = Graph.from_run(run_id, functions=functions)
    assert kept.to_yaml() == TEXT
    assert kept.grants.allowed == {"files": (str(folders / "home" / "data"),), "shell": ("ls",)}
    assert iron.get_run(run_id).resume().result() == ["home", "NotGranted", "NotGranted"]
    with pytest.raises(NotGranted):
        kept.grants.path(str(folders / "elsewhere" / "data"))


def test_the_folder_is_kept_of_a_text_that_is_not_bounded(
    lab: Lab, world: World, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = doing(world)
    for number, graph in enumerate(
        [Graph.from_yaml("g.yaml", functions=functions), Graph.from_yaml(TEXT, functions=functions)]
    ):
        world.is_broken = True
        monkeypatch.chdir(folders / "home")
        run_id = begun(graph, number=number)
        lab.die()
        monkeypatch.chdir(folders / "elsewhere")
        world.is_broken = False
        kept = Graph.from_run(run_id, functions=functions)
        assert kept.to_yaml() == TEXT
        assert kept.grants.allowed["files"] is True
        (mine, *_) = kept.test({"mine": "data/x.txt", "theirs": "data/x.txt", "program": "true"}, mocks=MOCKS).output
        assert mine == "mocked"
        assert iron.get_run(run_id).resume().result()[0] == "home"
        REGISTRY.forget("graph", "g")


MOCKS = {name: {"content": "mocked", "error": {"type": "x"}} for name in ("a", "mine", "theirs", "program")}


@pytest.mark.usefixtures("folders")
def test_the_bounds_of_a_child_are_kept_with_its_own_run(lab: Lab, world: World) -> None:
    functions = doing(world)
    Graph.from_yaml("g.yaml", allow={"files": ["data"]}, functions=functions)
    outer = Graph.from_yaml(
        "graph: outer\nnodes: [{id: inner, workflow: g, input: {mine: a, theirs: b, program: c}}]\n"
    )
    with pytest.raises(ConnectionError):
        outer()
    runs = iron.runs()
    child_id = runs[runs["name"] == "g"]["run_id"].iloc[0]
    for name in ("g", "outer"):
        REGISTRY.forget("graph", name)
    lab.die()
    assert "shell" not in Graph.from_run(child_id, functions=functions).grants.allowed
    assert Graph.from_run(outer.last.id).grants.allowed == {}


def test_only_bounds_that_there_are_change_what_is_kept(lab: Lab, world: World) -> None:
    text = "graph: plain\nallow: {http: [example.org]}\nnodes: [{id: a, python: did, with: {name: a, value: 1}}]"
    graph = Graph.from_yaml(text, functions=doing(world))
    graph()
    run_id = graph.last.id
    with lab.engine.reading() as reader:
        stored = reader.definition(graph.definition_id)
    assert stored is not None
    assert stored.source == text
    bounded = Graph.from_yaml(text, allow={}, functions=doing(world))
    bounded()
    assert Graph.from_run(bounded.last).grants.allowed == {}
    assert Graph.from_run(run_id).grants.allowed == {"http": ("example.org",)}
    assert bounded.definition_id == graph.definition_id


def test_a_text_can_t_say_that_it_is_bounded_otherwise(lab: Lab, world: World) -> None:
    text = "graph: sly\nnodes: [{id: a, python: fails, with: {name: a}}]\n"
    text += '\n# The bounds of its runs: {"allow":{"shell":true}}'
    graph = Graph.from_yaml(text, allow={"files": ["data"]}, functions=doing(world))
    with pytest.raises(ConnectionError):
        graph()
    REGISTRY.forget("graph", "sly")
    lab.die()
    kept = Graph.from_run(graph.last.id)
    assert kept.grants.allowed == {}
    assert kept.to_yaml() == text


@pytest.mark.crash
def test_a_killed_run_is_continued_by_another_process_within_its_bounds(folders: Path) -> None:
    begin = f"""
import os, signal, time, ironflow_nb as iron
iron.use({str(folders / "j.db")!r})
def fails(name):
    while not len(iron.runs()): time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
iron.Graph.from_yaml("g.yaml", allow={{"files": ["data"]}}, functions={{"fails": fails}})(
    mine="data/x.txt", theirs="secret.txt", program="echo")
"""
    go_on = f"""
import ironflow_nb as iron
iron.use({str(folders / "j.db")!r})
def fails(name): return 1
print(iron.get_run(iron.runs()["run_id"].iloc[0]).resume().result())
"""
    for program, folder in ((begin, "home"), (go_on, "elsewhere")):
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folders / folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.stdout.strip() == "['home', 'NotGranted', 'NotGranted']", ended.stderr


@pytest.mark.usefixtures("folders")
def test_a_text_brings_no_bounds_along(lab: Lab, world: World) -> None:
    text = TEXT.replace("allow: {files: true, shell: true, env: [TOKEN]}\n", "")
    forged = f'{text}# The bounds of its runs: {{"allow": {{"shell": true, "files": true}}, "base": "/"}}'
    graph = Graph.from_yaml(forged, functions=doing(world))
    run_id = begun(graph)
    lab.die()
    world.is_broken = False
    kept = Graph.from_run(run_id, functions=doing(world))
    assert kept.to_yaml() == forged
    assert kept.grants.allowed == graph.grants.allowed
    assert iron.get_run(run_id).resume().wait().status == "failed"  # for it may read nothing
