"""Pictures that follow runs: the last state is the one that stays, and trouble with the journal stops them quietly."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.notebook import live_pictures
from tests.conftest import Lab
from tests.notebook.shells import Shell

GATES: dict[str, threading.Event] = {}


@step
def held(gate: str) -> str:
    assert GATES[gate].wait(20)
    return gate


@flow
def main(gate: str) -> str:
    return held(gate)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was shown, one text after the other."""
    texts: list[str] = []
    monkeypatch.setattr(live_pictures, "update", lambda _, bundle: texts.append(bundle["text/plain"]))
    monkeypatch.setattr(live_pictures, "show_bundle", lambda _, bundle: texts.append(bundle["text/plain"]))
    return texts


def begun(gate: str) -> Run[str]:
    GATES[gate] = threading.Event()
    run = main.start(gate)
    while run.steps().empty:
        time.sleep(0.01)
    return run


def test_a_picture_is_drawn_when_something_happened_and_tells_when_nothing_more_will(
    lab: Lab, shown: list[str]
) -> None:
    lab.simulate_time()  # the age of the run is a part of its picture
    run = begun("a")
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = run.id
    assert following.paint() is False
    assert following.paint() is False
    assert len(shown) == 1
    assert ": running" in shown[0]
    GATES["a"].set()
    run.wait(20)
    assert following.paint() is True
    assert len(shown) == 2
    assert ": completed" in shown[1]


