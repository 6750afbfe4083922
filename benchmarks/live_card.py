"""The live card of a run: what it costs the run beside it, and how long a frame and its delta take."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import ironflow_nb as iron
from benchmarks.samples import Figures
from ironflow_nb import Run, flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.notebook import live_pictures
from ironflow_nb.notebook.run_card import RunCard
from ironflow_nb.views.run_view import RunView

N_FAST: Final = 20_000
N_ROUNDS: Final = 3
N_STEPS: Final = 10_000
N_FRAMES: Final = 15


@step
def count(n: int) -> int:
    """Return the number."""
    return n


@flow
def chain(n_steps: int) -> int:
    """Do so many fast steps, one after the other."""
    return sum(count(n) for n in range(n_steps))


@flow
def mapped(n_steps: int) -> int:
    """Map a step over so many numbers, and wait."""
    total = sum(count.map(range(n_steps), concurrency=4))
    iron.wait_for("go")
    return total


def card_beside_steps(folder: Path) -> Figures:
    """Measure fast steps whose run is followed by a card, and the same without; they take turns."""
    live_pictures.CARD_AFTER_S = 0.0  # type: ignore[misc]
    live_pictures.can_show_card = lambda: True
    live_pictures.update = lambda _, __: None
    with iron.open(folder / "card.db", durability="process") as engine:
        _chained(engine, with_card=True)  # what is imported is imported
        found = [[_chained(engine, with_card=has_card) for has_card in (False, True)] for _ in range(N_ROUNDS)]
    alone, beside = zip(*found, strict=True)
    return {"step without a card": median(alone), "step with a card": median(beside)}


def _chained(engine: iron.Engine, *, with_card: bool) -> float:
    begun = time.perf_counter()
    run = chain.options(fresh=True).start(N_FAST)
    if with_card:
        live_pictures.LiveOutput(engine, "output").follow(RunId(run.id))
    run.wait()
    return (time.perf_counter() - begun) / N_FAST


def frame_of_many_steps(folder: Path) -> Figures:
    """Measure a frame of a run of 10,000 steps, the delta of two of its views, and what is sent for it."""
    with iron.open(folder / "frames.db", durability="process") as engine:
        run = mapped.start(N_STEPS)
        early = _view(engine, run)
        while early.progress.n_done < N_STEPS // 10:
            early = _view(engine, run)
        while run.status != "waiting":
            time.sleep(0.1)
        card = RunCard(engine, early, lambda: None)
        times = [_frame(engine, run, card, early) for _ in range(N_FRAMES)]
        run.cancel().wait()
    frames, deltas, patches = map(median, zip(*times, strict=True))
    return {"frame of 10,000 steps": frames, "delta of 10,000 steps": deltas, "patch of 10,000 steps": patches}


def _view(engine: iron.Engine, run: Run[Any]) -> RunView:
    return view_of(RunId(run.id), progress_of(engine, RunId(run.id)))


def _frame(engine: iron.Engine, run: Run[Any], card: RunCard, early: RunView) -> tuple[float, float, float]:
    """Return the seconds of reading a view, of its delta to the early one, and of what the card sends for it."""
    begun = time.perf_counter()
    view = _view(engine, run)
    made = time.perf_counter()
    assert view.delta(early)
    differed = time.perf_counter()
    card.show(view)
    sent = time.perf_counter()
    card.show(early)
    return made - begun, differed - made, sent - differed
