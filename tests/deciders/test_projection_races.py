"""Nothing is lost and nothing folded twice: not by writers side by side, by folders side by side, or by deaths."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.deciders import projector
from ironflow_nb.deciders.store import DomainSelect, deciders_of
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.ports import Durability, Journal
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, process_on
from tests.deciders.orders import orders
from tests.deciders.test_projections import placed, tally

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
WRITER = """
import sys
import ironflow_nb as iron
from tests.deciders.orders import Place, orders
iron.use(sys.argv[1], durability="process")
order = orders("order" + sys.argv[2])
for n in range(int(sys.argv[3])):
    order.send(Place(f"o-{n}", float(n)))
"""
FOLDER = """
import sys
import ironflow_nb as iron
from ironflow_nb.deciders import projector
from tests.deciders.test_projections import tally
projector.BATCH = 7
iron.use(sys.argv[1], durability="process")
seen = tally()
while len(seen.state) < int(sys.argv[2]):
    pass
"""


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journal.db"
    engine = REGISTRY.adopt(Engine(SqliteJournal(path), durability=Durability.PROCESS))
    with REGISTRY.replaced(engine):
        placed(orders("first"), 1)
        yield path
    engine.close()


def spawn(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT)


def all_once(state: list[Any], n_events: int) -> None:
    """Check that the read model has each event once, in order of position."""
    positions = [row[0] for row in state]
    assert positions == sorted(set(positions))
    with REGISTRY.engine().reading() as reader:
        assert positions == [row.position for row in deciders_of(reader).domain_events(DomainSelect())]
    assert len(positions) == n_events


def test_writers_in_threads_and_processes_never_make_a_reader_skip(path: Path) -> None:
    seen = tally()
    processes = [spawn(WRITER, path, name, 60) for name in ("A", "B")]
    threads = [threading.Thread(target=placed, args=(orders(f"thread{n}"), 40)) for n in range(3)]
    for thread in threads:
        thread.start()
    n_looks = 0
    while any(thread.is_alive() for thread in threads) or any(each.poll() is None for each in processes):
        before = len(seen.stored_state)
        assert len(seen.state) >= before
        n_looks += 1
    assert [each.returncode for each in processes] == [0, 0]
    assert n_looks > 5
    all_once(seen.state, 1 + 2 * 60 + 3 * 40)


def test_processes_and_threads_that_fold_the_same_projection_fold_each_event_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH", 7)
    n_events = 181
    folders = [spawn(FOLDER, path, n_events) for _ in range(2)]
    seen = tally().start()
    placed(orders(), n_events - 1)
    assert [each.wait(60) for each in folders] == [0, 0]
    all_once(seen.state, n_events)
    seen.stop()


def test_who_is_overtaken_reads_again(path: Path) -> None:
    placed(orders(), 5)
    slow, quick = tally("both"), tally("both")
    real, overtaken = slow._current_projector(), []
    read = real._read_batch

    def overtake(**options: bool) -> Any:
        batch = read(**options)
        if not overtaken:
            overtaken.append(quick.state)
        return batch

    real._read_batch = overtake  # type: ignore[method-assign]
    assert slow.state == overtaken[0]
    all_once(slow.state, 6)


def test_a_rebuild_that_is_overtaken_begins_again_nevertheless(path: Path) -> None:
    slow, quick = tally("both"), tally("both")
    before = slow.state
    real = slow._current_projector()
    read, overtaken = real._read_batch, []

    def overtake(**options: bool) -> Any:
        batch = read(**options)
        if not overtaken:
            overtaken.append(quick.rebuild())
        return batch

    real._read_batch = overtake  # type: ignore[method-assign]
    assert slow.rebuild().stored_state == before
    with REGISTRY.engine().reading() as reader:
        found = deciders_of(reader).projection("both")
    assert found is not None
    assert found.generation == 3


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_death_at_any_commit_of_a_fold_loses_nothing_and_repeats_nothing(
    kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH", 3)
    commit, is_over = 0, False
    while not is_over:
        commit += 1
        journal: Journal = SqliteJournal(tmp_path / f"{commit}.db") if kind == "sqlite" else MemoryJournal()
        with process_on(journal, Durability.PROCESS):
            placed(orders(), 10)
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        with process_on(dying, Durability.PROCESS) as engine:
            seen = skipping()
            with contextlib.suppress(Died):
                seen.catch_up()
            abandon(engine)
        is_over = not dying.is_dead
        with process_on(journal, Durability.PROCESS):
            again = skipping()
            assert again.state == [row for row in tally("undisturbed").state if row[1] != "o-4"], commit
            assert list(again.skipped()["instance"]) == ["o-4"]
    assert commit == 5  # three, one and a skipped one, three, two; the last round had nothing to die of


def skipping() -> iron.Projection[Any]:
    """Return a read model that one event does not get into."""

    @iron.projection("skipping", initial=[], on_error="skip")
    def folded(state: list[Any], event: iron.ProjectionEvent) -> list[Any]:
        if event.instance == "o-4":
            raise ValueError(event.instance)
        return [*state, [event.position, event.instance, event.sequence, event.name]]

    return folded
