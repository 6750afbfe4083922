"""What every journal has to keep of values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from ironflow_nb.code_identity.tracker import CODE
from ironflow_nb.core.events import RunCompleted
from ironflow_nb.core.identity import ValueId
from ironflow_nb.journal.ports import Durability, Journal, Select
from ironflow_nb.values.codecs import ValueCodec
from ironflow_nb.values.digest import Digester, Provenance
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import INLINE_LIMIT, ROW_LIMIT, ContentParts, StoredValue, fits_row
from tests.contracts.histories import A, Author, B, C, one_run, value, values_of

FAST = Durability.PROCESS


def by_id(*values: StoredValue) -> dict[ValueId, StoredValue]:
    return {stored.value_id: stored for stored in values}


class ValueContract:
    """Inherited by the tests of an adapter, which give the fixtures `journal` and `other_handle` of one store."""

    def test_values_are_stored_once_and_signed_anew(self, journal: Journal) -> None:
        first = value(b"content", mac=b"old")
        again = replace(value(b"content", mac=b"new"), preview="another look")
        journal.append([replace(one_run(A), values=(first, first))], durability=FAST)
        journal.append([replace(one_run(B), values=(again,))], durability=FAST)
        with journal.reading() as reader:
            assert reader.value_ids("tagged") == [first.value_id]
            assert reader.values([first.value_id]) == {first.value_id: replace(first, mac=b"new")}

    @pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT - 1, INLINE_LIMIT, INLINE_LIMIT + 1, 3_000_000])
    def test_values_of_every_size_come_back(self, journal: Journal, other_handle: Journal, size: int) -> None:
        stored = value(b"ab" * (size // 2) + b"c" * (size % 2))
        journal.append([replace(one_run(A), values=(stored,))], durability=FAST)
        for view in (journal.current, other_handle.reading):
            with view() as reader:
                assert reader.values([stored.value_id]) == {stored.value_id: stored}
                assert reader.values([stored.value_id], content_limit=size) == {stored.value_id: stored}
                above = reader.values([stored.value_id], content_limit=size - 1)
                assert above == {stored.value_id: replace(stored, content=None)}

    def test_content_given_as_a_view_of_memory_is_kept_as_it_was(self, journal: Journal) -> None:
        memory = bytearray(b"written")
        stored = value(bytes(memory))
        journal.append([replace(one_run(A), values=(replace(stored, content=memoryview(memory)),))], durability=FAST)
        memory[:] = b"changed"
        with journal.reading() as reader:
            assert reader.values([stored.value_id]) == {stored.value_id: stored}

    def test_content_that_was_made_in_parts_is_kept_as_one(self, journal: Journal) -> None:
        parts = ContentParts()
        for number in range(INLINE_LIMIT):
            parts.add(memoryview(b"%d" % number))
        stored = value(bytes(parts))
        journal.append([replace(one_run(A), values=(replace(stored, content=parts),))], durability=FAST)
        with journal.reading() as reader:
            assert reader.values([stored.value_id]) == {stored.value_id: stored}

    def test_many_values_are_found_at_once_and_unknown_ones_are_left_out(self, journal: Journal) -> None:
        many = [value(b"%d" % number) for number in range(1200)]
        unknown = value(b"never stored").value_id
        journal.append([replace(one_run(A), values=tuple(many))], durability=FAST)
        with journal.reading() as reader:
            found = reader.values([unknown, *(stored.value_id for stored in many)])
            assert found == {stored.value_id: stored for stored in many}
            assert reader.values([]) == {}

    def test_values_are_signed_again_by_codec(self, journal: Journal) -> None:
        tagged, pickled = value(b"t"), value(b"p", codec="pickle", mac=b"old")
        journal.append([replace(one_run(A), values=(tagged, pickled))], durability=FAST)
        unknown = value(b"u", codec="pickle").value_id
        macs = {tagged.value_id: b"new", pickled.value_id: b"new", unknown: b"new"}
        assert journal.replace_signatures("pickle", macs) == 1
        assert journal.replace_signatures("pickle", {}) == 0
        with journal.reading() as reader:
            assert reader.value_ids("pickle") == [pickled.value_id]
            assert reader.values(list(macs)) == {
                tagged.value_id: tagged,
                pickled.value_id: replace(pickled, mac=b"new"),
            }

    def test_small_values_lie_in_the_rows_that_they_belong_to(self, journal: Journal, other_handle: Journal) -> None:
        author = Author()
        asked, told, given, made = (value(text) for text in (b"asked", b"told", b"given", b"made"))
        author.start(A, inputs=asked.value_id)
        author.begin_step(A, "fetch", inputs=given.value_id)
        author.begin_step(A, "fit", inputs=given.value_id)
        journal.append([author.entry(A, row_values=[asked, given])], durability=FAST)
        author.complete_step(A, "fetch", output=made.value_id)
        author.note(A, RunCompleted(output=told.value_id))
        journal.append([author.entry(A, row_values=[made, told])], durability=FAST)
        everything = [each.value_id for each in (asked, told, given, made)]
        for view in (journal.current, other_handle.reading):
            with view() as reader:
                (run,), (fetch, fit) = reader.runs(Select()), reader.steps(Select())
                assert reader.values(everything, of=[run.row_key]) == by_id(asked, told)
                assert reader.values(everything, of=[fetch.row_key]) == by_id(given, made)
                assert reader.values(everything, of=[fit.row_key]) == by_id(given)
                of = [row.row_key for row in (run, fetch, fit)]
                assert reader.values(everything, of=of) == by_id(asked, told, given, made)
                assert reader.values([made.value_id], of=of, content_limit=3) == by_id(replace(made, content=None))
                assert reader.values(everything) == {}
                assert reader.value_ids("tagged") == []
                assert [output for _, output in reader.attempts(A)] == [made, None]

    def test_the_values_of_many_rows_are_found_at_once(self, journal: Journal) -> None:
        author, outputs = Author(), [value(b"%d" % number) for number in range(450)]
        author.start(A)
        for number, output in enumerate(outputs):
            author.begin_step(A, "fetch", number)
            author.complete_step(A, "fetch", number, output=output.value_id)
        journal.append([author.entry(A, row_values=outputs)], durability=FAST)
        with journal.reading() as reader:
            of = [row.row_key for row in reader.steps(Select())]
            assert reader.values([output.value_id for output in outputs], of=of) == by_id(*outputs)
            assert [output for _, output in reader.attempts(A)] == outputs

    def test_a_value_stays_in_its_row_until_the_row_has_another_one(self, journal: Journal) -> None:
        author = Author()
        given, first, second, large = (value(text) for text in (b"given", b"1", b"2", b"3" * (ROW_LIMIT + 1)))
        author.start(A, inputs=given.value_id)
        author.begin_step(A, "fetch", inputs=given.value_id)
        author.complete_step(A, "fetch", output=first.value_id)
        written = author.entry(A, row_values=[given, first])
        journal.append([written], durability=FAST)
        journal.append([replace(written, events=(), row_values=())], durability=FAST)
        with journal.reading() as reader:
            assert values_of(reader, written.steps[0]) == by_id(given, first)
        for output, at in ((second, {"row_values": [second]}), (large, {"values": [large]}), (first, {})):
            other = replace(written.steps[0], output_id=output.value_id)
            journal.append([replace(written, events=(), steps=(other,), **({"row_values": ()} | at))], durability=FAST)
            with journal.reading() as reader:
                (row,) = reader.steps(Select())
                assert values_of(reader, row) == by_id(given, *([output] if at else []))

    @pytest.mark.parametrize(
        "made",
        [{"n": 1}, [1, "a"], "text", "", 12, -3, 1.5, -2e-07, 1e300, True, False, None, (1, 2), {1}, b"\0\n\xff",
         Decimal("1.50"), np.arange(3), "\n\0\u2028 \N{SNOWMAN}", {"~": 1}, "x" * 1022],
        ids=repr,
    )  # fmt: skip
    def test_values_in_rows_come_back_as_they_were_stored(self, journal: Journal, made: Any) -> None:
        codec = ValueCodec(Digester(Provenance(bytes), CODE), Signer(bytes))
        (given,), output = codec.store_inputs({"x": made if type(made) is dict else 1}), codec.encode(made)
        author = Author()
        author.start(A)
        author.begin_step(A, "fetch", inputs=given.value_id)
        author.complete_step(A, "fetch", output=output.value_id)
        assert fits_row(output)
        journal.append([author.entry(A, row_values=[given, output])], durability=FAST)
        with journal.reading() as reader:
            (row,) = reader.steps(Select())
            assert values_of(reader, row) == by_id(given, output)
            assert [each for _, each in reader.attempts(A)] == [output]

    def test_a_run_is_continued_with_its_outputs_up_to_a_limit(self, journal: Journal) -> None:
        author = Author()
        small, large, huge = (value(b"x" * size) for size in (ROW_LIMIT, ROW_LIMIT + 1, INLINE_LIMIT))
        author.start(A)
        for index, output in ((10, small), (9, large), (2, huge)):
            author.begin_step(A, "fetch", index)
            author.complete_step(A, "fetch", index, output=output.value_id)
        author.begin_step(A, "a")
        author.fail_step(A, "a")
        author.begin_step(A, "a", attempt=2)
        author.start(B)
        author.begin_step(B, "not asked for")
        journal.append([author.entry(B), author.entry(A, values=[small, large, huge])], durability=FAST)
        with journal.reading() as reader:
            memo = list(reader.attempts(A))
            assert list(reader.attempts(C)) == []
        assert [(row.step, row.attempt) for row, _ in memo] == [
            ("a[0]", 1), ("a[0]", 2), ("fetch[2]", 1), ("fetch[9]", 1), ("fetch[10]", 1),
        ]  # fmt: skip
        rows = author.states[A].steps
        assert [row for row, _ in memo] == [rows[row.step, row.attempt] for row, _ in memo]
        without = [replace(output, content=None) for output in (huge, large)]
        assert [output for _, output in memo] == [None, None, *without, small]
