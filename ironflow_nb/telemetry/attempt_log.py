"""The log of one attempt: its lines as a terminal would show them, in pieces, without the middle of a long one.

A carriage return, an erased line and a cursor that moves up change lines that stand there already, so of a progress bar
its last state is left. The lines that may still change are kept back.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

LOG_HEAD: Final = 16_000
"""The number of characters at the beginning of a log that are always kept."""
LOG_TAIL: Final = 48_000
"""The number of characters at the end of a longer log that are kept, too."""
OMITTED: Final = "omitted"
"""The stream of the line that stands in the place of what is left out."""

_AT_ONCE: Final = 16_000
_PIECE: Final = 4_000
_LONGEST_LINE: Final = 8_000
_OF_PIECE: Final = 64
"""The number of characters that a piece counts for beside its text: thousands of short ones are no small log."""
_MOST_MOVED: Final = 50
"""The number of lines that a cursor can move up, which are kept back."""

_CONTROL: Final = re.compile(r"(\n|\r|\x1b\[[0-?]*[ -/]*[@-~])")
_INVISIBLE: Final = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LogPiece(msgspec.Struct, frozen=True):
    """Some lines of a log, by their number in it. `at` is the instant of the first one, microseconds UTC.

    A piece of the stream `OMITTED` stands in place of all pieces after its own number and up to `until`.
    """

    number: int
    at: int
    stream: str
    level: str | None
    text: str
    until: int | None = None


class AttemptLog:
    """What one attempt writes, in the order of the ends of its lines. `redact` takes the secrets out of a text."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._written: list[tuple[str, str, int]] = []
        self._n_written = 0
        self._screens: dict[str, _Screen] = {}
        self._new: dict[int, LogPiece] = {}
        self._n_pieces = 0
        self._n_head = 0
        self._last_at = 0
        self._tail: deque[tuple[LogPiece, int]] = deque()
        self._n_tail = 0
        self._gap: LogPiece | None = None
        self._first_omitted: int | None = None
        self._n_omitted = 0

    def write(self, stream: str, text: str, at: int) -> None:
        """Add text that was written to a stream; it is looked at later, for most writes are short."""
        self._written.append((stream, text, at))
        self._n_written += len(text) + 1
        if self._n_written > _AT_ONCE:
            self._read_written()

    def _read_written(self) -> None:
        """Look at what was written, in its order."""
        written, self._written, self._n_written = self._written, [], 0
        for stream, texts in groupby(written, key=itemgetter(0)):
            (_, first, at), *others = texts
            self._read(stream, "".join([first, *(text for _, text, _ in others)]), at)

    def _read(self, stream: str, text: str, at: int) -> None:
        screen = self._screens.get(stream)
        if screen is None:
            screen = self._screens[stream] = _Screen()
        if screen.is_empty:
            screen.began_at = at
        screen.write(text)
        if "\n" in text and len(self._screens) > 1:  # lines of the other streams that ended before stand before it
            for other, before in self._screens.items():
                if before is not screen:
                    self._add(other, None, before.take(), before.began_at)
        if screen.n_characters > _PIECE:
            self._add(stream, None, screen.take(), screen.began_at)
            while len(screen.line) > _LONGEST_LINE:
                # Nothing is cut before it was searched for secrets, and the rest, where one may begin, is kept.
                screen.line = self._redact(screen.line)
                half, screen.line = screen.line[: _LONGEST_LINE // 2], screen.line[_LONGEST_LINE // 2 :]
                self._add(stream, None, half, at)

    def record(self, level: str, text: str, at: int) -> None:
        """Add a record of logging."""
        self._read_written()
        for stream, screen in self._screens.items():
            self._add(stream, None, screen.take(), screen.began_at)
        self._add("logging", _storable(f"{level}"), f"{text}\n", at)

    def take(self) -> list[LogPiece]:
        """Return the pieces that were not returned yet; lines that may still change are kept back."""
        self._read_written()
        for stream, screen in self._screens.items():
            self._add(stream, None, screen.take(), screen.began_at)
        found, self._new = list(self._new.values()), {}
        if self._gap is not None:
            found.append(self._gap)
            self._gap = None
        return found

    def finish(self) -> list[LogPiece]:
        """Return the last pieces, at the end of the attempt."""
        self._read_written()
        for stream, screen in sorted(self._screens.items(), key=lambda pair: pair[1].began_at):
            self._add(stream, None, screen.take(is_final=True), screen.began_at)
        return self.take()

    def _add(self, stream: str, level: str | None, text: str, at: int) -> None:
        if not text:
            return
        shown = _INVISIBLE.sub("", self._redact(text))
        shown = _storable(shown)
        at = self._last_at = max(at, self._last_at)
        while shown:
            end = len(shown) if len(shown) <= _PIECE else shown.rfind("\n", 0, _PIECE) + 1 or _PIECE
            self._keep(LogPiece(self._n_pieces, at, stream, level, shown[:end]))
            shown = shown[end:]

    def _keep(self, piece: LogPiece) -> None:
        size = len(piece.text) + _OF_PIECE
        self._n_pieces += 1
        self._new[piece.number] = piece
        if not self._tail and self._n_head + size <= LOG_HEAD:
            self._n_head += size
            return
        self._n_head = LOG_HEAD  # what comes later belongs to the tail, however short it is
        self._tail.append((piece, size))
        self._n_tail += size
        while self._n_tail > LOG_TAIL:
            self._omit_oldest()

    def _omit_oldest(self) -> None:
        """Leave out the oldest piece of the tail; the first one of them gives its place to the line that says so."""
        piece, size = self._tail.popleft()
        self._n_tail -= size
        self._n_omitted += len(piece.text)
        self._new.pop(piece.number, None)
        if self._first_omitted is None:
            self._first_omitted = piece.number
        text = f"... {self._n_omitted:,} characters left out ...\n"
        self._gap = LogPiece(self._first_omitted, piece.at, OMITTED, None, text, until=piece.number)


def _storable(text: str) -> str:
    """Return the text with escapes for half characters, which no file can hold."""
    return text.encode(errors="backslashreplace").decode()


class _Screen:
    """The lines of one stream that may still change: the last one, and those above that the cursor has reached."""

    def __init__(self) -> None:
        self.began_at = 0
        self.n_characters = 0
        self._lines = [""]
        self._row = 0
        self._n_moved = 0
        self._n_taken = 0
        self._is_at_start = False

    @property
    def is_empty(self) -> bool:
        """Return True if nothing is kept back."""
        return self._lines == [""]

    @property
    def line(self) -> str:
        """The last line."""
        return self._lines[-1]

    @line.setter
    def line(self, text: str) -> None:
        self._lines[-1] = text
        self.n_characters = sum(map(len, self._lines))

    def write(self, text: str) -> None:
        """Write text where the cursor is."""
        self.n_characters += len(text)
        for word in _CONTROL.split(text):
            if word == "\n":
                self._break()
            elif word == "\r":
                self._is_at_start = True
            elif word.startswith("\x1b["):
                self._control(word)
            elif word:
                self._lines[self._row] = word if self._is_at_start else self._lines[self._row] + word
                self._is_at_start = False

    def _break(self) -> None:
        self._row += 1
        self._is_at_start = self._row < len(self._lines)
        if not self._is_at_start:
            self._lines.append("")

    def _control(self, sequence: str) -> None:
        if sequence.endswith("A"):
            asked = sequence[2:-1]
            n_up = int(asked) if asked.isdecimal() and len(asked) < 4 else 1
            n_above = min(n_up - self._row, self._n_taken, _MOST_MOVED)  # lines that were taken too early
            if n_above > 0:
                self._lines[:0] = [""] * n_above
                self._row += n_above
            self._row = max(self._row - n_up, 0)
            self._n_moved = min(max(self._n_moved, len(self._lines) - 1 - self._row), _MOST_MOVED)
        elif sequence.endswith("K") and (self._is_at_start or sequence == "\x1b[2K"):
            self._lines[self._row] = ""

    def take(self, *, is_final: bool = False) -> str:
        """Return the lines that don't change any more, and keep the others."""
        n_kept = 0 if is_final else max(1 + self._n_moved, len(self._lines) - self._row)
        n_taken = max(len(self._lines) - n_kept, 0)
        if not n_taken:
            self.n_characters = sum(map(len, self._lines))
            return ""
        self._n_taken += n_taken
        taken, kept = self._lines[:n_taken], self._lines[n_taken:]
        self._lines, self._row = kept or [""], max(self._row - n_taken, 0)
        self.n_characters = sum(map(len, kept))
        text = "\n".join(taken)
        return text if is_final and (not text or not taken[-1]) else f"{text}\n"
