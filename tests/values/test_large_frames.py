"""A large frame is made and hashed in parts, and is one value all the same."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.values.arrow import verified_frame
from ironflow_nb.values.stored_value import ContentParts, StoredValue, id_of_parts, value_id
from ironflow_nb.values.value_files import ValueFiles
from tests.values.workshop import new_values, same

pytestmark = pytest.mark.slow

N_ROWS = 300_000


def is_hashed_beside() -> bool:
    """Return True if a thread is there that hashes; those of other tests come and go."""
    return any(thread.name.startswith("ironflow-hash") for thread in threading.enumerate())


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return a frame of several batches: numbers that lz4 makes no smaller, texts, gaps."""
    count = np.arange(N_ROWS)
    noise = np.random.default_rng(1).random((N_ROWS, 2))
    texts = pd.Series(count).map("é{}".format).where(count % 7 > 0)
    return pd.DataFrame({"n": count, "x": noise[:, 0], "y": noise[:, 1], "text": texts}).set_index(count[::-1])


@given(st.lists(st.binary(max_size=9)), st.booleans())
def test_content_in_parts_has_the_id_of_the_whole(parts: list[bytes], in_thread: bool) -> None:
    assert id_of_parts("a codec", parts, in_thread=in_thread) == value_id("a codec", b"".join(parts))


def test_what_fails_on_the_thread_beside_is_not_lost() -> None:
    with pytest.raises(TypeError):
        id_of_parts("a codec", [b"content", "no bytes", b"content"], in_thread=True)  # type: ignore[list-item]


def test_a_frame_of_many_batches_is_one_value(frame: pd.DataFrame) -> None:
    values = new_values()
    stored, live = values.store(frame)
    assert not is_hashed_beside()
    assert isinstance(stored.content, ContentParts)
    assert live is frame
    assert stored.codec == "arrow"
    assert stored.size == len(bytes(stored.content))
    assert stored.value_id == value_id("arrow", bytes(stored.content)) == values.encode(frame).value_id
    back = new_values().decode(stored)
    assert same(back, frame)
    assert values.digester.digest(back) == values.digester.digest(frame)


def test_each_column_of_a_large_frame_comes_back(frame: pd.DataFrame) -> None:
    for column in frame:
        assert same(new_values().decode(new_values().encode(frame[column])), frame[column])


def test_what_was_stored_does_not_follow_the_frame(frame: pd.DataFrame) -> None:
    before = frame.copy()
    stored = new_values().encode(frame)
    for column in ("n", "x", "y"):
        memory = frame[column].to_numpy()
        memory.setflags(write=True)
        memory[:] = 0
    assert (frame["x"] == 0).all()
    assert same(new_values().decode(stored), before)


def test_a_frame_that_hardly_fills_its_batches_is_small_content() -> None:
    zeros = pd.DataFrame({"a": np.zeros(N_ROWS), "b": np.zeros(N_ROWS), "c": np.zeros(N_ROWS)})
    stored, echo = new_values().store(zeros)
    assert type(stored.content) is bytes
    assert same(echo, zeros)
    assert echo is not zeros


def test_an_equal_frame_leaves_its_file_alone_and_mends_a_damaged_one(frame: pd.DataFrame, tmp_path: Path) -> None:
    files, stored = ValueFiles(tmp_path / "values"), new_values().encode(frame)
    assert stored.content is not None
    files.write(stored.value_id, stored.content)
    path = files.path(stored.value_id)
    written = path.stat()
    assert files.read(stored.value_id, stored.size) == bytes(stored.content)
    files.write(stored.value_id, new_values().encode(frame).content or b"")
    assert os.path.samestat(path.stat(), written)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    files.write(stored.value_id, stored.content)
    assert files.read(stored.value_id, stored.size) == bytes(stored.content)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_table_of_a_large_frame_is_read_while_its_content_is_checked(frame: pd.DataFrame) -> None:
    stored = as_read(new_values().encode(frame))
    checked = verified_frame(stored)
    assert not is_hashed_beside()
    assert checked.table is not None
    assert replace(checked, table=None) == stored
    assert same(new_values().decode(checked), frame)
    series = verified_frame(as_read(new_values().encode(pd.concat([frame["x"]] * 4))))
    assert series.table is not None
    assert isinstance(new_values().decode(series), pd.Series)


def test_a_large_frame_with_any_other_byte_is_not_read(frame: pd.DataFrame) -> None:
    stored, chance = as_read(new_values().encode(frame)), random.Random(1)
    size = stored.size
    for place in [*range(10), *range(size - 10, size), *(chance.randrange(size) for _ in range(40))]:
        damaged = bytearray(stored.content or b"")
        damaged[place] ^= 1 << chance.randrange(8)
        for content in (damaged, damaged[: size // 2], damaged[place:]):
            checked = verified_frame(replace(stored, content=bytes(content)))
            assert (checked.content, checked.table) == (None, None)
            assert checked.read_error is not None
    assert verified_frame(stored).content == stored.content


def as_read(stored: StoredValue) -> StoredValue:
    """Return the value as it is read from its file."""
    return replace(stored, content=bytes(stored.content or b""))
