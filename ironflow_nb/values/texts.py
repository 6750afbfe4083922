"""Columns of text in Arrow's memory, hashed as the canonical JSON of the list of their texts.

No text becomes an object of Python: where JSON writes texts as they are, it is their bytes with `","` between them. So
the hash is the one that the same texts have wherever else they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

import numpy as np

_N_ROWS: Final = 1 << 16
# No text that JSON writes as it is has a zero in it, so this can only be a gap.
_GAP: Final = "\0"


def hash_of_texts(column: Any, encode: Callable[[list[str | None]], bytes]) -> str:
    """Return the hash of an Arrow column of texts, which is that of what `encode` makes of it as a list."""
    state = blake2b(b"[", digest_size=19)
    for number, part in enumerate(_parts(column)):
        if number:
            state.update(b",")
        state.update(_as_json(part) if _is_bare(part) else encode(part.to_pylist())[1:-1])
    state.update(b"]")
    return state.hexdigest()


def _parts(column: Any) -> Iterator[Any]:
    import pyarrow as pa

    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for start in range(0, len(chunk), _N_ROWS):
            yield chunk.slice(start, _N_ROWS).cast(pa.large_string())


def _is_bare(texts: Any) -> bool:
    """Tell whether JSON writes the texts as they are: no quotes, no backslashes, no control characters."""
    _, bounds, content = texts.buffers()
    places = np.frombuffer(bounds, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    codes = np.frombuffer(content or b"", np.uint8)[places[0] : places[-1]]
    return not ((codes < ord(" ")).any() or (codes == ord('"')).any() or (codes == ord("\\")).any())


def _as_json(texts: Any) -> bytes:
    """Return the texts, none of which JSON changes, as the inside of a JSON list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = texts.fill_null(_GAP) if texts.null_count else texts
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(texts)], pa.int64()), filled)
    joined = b'"%b"' % pc.binary_join(whole, pa.scalar('","', pa.large_string()))[0].as_buffer()
    return joined.replace(b'"\0"', b"null") if texts.null_count else joined
