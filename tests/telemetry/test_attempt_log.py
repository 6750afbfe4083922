"""The log of an attempt: lines as a terminal shows them, bounded, and without secrets."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.telemetry.attempt_log import LOG_HEAD, LOG_TAIL, OMITTED, AttemptLog, LogPiece


class Shelf:
    """Keeps pieces as a journal does."""

    def __init__(self) -> None:
        self.pieces: dict[int, LogPiece] = {}

    def put(self, pieces: list[LogPiece]) -> None:
        for piece in pieces:
            self.pieces[piece.number] = piece
            for number in range(piece.number + 1, (piece.until or 0) + 1):
                self.pieces.pop(number, None)

    @property
    def text(self) -> str:
        return "".join(self.pieces[number].text for number in sorted(self.pieces))


def logged(*texts: str, redact: object = str, takes: bool = False) -> str:
    log, shelf = AttemptLog(redact), Shelf()  # type: ignore[arg-type]
    for at, text in enumerate(texts):
        log.write("stdout", text, at)
        if takes:
            shelf.put(log.take())
    shelf.put(log.finish())
    return shelf.text


@pytest.mark.parametrize("takes", [False, True])
@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["a", "\n", "b", "\n"], "a\nb\n"),
        (["no end"], "no end\n"),
        (["a\r\n", "b\r\n"], "a\nb\n"),
        (["\r 0%", "\r 50%", "\r100%", "\n", "done\n"], "100%\ndone\n"),
        (["\r50%", "\r   ", "\r", "done\n"], "done\n"),
        (["wait\r"], "wait\n"),
        (["50%", "\x1b[2K", "\r", "done\n"], "done\n"),
        (["\x1b[1;31mred\x1b[0m\n", "bell\x07\n", "\x1b]8;;https://a\x07link\x1b]8;;\x07\n"], "red\nbell\nlink\n"),
        (["", "\n", "\n"], "\n\n"),
        (["half \udc80\n"], "half \\udc80\n"),
    ],
)
def test_lines_are_as_a_terminal_shows_them(texts: list[str], shown: str, takes: bool) -> None:
    assert logged(*texts, takes=takes) == shown


def test_two_bars_below_each_other_leave_their_last_states() -> None:
    texts = ["\router 0/2"]
    for n in (1, 2, 3):
        texts += ["\n", f"\rinner {n}/3", "\x1b[A"]
    texts += ["\router 2/2", "\n", "\n", "after\n"]
    assert logged(*texts) == "outer 2/2\ninner 3/3\nafter\n"
    assert logged(*texts, takes=True) == "outer 0/2\nouter 2/2\ninner 3/3\nafter\n"  # it was written already


def test_a_live_display_of_several_lines_leaves_its_last_frame() -> None:
    texts = ["first\n", "a 1\nb 1"]
    for n in (2, 3, 4):
        texts.append(f"\r\x1b[2K\x1b[1A\x1b[2Ka {n}\nb {n}")
    assert logged(*texts, "\n") == "first\na 4\nb 4\n"


def test_lines_that_may_still_change_are_kept_back() -> None:
    log = AttemptLog(str)
    log.write("stdout", "whole\nhalf", 1)
    assert [piece.text for piece in log.take()] == ["whole\n"]
    log.write("stdout", " and half\n", 2)
    assert [piece.text for piece in log.take()] == ["half and half\n"]


def test_what_ended_before_stands_before_it() -> None:
    log = AttemptLog(str)
    for n in range(3):
        log.write("stdout", f"out {n}\n", 2 * n)
        log.write("stderr", f"err {n}\n", 2 * n + 1)
    log.record("WARNING", "careful", 9)
    pieces = log.finish()
    assert [piece.text for piece in pieces] == [
        "out 0\n",
        "err 0\n",
        "out 1\n",
        "err 1\n",
        "out 2\n",
        "err 2\n",
        "careful\n",
    ]
    assert [piece.at for piece in pieces] == sorted(piece.at for piece in pieces)
    assert pieces[-1].level == "WARNING"


@pytest.mark.parametrize("every", [1, 7, 10_000])
def test_of_a_long_log_the_middle_is_left_out(every: int) -> None:
    log, shelf = AttemptLog(str), Shelf()
    for n in range(40_000):
        log.write("stdout", f"line {n}\n", n)
        if n % every == 0 and n % 50 == 0:
            shelf.put(log.take())
    shelf.put(log.finish())
    lines = shelf.text.splitlines()
    (gap,) = [number for number, piece in shelf.pieces.items() if piece.stream == OMITTED]
    assert shelf.pieces[gap].text.startswith("... ")
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    assert lines[-1] == "line 39999"
    assert len(shelf.text) <= LOG_HEAD + LOG_TAIL + 100
    kept = [int(line[5:]) for line in lines if line.startswith("line ")]
    assert kept == sorted(kept)
    n_left_out = int(shelf.pieces[gap].text.split()[1].replace(",", ""))
    assert n_left_out + sum(len(line) + 1 for line in lines if line.startswith("line ")) == sum(
        len(f"line {n}\n") for n in range(40_000)
    )


def test_a_line_without_an_end_is_bounded_as_well() -> None:
    log = AttemptLog(str)
    for n in range(1_000):
        log.write("stdout", "x" * 1_000, n)
    assert sum(len(piece.text) for piece in log.finish()) <= LOG_HEAD + LOG_TAIL + 100


@given(st.integers(0, 9_000), st.integers(1, 40), st.booleans())
def test_no_cut_leaves_a_part_of_a_secret(before: int, step: int, takes: bool) -> None:
    secret = "s3cr3t-" * 5
    text = "." * before + secret + "." * 5_000 + "\n"
    pieces = [text[start : start + step * 100] for start in range(0, len(text), step * 100)]
    found = logged(*pieces, redact=lambda each: each.replace(secret, "***"), takes=takes)
    assert "s3cr" not in found
    assert found.count("***") == 1


plain_texts = st.text(st.sampled_from("ab \n"), max_size=12)


@given(st.lists(st.tuples(plain_texts, st.booleans()), max_size=20))
def test_plain_text_stays_what_it_is_however_it_is_taken(writes: list[tuple[str, bool]]) -> None:
    log, shelf, stream = AttemptLog(str), Shelf(), io.StringIO()
    for text, is_taken in writes:
        log.write("stdout", text, 0)
        stream.write(text)
        if is_taken:
            shelf.put(log.take())
    shelf.put(log.finish())
    whole = stream.getvalue()
    assert shelf.text == (whole if not whole or whole.endswith("\n") else f"{whole}\n")