def test_a_slow_drawing_is_not_shown_after_a_later_one(
    lab: Lab, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun("b")
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = run.id
    drawing, go_on = threading.Event(), threading.Event()
    draw = live_pictures.drawn

    def slowly(*arguments: Any) -> Any:
        picture = draw(*arguments)
        if not drawing.is_set():
            drawing.set()
            assert go_on.wait(20)
        return picture

    monkeypatch.setattr(live_pictures, "drawn", slowly)
    painters = [threading.Thread(target=following.paint)]
    painters[0].start()
    assert drawing.wait(20)
    GATES["b"].set()
    run.wait(20)
    painters.append(threading.Thread(target=following.paint))
    painters[1].start()
    time.sleep(0.2)
    go_on.set()
    for painter in painters:
        painter.join(20)
    assert ": completed" in shown[-1]


def test_what_a_cell_has_ended_with_stays_when_its_run_is_continued(lab: Lab, shown: list[str]) -> None:
    run = begun("e")
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = run.id
    run.cancel()
    GATES["e"].set()
    run.wait(20)
    following.finish()
    (last,) = shown
    assert ": cancelled" in last
    following._run_id = begun("f").id  # as if the run went on
    assert following.paint() is True
    assert shown == [last]
    GATES["f"].set()


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_journal_that_is_gone_ends_the_following_with_a_word(lab: Lab, tmp_path: Path, shown: list[str]) -> None:
    run = begun("c")
    GATES["c"].set()
    run.wait(20)
    lab.engine.access.close("it is gone")
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    following = live_pictures.LiveOutput(lab.engine, "an id")
    following._run_id = run.id
    assert following.paint() is True
    live_pictures.show_run(run)
    assert len(shown) == 2
    assert all("there is no run" in text for text in shown)


def test_a_notebook_follows_a_run_that_is_shown(shell: Shell, shown: list[str]) -> None:
    shell.ipython.kernel = object()
    try:
        shell.fine("%load_ext ironflow_nb")
        shell.space["run"] = begun("d")
        shell.fine("run")
        assert len(shown) == 1
        GATES["d"].set()
        deadline = time.monotonic() + 20
        while ": completed" not in shown[-1]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        del shell.ipython.kernel


def test_the_picture_of_a_cell_stands_above_and_shows_the_end_when_the_cell_ends(
    shell: Shell, shown: list[str]
) -> None:
    shell.ipython.kernel = object()
    try:
        shell.fine("%load_ext ironflow_nb")
        GATES["e"] = threading.Event()
        GATES["e"].set()
        shell.space["main"] = main
        assert shell.fine("main('e')").value == "e"
        assert shown[0] == "starting"
        assert ": completed" in shown[-1]
        n_shown = len(shown)
        shell.fine("1 + 1")
        assert len(shown) == n_shown
    finally:
        del shell.ipython.kernel


LEFT_BEHIND = """
import os, signal
from ironflow_nb import flow, step

@step
def item(n):
    if bodies.add():
        os.kill(os.getpid(), signal.SIGINT)
    assert bodies.gate.wait(60)
    return n

@flow
def main():
    return list(item.map(range(4), concurrency=4))
"""


class Bodies:
    """Counts the bodies that have begun, and holds them."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self._lock = threading.Lock()
        self._n = 0

    def add(self) -> bool:
        """Return True for the fourth."""
        with self._lock:
            self._n += 1
            return self._n == 4

    def __ironflow_digest__(self) -> bytes:
        return b"the bodies"


def test_the_picture_of_an_interrupted_cell_is_final_when_the_bodies_it_left_behind_have_ended(
    shell: Shell, shown: list[str]
) -> None:
    shell.ipython.kernel = object()
    try:
        bodies = shell.space["bodies"] = Bodies()
        shell.fine("%load_ext ironflow_nb")
        shell.fine(LEFT_BEHIND)
        assert isinstance(shell.run("main()").error, KeyboardInterrupt)
        assert "4 interrupted" in shown[-1]
        bodies.gate.set()
        deadline = time.monotonic() + 60
        while "4 of 4" not in shown[-1]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "main: interrupted" in shown[-1]
        n_shown = len(shown)
        assert shell.fine("main()").value == [0, 1, 2, 3]
        assert shown[n_shown] == "starting"  # the output of another cell
        assert "main: completed" in shown[-1]
    finally:
        del shell.ipython.kernel


def test_what_a_cell_left_behind_is_not_followed_into_the_next_stretch(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: dict[str, list[str]] = {}
    for how in ("update", "show_bundle"):
        note = lambda key, bundle: texts.setdefault(key, []).append(bundle["text/plain"])  # noqa: E731
        monkeypatch.setattr(live_pictures, how, note)
    shell.ipython.kernel = object()
    try:
        bodies = shell.space["bodies"] = Bodies()
        shell.fine("%load_ext ironflow_nb")
        shell.fine(LEFT_BEHIND)
        assert isinstance(shell.run("main()").error, KeyboardInterrupt)
        shell.fine("run = main.resume()")
        bodies.gate.set()
        assert shell.fine("run.result(timeout_s=60)").value == [0, 1, 2, 3]
        for thread in threading.enumerate():
            if thread.name == "ironflow-picture":
                thread.join(60)
        first, *_ = texts.values()
        assert "main: interrupted" in first[-1]
    finally:
        del shell.ipython.kernel


def test_a_terminal_shows_a_run_once(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.space["run"] = begun("f")
    (bundle,) = shell.fine("run").bundles
    assert ": running" in bundle["text/plain"]
    GATES["f"].set()
    assert shell.space["run"].result(timeout_s=20) == "f"
    time.sleep(2 * live_pictures.FIRST_S)
    assert capsys.readouterr().out == ""
    assert iron.runs()["status"].tolist() == ["completed"]


def test_an_interrupt_that_comes_when_a_cell_has_ended_shows_no_error(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pressed:
        """The picture of a cell, at whose last state the stop button is pressed."""

        def __init__(self) -> None:
            self.is_finished = False

        def follow(self, *_: object) -> None:
            """Show the run."""

        def finish(self) -> None:
            signal.raise_signal(signal.SIGINT)
            self.is_finished = True

    pictures: list[Pressed] = []

    def picture() -> Pressed:
        pictures.append(Pressed())
        return pictures[-1]

    monkeypatch.setattr("ironflow_nb.notebook.notebook_hooks.CellPicture", picture)
    monkeypatch.setattr("ironflow_nb.notebook.notebook_hooks.can_update", lambda: True)
    shell.fine("%load_ext ironflow_nb")
    shown = shell.fine("""
from ironflow_nb import flow, step

@step
def work():
    return 1

@flow
def main():
    return work()

assert main() == 1
""")
    assert [each.is_finished for each in pictures] == [True]
    assert "Error in callback" not in shown.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    shell.fine("assert main() == 1")
