"""Pictures of deciders follow them, and stay as they were once the decider is shown elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import ironflow_nb as iron
from ironflow_nb.notebook import live_pictures
from ironflow_nb.notebook.live_pictures import DeciderPictures, LiveDeciderOutput
from tests.conftest import Lab
from tests.deciders.orders import Pay, Place, orders
from tests.deciders.test_exploring import EDITS, lamps
from tests.notebook.shells import Shell


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was shown: under which id, which text."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(live_pictures, "update", lambda where, bundle: found.append((where, bundle["text/plain"])))
    monkeypatch.setattr(live_pictures, "show_bundle", lambda where, bundle: found.append((where, bundle["text/plain"])))
    return found


@pytest.fixture
def kernel(shell: Shell) -> Iterator[Shell]:
    """A shell that can replace what it has shown."""
    shell.ipython.kernel = object()
    shell.fine("%load_ext ironflow_nb")
    yield shell
    del shell.ipython.kernel


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_drawn_again_when_something_was_accepted_and_not_otherwise(
    lab: Lab, shown: list[tuple[str, str]]
) -> None:
    order = orders()
    following = LiveDeciderOutput(lab.engine, order, "here")
    following.begin()
    assert following.paint() is False
    order.send(Pay("o-1"))
    assert following.paint() is False
    order.send(Place("o-1", 5.0))
    assert following.paint() is True
    order.send(Pay("o-1"))
    following.stop()
    assert following.paint() is False
    first, second, last = (text.splitlines()[0] for _, text in shown)
    assert (first, second) == ("order: no instance yet", "order: 1 instance")
    assert last == "order: 1 instance, 1 completed"


def test_a_journal_that_is_closed_ends_the_following_quietly(lab: Lab, shown: list[tuple[str, str]]) -> None:
    following = LiveDeciderOutput(lab.engine, orders(), "here")
    following.begin()
    lab.engine.close()
    assert following.paint() is False
    assert len(shown) == 1


def test_a_picture_follows_until_the_decider_is_shown_elsewhere(kernel: Shell, shown: list[tuple[str, str]]) -> None:
    order = kernel.space["order"] = orders()
    kernel.fine("order")
    order.send(Place("o-1", 5.0))
    wait_until(lambda: len(shown) == 2)
    kernel.fine("order")
    (first, _), (again, _), (second, _) = shown[:3]
    assert first == again != second
    order.send(Pay("o-1"))
    wait_until(lambda: len(shown) == 4)
    assert shown[-1][0] == second


def test_the_picture_is_up_to_date_when_a_cell_has_ended(
    kernel: Shell, shown: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveDeciderOutput, "follow", lambda self: None)
    order = kernel.space["order"] = orders()
    kernel.space["Place"] = Place
    kernel.fine("order")
    kernel.fine("order.send(Place('o-1', 5.0));")
    assert shown[-1][1].startswith("order: 1 instance\n")
    n_shown = len(shown)
    kernel.fine("1 + 1")
    assert len(shown) == n_shown
    assert order.instances()["status"].tolist() == ["placed"]


def test_a_terminal_shows_it_once(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.space["order"] = orders()
    (bundle,) = shell.fine("order").bundles
    assert {"text/plain", "image/svg+xml"} <= set(bundle)
    assert shell.ipython.display_formatter.ipython_display_formatter.lookup_by_type(iron.Decider) is not None


def test_stopping_all_lets_every_picture_stay(lab: Lab, shown: list[tuple[str, str]]) -> None:
    pictures, order = DeciderPictures(), orders()
    pictures._following["order"] = LiveDeciderOutput(lab.engine, order, "here")
    pictures.stop()
    order.send(Place("o-1", 5.0))
    pictures.paint()
    assert [text.splitlines()[0] for _, text in shown] == ["order: no instance yet"]


@pytest.mark.parametrize(("edit", "_"), EDITS)
def test_it_is_drawn_again_when_code_was_edited_that_it_follows_from(
    lab: Lab, shown: list[tuple[str, str]], edit: str, _: object
) -> None:
    space = lamps()
    space["lamp"].send(space["Press"]("l-1"))
    following = LiveDeciderOutput(lab.engine, space["lamp"], "here")
    following.begin()
    assert following.paint() is False
    exec(edit, space)
    assert following.paint() is True
    assert following.paint() is False
    assert shown[0][1] != shown[1][1]
