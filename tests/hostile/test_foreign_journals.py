"""A journal of somebody else: everything of it can be looked at, and nothing of it acts before it is trusted."""

from __future__ import annotations

import pathlib
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.durable_cells.listing import cells_diagram
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.notebook.unfinished_card import as_text, unfinished
from ironflow_nb.values.tagged import untag
from tests.hostile import stranger
from tests.notebook.conftest import shell as shell  # noqa: PLC0414 -- a fixture
from tests.notebook.shells import Shell

ACTIVE = ("<img src=x", "<img>", "<script", "onerror=alert(1)>")


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("visited")
    stranger.visit(folder)
    return folder


@pytest.fixture
def canary(visited: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a copy of the stranger's folder into that of the shell; return the file that must not appear."""
    shutil.copytree(visited, Path.cwd(), dirs_exist_ok=True)
    monkeypatch.setattr(REGISTRY, "_definitions", {})
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert "evil_module" not in sys.modules
    yield Path("canary").absolute()
    sys.modules.pop("evil_module", None)
    assert not (visited / "canary").exists()  # where a graph of the stranger would run


def run_of(name: str) -> iron.Run[Any]:
    """Return the newest run of a flow, graph or cell."""
    runs = iron.runs()
    return iron.get_run(runs["run_id"][runs["name"].str.endswith(name)].iloc[0])


def shown(value: object) -> tuple[str, str]:
    """Return what a front end is given of the value: as text, and as markup."""
    bundle = dict(getattr(value, "_repr_mimebundle_", dict)())
    for method, kind in (("_repr_html_", "text/html"), ("_repr_svg_", "image/svg+xml")):
        bundle[kind] = bundle.get(kind) or getattr(value, method, str)() or ""
    assert bundle.keys() <= {"text/plain", "text/html", "image/svg+xml"}
    return f"{value!r}\n{bundle.get('text/plain')}", f"{bundle['text/html']}{bundle['image/svg+xml']}"


LOOKS: dict[str, Callable[[], object]] = {
    "runs": iron.runs,
    "steps": iron.steps,
    "attempts": iron.attempts,
    "events": iron.events,
    "doctor": iron.doctor,
    "cells": iron.cells,
    "picture of cells": cells_diagram,
    "run": lambda: run_of("backup"),
    "picture of a run": lambda: run_of("deploy").diagram(),
    "plan of a graph": lambda: run_of("backup").plan(),
    "plan of a flow": lambda: run_of("deploy").plan(),
    "why a node ran": lambda: run_of("backup").explain("backup.there"),
    "why a step ran": lambda: run_of("deploy").explain("publish"),
    "debug of a graph": lambda: run_of("backup").debug("backup.there"),
    "debug of a flow": lambda: run_of("deploy").debug(),
    "inputs": lambda: run_of("deploy").inputs("publish"),
    "error": lambda: run_of("deploy").error,
    "graph": lambda: iron.Graph.from_run(run_of("backup")),
    "text of a graph": lambda: iron.Graph.from_run(run_of("backup")).to_yaml(),
    "picture of a graph": lambda: iron.Graph.from_run(run_of("backup")).diagram(),
    "findings": lambda: iron.Graph.from_run(run_of("backup")).validate(),
    "projections": iron.projections,
    "card": lambda: as_text(iron.engine(), unfinished(iron.engine())),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_does_nothing(canary: Path, shell: Shell, look: Callable[[], object]) -> None:
    before = dict(shell.space)
    text, markup = shown(look())
    assert text.strip()
    assert not canary.exists()
    assert "evil_module" not in sys.modules
    assert not any(active in markup for active in ACTIVE)
    assert shell.space == before
    assert getattr(shell.ipython, "rl_next_input", None) is None


@pytest.mark.parametrize("name", ["backup", "deploy"])
def test_a_run_is_not_continued(canary: Path, name: str) -> None:
    called: list[str] = []

    @iron.flow(name="deploy")
    def deploy(command: str) -> None:
        called.append(command)

    run = run_of(name)
    for go_on in (run.resume, lambda: iron.resume(run.id), deploy.resume):
        with pytest.raises(iron.errors.UntrustedRun, match=r"iron\.trust\('.*journal\.db'\)"):
            go_on()
    assert called == []
    assert not canary.exists()


def test_a_graph_can_be_read_and_not_run(canary: Path) -> None:
    graph = iron.Graph.from_run(run_of("backup"))
    assert "evil_module.work" in graph.to_yaml()
    mocks = {"there": {}}
    for use in (graph, graph.start, lambda: graph.test(mocks=mocks), graph.plan, graph.tracked):
        with pytest.raises(iron.errors.UntrustedRun):
            use()
    assert REGISTRY.find("graph", "backup") is None
    assert not canary.exists()


def test_the_text_of_a_graph_is_never_taken_for_a_path(canary: Path) -> None:
    Path("other.yaml").write_text(stranger.GRAPH)
    with closing(sqlite3.connect(".ironflow/journal.db")) as connection, connection:
        connection.execute("UPDATE definitions SET source = 'other.yaml' WHERE kind = 'graph'")
    graph = iron.Graph.from_run(run_of("backup"))
    assert graph.to_yaml() == "other.yaml"
    with pytest.raises(iron.GraphInvalid):
        graph.validate()


def test_an_edited_graph_is_nobody_s_own(canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONFLOW_KEY", stranger.KEY)
    run = run_of("backup")
    with closing(sqlite3.connect(".ironflow/journal.db")) as connection, connection:
        connection.execute("UPDATE definitions SET source = replace(source, 'exit 1', 'exit 2') WHERE kind = 'graph'")
    with pytest.raises(iron.errors.UntrustedRun):
        run.resume()
    assert not canary.exists()


def test_what_is_trusted_acts(canary: Path, visited: Path) -> None:
    assert iron.trust(".ironflow/journal.db") > 0
    assert iron.trust(".ironflow/journal.db") == 0
    with pytest.raises(iron.NodeFailed):
        run_of("backup").resume().result(timeout_s=30)
    assert "shell" in (visited / "canary").read_text()  # a graph runs in its own folder
    (visited / "canary").unlink()


def test_a_stored_path_is_made_by_classes_of_paths_only() -> None:
    others = [
        name for name, each in vars(pathlib).items() if not (isinstance(each, type) and issubclass(each, PurePath))
    ]
    for name in [*others, "os", "eval", "__class__"]:
        with pytest.raises(iron.errors.ValueUnreadable):
            untag({"~": "path", "t": name, "v": "x"})


# -- cells -----------------------------------------------------------------------------------------------------------


def test_the_card_says_whose_runs_they_are_and_does_not_advise_to_continue_them(canary: Path, shell: Shell) -> None:
    with closing(sqlite3.connect(".ironflow/journal.db")) as connection, connection:
        connection.execute("UPDATE runs SET status = 'interrupted', run_id = '<img>' WHERE name LIKE '%deploy'")
    shown = shell.fine("%load_ext ironflow_nb")
    text, html = shown.bundles[0]["text/plain"], shown.bundles[0]["text/html"]
    assert "not written by you" in text
    assert "resume" not in text
    assert "iron.trust(" in text
    assert "&lt;img&gt;" in html
    assert "<img" not in html
    assert not canary.exists()


@pytest.mark.parametrize("line", ["runs", "show backup", "steps", "events", "cells", "doctor", "debug backup"])
def test_the_magics_only_look(canary: Path, shell: Shell, line: str) -> None:
    shell.fine("%load_ext ironflow_nb\nimport ironflow_nb as iron")
    shell.space["backup"] = run_of("backup")
    before = shell.space.keys() - {"_"}
    shown = shell.fine(f"%ironflow {line}")
    assert not canary.exists()
    assert not any(active in bundle.get("text/html", "") for bundle in shown.bundles for active in ACTIVE)
    assert {name for name in shell.space.keys() - before if not name.startswith("_")} == set()


def test_a_cell_is_executed_and_not_restored(canary: Path, shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shown = shell.fine(stranger.CELL)
    assert "a record that was not written by you" in shown.text
    assert shown.bundles == []
    assert shell.space["data"] == [1, 2, 3]
    assert "print" not in shell.space
    assert not canary.exists()
    shell.space.pop("data")
    assert shell.fine(stranger.CELL).text.startswith("restored load")  # from its own record by now


def test_a_trusted_cell_is_restored(canary: Path, shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb\nimport ironflow_nb as iron\niron.trust()")
    shown = shell.fine(stranger.CELL)
    assert shown.bundles[0]["application/javascript"] == "alert(1)"
    assert canary.read_text() == "import\n"


def test_a_cell_that_took_long_is_not_executed_again_for_want_of_trust(canary: Path, shell: Shell) -> None:
    with closing(sqlite3.connect(".ironflow/journal.db")) as connection, connection:
        connection.execute("UPDATE steps SET duration_s = 7200 WHERE name = 'load'")
    shell.fine("%load_ext ironflow_nb")
    refused = shell.run(stranger.CELL)
    assert isinstance(refused.error, iron.errors.UntrustedValue)
    assert "2 h" in str(refused.error)
    assert "data" not in shell.space
    assert not canary.exists()


# -- deciders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def orders(canary: Path, shell: Shell) -> Any:
    """Return the decider as its reader has defined it."""
    shell.fine(stranger.FLOWS.replace("MARKUP", ""))
    shell.fine(stranger.DECIDER)
    return shell.space["orders"]


def test_effects_and_timers_of_somebody_else_are_not_performed(canary: Path, orders: Any, caplog: Any) -> None:
    assert orders.state("7").status == "placed"
    assert len(orders.history("7")) == 1
    with caplog.at_level("INFO", "ironflow_nb"):
        assert orders.run_until_idle() == 0
    assert not canary.exists()
    assert list(orders.instances()["instance"]) == ["7"]


def test_own_effects_are_performed_beside_those_of_somebody_else(canary: Path, orders: Any, shell: Shell) -> None:
    orders.send(shell.space["Place"]("mine"))
    assert orders.run_until_idle() == 2  # its effect and its timer, whose command begins another order
    assert canary.read_text().split() == ["effect"]


def test_an_effect_that_was_put_under_another_key_is_not_performed(canary: Path, orders: Any, shell: Shell) -> None:
    shell.space["orders"].send(shell.space["Place"]("mine"))
    copied = "run_id, kind, 'Charge/again', due_at, payload_id, attempts, created_at FROM work WHERE kind = 'effect'"
    with closing(sqlite3.connect(".ironflow/journal.db")) as connection, connection:
        connection.execute(
            "INSERT INTO work (run_id, kind, key, due_at, payload_id, attempts, created_at) SELECT " + copied
        )
    orders.run_until_idle()
    assert canary.read_text().split() == ["effect"]


def test_trusted_effects_are_performed(canary: Path, orders: Any) -> None:
    iron.trust()
    orders.run_until_idle()
    assert "effect" in canary.read_text()
