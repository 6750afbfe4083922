"""Texts, numbers and paths that nobody should give: each is refused with words, or is kept and shown safely."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.plain_text import plain
from tests.conftest import Lab
from tests.waits.conftest import until

HALF = "a\ud800b"
"""A text with a lone surrogate, which no file can hold."""
OBEYED = ["a\0b", "\x1b[31mred", "a\x9b31m", "a\u202eb", HALF]
NO_PATHS: list[Any] = [b"a.db", None, 7, True, ["a.db"], "", "a\0b", HALF]
TOO_LARGE = [2**63, 2**200, 10**400]


@step
def same(value: Any) -> Any:
    return value


@flow
def once(value: Any = 1) -> Any:
    return same(value)


def is_safe(text: str) -> bool:
    return plain(text) == text and text.isascii()


@pytest.mark.parametrize("number", TOO_LARGE, ids=["2**63", "2**200", "10**400"])
def test_a_number_that_no_journal_keeps_is_refused_where_it_is_given(number: int, tmp_path: Path) -> None:
    places: list[Callable[[], object]] = [
        lambda: iron.Lane("api", limit=number),
        lambda: iron.Lane("api", rate="5/s", burst=number),
        lambda: iron.Breaker("api", failures=number),
        lambda: once.options(priority=number),
        lambda: once.options(priority=-number),
        lambda: iron.open(tmp_path / "journal.db", max_runs=number),
    ]
    for place in places:
        with pytest.raises(ValueError, match=r"63 bits|2\*\*63|whole number"):
            place()


@pytest.mark.parametrize("rate", ["1/99999999999d", f"1/{'9' * 400}d"])
def test_a_rate_that_no_clock_reaches_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match="slower than one in 1e9 seconds"):
        iron.Lane("api", rate=rate)
    assert iron.Lane("api", rate="1/11000d").rate == "1/11000d"


@pytest.mark.parametrize("given", NO_PATHS, ids=repr)
def test_what_is_no_path_is_refused_with_what_was_given(
    new_lab: Callable[[Path], Lab], tmp_path: Path, given: Any
) -> None:
    new_lab(tmp_path / "journal.db")
    once()
    run = once.last
    assert run is not None
    places: list[Callable[[], object]] = [
        lambda: iron.export(run, given),
        lambda: iron.import_(given),
        lambda: iron.backup(given),
        lambda: iron.run_notebook(given),
        lambda: run.report().save(given),
    ]
    if given is not None:
        places += [lambda: iron.open(given), lambda: iron.trust(given)]
    for place in places:
        with pytest.raises(
            (TypeError, ValueError), match=r"path is a text or a pathlib.Path, not|no file can have the name"
        ):
            place()


def test_a_folder_is_no_exported_run(new_lab: Callable[[Path], Lab], tmp_path: Path) -> None:
    new_lab(tmp_path / "journal.db")
    with pytest.raises(iron.JournalError, match="it is a folder"):
        iron.import_(tmp_path)


@pytest.mark.parametrize("text", OBEYED, ids=ascii)
def test_a_message_has_no_character_that_a_terminal_obeys(
    new_lab: Callable[[Path], Lab], tmp_path: Path, text: str
) -> None:
    new_lab(tmp_path / "journal.db")
    once()
    run = once.last
    assert run is not None
    places: list[Callable[[], object]] = [
        lambda: flow(on="saved", where=text)(lambda data: data),
        lambda: flow(cancel_on={"saved": text})(lambda data: data),
        lambda: iron.Lane("api", key=text),
        lambda: iron.sql(text),
        lambda: run.fork(inputs={text: 1}),
        lambda: iron.get_run(text),
        lambda: run.value(text),
    ]
    for place in places:
        with pytest.raises((ValueError, TypeError, LookupError, iron.IronflowError)) as raised:
            place()
        assert is_safe(str(raised.value))


@pytest.mark.parametrize("value", [*OBEYED, 2**70, math.nan, math.inf, ""], ids=ascii)
def test_a_sweep_shows_rows_of_any_text_or_number(new_lab: Callable[[Path], Lab], tmp_path: Path, value: Any) -> None:
    new_lab(tmp_path / "journal.db")
    sweep = once.sweep([{"value": value}])
    sweep.wait()
    frame = sweep.frame()
    assert frame["status"].tolist() == ["completed"]
    assert str(frame["value"][0]) == str(value)
    assert str(frame["result"][0]) == str(value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, HALF], ids=ascii)
def test_a_parameter_that_sqlite_does_not_take_is_refused_with_words(
    new_lab: Callable[[Path], Lab], tmp_path: Path, value: Any
) -> None:
    new_lab(tmp_path / "journal.db")
    with pytest.raises(ValueError, match="SELECT"):
        iron.sql("SELECT ?", [value])


@pytest.mark.parametrize("reason", [HALF, "", 5, b"x"], ids=repr)
def test_a_reason_is_a_text(new_lab: Callable[[Path], Lab], tmp_path: Path, reason: Any) -> None:
    new_lab(tmp_path / "journal.db")
    once()
    run = once.last
    assert run is not None
    for place in (lambda: run.redact("same", reason=reason), lambda: run.inject("same", 2, reason=reason)):
        with pytest.raises(ValueError, match="reason"):
            place()


@pytest.mark.parametrize("source", [HALF, b"y = 1", None, 5], ids=repr)
def test_the_source_of_a_cell_is_a_text(new_lab: Callable[[Path], Lab], tmp_path: Path, source: Any) -> None:
    new_lab(tmp_path / "journal.db")
    with pytest.raises(ValueError, match="source"):
        iron.cell_step("first", source)


class Silent:
    """Has no repr."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def deep(value: Any, n: int) -> Any:
    return [deep(value, n - 1)] if n else value


def shared(n: int) -> list[Any]:
    """Return a list that would be written out as 2 ** n lists."""
    part = [1]
    for _ in range(n):
        part = [part, part]
    return part


UNWRITABLE = {"deep": deep(1, 900), "shared": shared(40), "silent": Silent(), "long": "n" * 100_000, "digits": 10**5000}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_message_shows_a_value_in_short_whatever_its_repr_does(
    new_lab: Callable[[Path], Lab], tmp_path: Path, value: Any
) -> None:
    new_lab(tmp_path / "journal.db")
    once()
    run = once.last
    assert run is not None

    @flow(name="asked")
    def asked() -> Any:
        return iron.ask("Who?", choices=["a", "b"])

    @flow(name="measured")
    def measured() -> None:
        iron.metric("n", value)

    waiting = asked.start()
    until(lambda: len(iron.waiting()))
    places: list[Callable[[], object]] = [
        lambda: once.options(key=[value]),  # type: ignore[arg-type]
        lambda: iron.Lane("api", limit=[value]),  # type: ignore[arg-type]
        lambda: iron.get_run([value]),  # type: ignore[arg-type]
        lambda: run.value([value]),
        lambda: run.signal([value]),  # type: ignore[arg-type]
        lambda: iron.runs(limit=[value]),  # type: ignore[arg-type]
        lambda: iron.runs(flow=[value]),
        lambda: waiting.answer([value]),
    ]
    if not isinstance(value, int):
        places.append(measured)
    for place in places:
        with pytest.raises((ValueError, TypeError, LookupError, iron.IronflowError)) as raised:
            place()
        assert len(str(raised.value)) < 2_000
    waiting.cancel().wait()
