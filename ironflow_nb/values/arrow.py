"""Frames and series as Arrow IPC files, compressed with lz4."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from ironflow_nb.core.identity import ValueId
from ironflow_nb.values.stored_value import (
    ARROW,
    INLINE_LIMIT,
    ContentParts,
    StoredValue,
    id_of_parts,
    verified_content,
)

_EXACT_KINDS: Final = frozenset("iufbM")
_BATCH_BYTES: Final = 4 << 20


def is_arrow(value: Any) -> bool:
    """Return True if Arrow restores the frame or series exactly, dtypes and labels included."""
    import pandas as pd

    if type(value) is pd.Series:
        return type(value.name) is str and is_arrow(value.to_frame())
    if type(value) is not pd.DataFrame or value.attrs or not value.flags.allows_duplicate_labels:
        return False
    labels = value.columns
    named = labels.name is None and labels.is_unique and all(type(label) is str for label in labels)
    if not named or type(labels) is not pd.Index or labels.dtype != pd.DataFrame(columns=["a"]).columns.dtype:
        return False
    if any(str(label).startswith("__index_level_") for label in labels):
        return False
    return all(_is_exact(dtype) for dtype in value.dtypes) and _is_exact_index(value.index, set(labels))


def _is_exact(dtype: Any) -> bool:
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return dtype.kind in _EXACT_KINDS and dtype.isnative and dtype != np.dtype("float16")
    if isinstance(dtype, pd.DatetimeTZDtype):
        return str(dtype.tz) == "UTC"
    # Strings come back with this dtype only where pandas uses pyarrow for all strings.
    return isinstance(dtype, pd.StringDtype) and dtype.storage == "pyarrow" and dtype == pd.Series([""]).dtype


def _is_exact_index(index: Any, labels: set[str]) -> bool:
    import pandas as pd

    if index.name is not None and (type(index.name) is not str or index.name in labels):
        return False
    if isinstance(index, pd.RangeIndex):
        return True
    if isinstance(index, pd.MultiIndex) or getattr(index, "freq", None) is not None:
        return False
    return _is_exact(index.dtype)


def to_arrow(value: Any) -> tuple[Any, ValueId]:
    """Return the frame or series as an Arrow IPC file (bytes, or `ContentParts` from 64 kB on), and its id.

    A thread hashes one batch while the next one is compressed.
    """
    import pandas as pd
    import pyarrow as pa

    frame = value.to_frame() if type(value) is pd.Series else value
    table = _with_exact_texts(_with_exact_nans(pa.Table.from_pandas(frame, preserve_index=None), frame))
    marked = dict(table.schema.metadata or {}) | {b"ironflow": type(value).__name__.encode()}
    parts = ContentParts()
    batches = _write_batches(table.replace_schema_metadata(marked), parts)
    content_id = id_of_parts(ARROW, batches, in_thread=table.nbytes > _BATCH_BYTES)
    return parts if len(parts) >= INLINE_LIMIT else bytes(parts), content_id


def _write_batches(table: Any, parts: ContentParts) -> Iterator[memoryview]:
    """Write the file into `parts`, and yield the new parts after each batch."""
    import pyarrow as pa

    n_yielded, n_rows = 0, max(1, _BATCH_BYTES * table.num_rows // max(1, table.nbytes))
    with pa.ipc.new_file(_Sink(parts), table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for batch in table.to_batches(max_chunksize=n_rows):
            writer.write_batch(batch)
            yield from parts.parts[n_yielded:]
            n_yielded = len(parts.parts)
    yield from parts.parts[n_yielded:]  # closing the writer adds the footer


class _Sink(io.RawIOBase):
    """A file that keeps the written parts without copying them."""

    def __init__(self, parts: ContentParts) -> None:
        self._parts = parts

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        view = memoryview(part).cast("B")  # Arrow's buffers have signed bytes, which compare unequal to bytes
        self._parts.add(view)
        return len(view)


def _with_exact_nans(table: Any, frame: Any) -> Any:
    """Return the table with the original NaNs: pyarrow turns them into nulls and loses their bits."""
    import pyarrow as pa

    for place, column in enumerate(table.columns):
        if pa.types.is_floating(column.type) and column.null_count:
            source = frame.iloc[:, place] if place < frame.shape[1] else frame.index
            table = table.set_column(place, table.field(place), pa.array(source.to_numpy(), from_pandas=False))
    return table


def _with_exact_texts(table: Any) -> Any:
    """Return the table with each text column in one chunk, without the bytes that a slice or filter left around it."""
    import pyarrow as pa

    for place, column in enumerate(table.columns):
        if len(column) and pa.types.is_large_string(column.type):
            table = table.set_column(place, table.field(place), _exact_texts(pa.concat_arrays(column.chunks)))
    return table


def _exact_texts(texts: Any) -> Any:
    import pyarrow as pa

    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64, len(texts) + 1, 8 * texts.offset)
    first, last = int(ends[0]), int(ends[-1])
    valid = pa.py_buffer(np.packbits(texts.is_valid(), bitorder="little")) if texts.null_count else None
    own = [valid, pa.py_buffer(ends - first if first else ends), content.slice(first, last - first)]
    return pa.Array.from_buffers(texts.type, len(texts), own, texts.null_count)


def verified_frame(stored: StoredValue) -> StoredValue:
    """Do as `verified_content`: a thread hashes the content while its table is read, which goes with it.

    Arrow only unpacks the content of a table: nobody looks at a column before the id was compared.
    """
    tables: list[Any] = []

    def parts(content: bytes) -> Iterator[bytes]:
        yield content
        with suppress(Exception):  # pyarrow is absent, or the content is damaged, which its id tells
            tables.append(_read_table(content))

    content_id = id_of_parts(ARROW, parts(stored.content or b""), in_thread=True)
    verified = verified_content(stored, content_id)
    return verified if verified.content is None or not tables else replace(verified, table=tables[0])


def _read_table(content: bytes) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.py_buffer(content)).read_all()


def from_arrow(content: bytes, table: Any = None) -> Any:
    """Return the frame or series that an Arrow IPC file contains; its table may be read already."""
    table = _read_table(bytes(content)) if table is None else table
    frame = table.to_pandas()
    is_series = (table.schema.metadata or {}).get(b"ironflow") == b"Series"
    return frame.iloc[:, 0] if is_series else frame
