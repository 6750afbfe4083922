"""A column of texts has one digest, wherever pandas keeps it and however it is cut."""

from __future__ import annotations

import sys
from hashlib import blake2b

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.values import arrays
from ironflow_nb.values.arrays import hash_of_texts
from ironflow_nb.values.digest import CANONICAL
from tests.values.workshop import new_values

TEXTS = st.lists(st.one_of(st.none(), st.text('ab"\\\n\0\x1f\x7fé€😀,[', max_size=4), st.text(max_size=3)), max_size=9)


def all_characters() -> list[str | None]:
    return [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]


def expected(items: list[str | None]) -> str:
    return blake2b(CANONICAL.encode(items), digest_size=19).hexdigest()


@given(TEXTS, st.integers(1, 9), st.sampled_from([pa.string(), pa.large_string()]))
def test_the_hash_is_that_of_the_list_as_json_however_it_is_cut(
    items: list[str | None], n: int, kind: pa.DataType
) -> None:
    chunks = [pa.array(["x", *items[start : start + n], None], kind)[1:-1] for start in range(0, len(items), n)]
    with pytest.MonkeyPatch.context() as patch:
        assert hash_of_texts(pa.chunked_array(chunks, kind), CANONICAL.encode) == expected(items)
        patch.setattr(arrays, "_N_ROWS", 2)
        assert hash_of_texts(pa.chunked_array(chunks, kind), CANONICAL.encode) == expected(items)


def test_every_character_is_hashed_as_json_writes_it() -> None:
    every = all_characters()
    for items in (every, [*every, None], [None, *every[0x80:], "", None]):
        assert hash_of_texts(pa.array(items, pa.large_string()), CANONICAL.encode) == expected(items)
    for character in every[:0x100]:
        assert hash_of_texts(pa.array(["a", character]), CANONICAL.encode) == expected(["a", character])


@given(TEXTS)
def test_where_a_column_of_texts_is_kept_does_not_identify(items: list[str | None]) -> None:
    digest = new_values().digester.digest
    kept = [pd.Series(items, dtype=f"string[{where}]") for where in ("python", "pyarrow")]
    assert digest(kept[0]) == digest(kept[1])
    assert digest(pd.Index(kept[0])) == digest(pd.Index(kept[1]))
    assert digest(pd.concat([kept[1], kept[1]], ignore_index=True)[: len(items)]) == digest(kept[0])


@pytest.mark.skipif(pd.__version__.startswith("2."), reason="the labels of columns are of another dtype")
def test_the_digest_of_a_text_column_is_the_one_of_recorded_journals() -> None:
    frame = pd.DataFrame({"t": pd.Series(["a", None, 'é"\n', ""], dtype="string")})
    assert new_values().digester.digest(frame).digest.hex() == "01fee4a3bec5fff957a96f34cd1e63a7f3d2aa9c"
