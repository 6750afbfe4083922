"""Large values: a frame and a megabyte, stored, loaded and digested."""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ironflow_nb as iron
from benchmarks.floor import connect
from benchmarks.samples import Figures
from ironflow_nb import flow, step

if TYPE_CHECKING:
    import pandas as pd

N_ROWS: Final = 1_000_000
N_TURNS: Final = 3
N_BLOBS: Final = 20
BLOB: Final = 1_000_000

_prepared: dict[str, Any] = {}


@step
def give(name: str) -> Any:
    """Return what was prepared under that name."""
    return _prepared[name]


@flow
def give_one(name: str) -> None:
    """Let a step return it."""
    give(name)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that the call took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def frame_of(*, has_text: bool) -> pd.DataFrame:
    """Return a frame of a million rows and four columns: numbers and instants, or numbers and a text."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(1)
    count = np.arange(N_ROWS)
    last = pd.Series(count).map("item-{}".format) if has_text else pd.to_datetime(count, unit="s")
    return pd.DataFrame(
        {"id": count, "price": random.normal(size=N_ROWS), "n": random.integers(0, 1000, N_ROWS), "last": last}
    )


def store_arrow(frame: pd.DataFrame, path: Path) -> None:
    """Write the frame as an Arrow file with lz4, and sync it: the floor."""
    import pyarrow as pa

    table = pa.Table.from_pandas(frame)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema, options=options) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())


def load_arrow(path: Path) -> pd.DataFrame:
    """Read that file."""
    import pyarrow as pa

    frame: pd.DataFrame = pa.ipc.open_file(path.read_bytes()).read_all().to_pandas()
    return frame


def blake(frame: pd.DataFrame) -> bytes:
    """Return the hash of all bytes of the frame."""
    import numpy as np
    import pyarrow as pa

    state = blake2b(digest_size=20)
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind in "iufM":
            state.update(np.ascontiguousarray(column.to_numpy()).view(np.uint8).data)
        else:
            for chunk in pa.chunked_array(pa.array(column)).chunks:
                for buffer in filter(None, chunk.buffers()):
                    state.update(buffer)
    return state.digest()


def _frame(folder: Path, kind: str, *, has_text: bool) -> Figures:
    """Measure each figure and its floor in turn, `N_TURNS` times with other content, and return the medians.

    One turn would measure who is the first to touch memory that the others use again.
    """
    frame = _prepared["frame"] = frame_of(has_text=has_text)
    small = _prepared["small"] = frame.head(10)
    file = folder / "floor.arrow"
    store_arrow(small, file)  # what is imported when it is needed is there
    found: dict[str, list[float]] = defaultdict(list)
    with iron.open(folder / "frame.db") as engine:
        give_one.options(fresh=True)("small")
        digest = engine.digester.digest
        digest(small)
        for turn in range(N_TURNS):
            frame.iloc[0, 0] = -turn
            found[f"arrow file stored, {kind}"].append(timed(lambda: store_arrow(frame, file)))
            found[f"frame stored, {kind}"].append(timed(lambda: give_one.options(fresh=True)("frame")))
            found[f"arrow file loaded, {kind}"].append(timed(lambda: load_arrow(file)))
            run = give_one.last
            assert run is not None
            found[f"frame loaded, {kind}"].append(timed(partial(run.value, give)))
            found[f"blake2b of the frame, {kind}"].append(timed(lambda: blake(frame)))
            found[f"frame digested, {kind}"].append(timed(lambda: digest(frame)))
            assert run.value(give).equals(frame)
    return {name: statistics.median(figures) for name, figures in found.items()}


def frame_of_numbers(folder: Path) -> Figures:
    """Measure a frame of 1e6 x 4 numbers and instants."""
    return _frame(folder, "numbers", has_text=False)


def frame_with_text(folder: Path) -> Figures:
    """Measure a frame of 1e6 x 4 of which one column is text."""
    return _frame(folder, "text", has_text=True)


@flow
def give_blobs(n_values: int) -> None:
    """Let a step return so many values of a megabyte."""
    for n in range(n_values):
        give(f"blob {n}")


def megabytes(folder: Path) -> Figures:
    """Measure values of 1e6 bytes against a synced file and the row that refers to it."""
    _prepared.update({f"blob {n}": os.urandom(BLOB) for n in range(N_BLOBS)})
    connection = connect(folder / "floor.db", "power")

    def write_all() -> None:
        for n in range(N_BLOBS):
            path = folder / f"blob-{n}"
            with path.open("wb") as file:
                file.write(_prepared[f"blob {n}"])
                file.flush()
                os.fsync(file.fileno())
            connection.execute("INSERT INTO rows (step) VALUES (?)", (path.name,))

    floor = timed(write_all) / N_BLOBS
    connection.close()
    with iron.open(folder / "values.db"):
        give_blobs.options(fresh=True)(0)
        spent = timed(lambda: give_blobs.options(fresh=True)(N_BLOBS)) / N_BLOBS
    return {"file of 1e6 bytes": floor, "step of 1e6 bytes": spent}
