"""The code of a step as parts: their form in the journal, and the differences between two versions in words."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.code_identity.syntax import parse, without_docstrings
from ironflow_nb.core.identity import Digest

TRANSITIVE: Final = b"\x02"
"""The first byte of the digest of code that refers to other code."""

_OF_OBJECTS: Final = frozenset({"getattr", "vars", "locals", "compile"})
"""Dynamic names that mostly read an object; a module that they read is reported by its own name."""


class PartKind(StrEnum):
    """The kind of a tracked piece of code."""

    FUNCTION = "function"
    METHOD = "method"
    CLASS = "class"
    CONSTANT = "constant"
    DECLARED = "declared"
    """A module, file or value of ``depends=``, or an import inside of a body."""


class CodePart(msgspec.Struct, frozen=True):
    """A tracked piece of code. The source of a constant is ``NAME = value``."""

    name: str
    kind: PartKind
    digest: Digest
    source: str
    file: str = ""
    line: int = 0


class UntrackedReason(StrEnum):
    """The reason why a name is not tracked."""

    BUILT_IN = "built-in"
    LIBRARY = "library"
    WHOLE_MODULE = "a module as a whole"
    UNDEFINED = "not defined"
    NOT_IMPORTED = "not imported yet"
    DYNAMIC = "dynamic"
    """The code is looked up by a text while the body runs, or depends on the modules that are loaded then."""
    MUTABLE = "mutable data"
    """The name stands for a list, dict or set."""
    DATA = "data of class"
    CHANGED = "changed by the code itself"
    ASSIGNED = "assigned by the code itself"
    TYPE_WITH_OBJECTS = "a type with objects in it"
    NO_CODE = "no Python code: known by its name"
    NO_SOURCE = "no source"


class Untracked(NamedTuple):
    """A name in the code that is not tracked. `detail` is the class of data, and how code without source is known."""

    name: str
    reason: UntrackedReason
    detail: str = ""

    @property
    def words(self) -> str:
        """The reason in words."""
        return self.detail if self.reason is UntrackedReason.NO_SOURCE else f"{self.reason} {self.detail}".rstrip()


_REASONS_OF_DATA: Final = frozenset({UntrackedReason.MUTABLE, UntrackedReason.CHANGED, UntrackedReason.DATA})
_REASONS_OF_LOOKUPS: Final = frozenset({UntrackedReason.DYNAMIC, UntrackedReason.WHOLE_MODULE})


class TrackedCode(msgspec.Struct, frozen=True):
    """The code of a function: the function itself is the first part."""

    digest: Digest
    parts: tuple[CodePart, ...]
    untracked: tuple[Untracked, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """The names of mutable data that the code refers to; it is not tracked."""
        return tuple(each.name for each in self.untracked if each.reason in _REASONS_OF_DATA)

    @property
    def looked_up(self) -> tuple[str, ...]:
        """The names through which the code reaches user code that can't be followed."""
        found = (each.name for each in self.untracked if each.reason in _REASONS_OF_LOOKUPS)
        return tuple(name for name in found if name not in _OF_OBJECTS)

    @property
    def own(self) -> Digest:
        """The digest of the function's own code, without the code that it refers to."""
        return self.parts[0].digest


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode_parts(tracked: TrackedCode) -> str:
    """Return the parts as JSON text; equal parts have equal texts."""
    rows = [msgspec.structs.asdict(part) | {"digest": part.digest.hex()} for part in tracked.parts]
    return _ENCODER.encode({"v": 1, "parts": rows}).decode()


def decode_parts(text: str) -> tuple[CodePart, ...]:
    """Return the parts of the text, without the fields that a newer version adds.

    Raises:
        ValueError: the text is not from `encode_parts`.
    """
    try:
        return tuple(map(_decode_part, msgspec.json.decode(text)["parts"]))
    except (KeyError, TypeError, AttributeError, msgspec.DecodeError) as error:
        raise ValueError(f"these are not the parts of a step: {text[:60]!r}") from error


def _decode_part(row: dict[str, Any]) -> CodePart:
    digest = Digest(bytes.fromhex(row["digest"]))
    return CodePart(row["name"], PartKind(row["kind"]), digest, row["source"], row["file"], int(row["line"]))


_NAMES_SHOWN = 12


class Change(msgspec.Struct, frozen=True):
    """One part that differs. `old` is None for a new part, `new` for a removed one."""

    reason: str
    old: CodePart | None
    new: CodePart | None


def changed_parts(old_parts: Sequence[CodePart], new_parts: Sequence[CodePart]) -> tuple[Change, ...]:
    """Return the edited parts, the new ones and the removed ones, each group in the order of the code.

    The result is empty if no part differs. Then only the references between parts changed, or text without effect.
    """
    old, new = _by_name(old_parts), _by_name(new_parts)
    common = [(old[key], part) for key, part in new.items() if key in old]
    edited = [_edit_of(before, after) for before, after in common if before.digest != after.digest]
    added = [Change(f"new: {_format_part(part)}", None, part) for key, part in new.items() if key not in old]
    gone = [Change(f"gone: {_format_part(part)}", part, None) for key, part in old.items() if key not in new]
    return (*edited, *added, *gone)


def diff(change: Change) -> str:
    """Return the unified diff of the two sources."""
    import difflib

    old = [] if change.old is None else change.old.source.splitlines()
    new = [] if change.new is None else change.new.source.splitlines()
    name = getattr(change.new or change.old, "name", "")
    return "\n".join(difflib.unified_diff(old, new, f"{name} (then)", f"{name} (now)", lineterm=""))


def describe_code(tracked: TrackedCode) -> str:
    """Return a text of a few lines that says which code is tracked and which names are not."""
    root, *others = tracked.parts
    lines = [f"The code of {root.name} is tracked" + (", with" if others else ", and refers to no other code of yours")]
    for kind, parts in groupby(sorted(others, key=attrgetter("kind")), key=attrgetter("kind")):
        names = _format_names(part.source if kind is PartKind.CONSTANT else part.name for part in parts)
        lines.append(f"  {_plural_of_kind(kind)}: {names}")
    if tracked.untracked:
        lines.append("Not tracked:")
    for reason, found in groupby(sorted(tracked.untracked, key=attrgetter("words")), key=attrgetter("words")):
        lines.append(f"  {reason}: {_format_names(each.name for each in found)}")
    return "\n".join(lines)


def _by_name(parts: Iterable[CodePart]) -> dict[tuple[str, int], CodePart]:
    """Return the parts by name and by their number within it: two lambdas of one function have one name."""
    met: Counter[str] = Counter()
    found = {}
    for part in parts:
        found[part.name, met[part.name]] = part
        met[part.name] += 1
    return found


def _edit_of(old: CodePart, new: CodePart) -> Change:
    if new.kind is PartKind.CONSTANT:
        reason = f"constant {new.name}: {_value_text(old)} -> {_value_text(new)}"
    elif new.kind is PartKind.DECLARED:
        reason = f"edited: {new.name}"
    else:
        line = _first_edited_line(old.source, new.source)
        reason = f"edited: `{new.name}`" if line is None else f"edited: line {line} of `{new.name}`"
    return Change(reason, old, new)


def _first_edited_line(old: str, new: str) -> int | None:
    """Return the number of the first new line that differs; a line with code goes before comments and blank lines."""
    import difflib

    code_lines = _code_lines(new)
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    edits = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    lines = [line for _, _, _, first, end in edits for line in range(first + 1, max(first + 1, end) + 1)]
    return next((line for line in lines if code_lines is None or line in code_lines), lines[0] if lines else None)


def _code_lines(text: str) -> set[int] | None:
    """Return the numbers of the lines with code, docstrings excluded; None if the text is not a whole statement."""
    try:
        tree = without_docstrings(parse(text))
    except (SyntaxError, ValueError):
        return None
    ends = (getattr(node, end, None) for node in ast.walk(tree) for end in ("lineno", "end_lineno"))
    return {line for line in ends if line is not None}


def _value_text(part: CodePart) -> str:
    return part.source.partition(" = ")[2]


def _format_part(part: CodePart) -> str:
    return f"constant {part.source}" if part.kind is PartKind.CONSTANT else f"`{part.name}`"


def _plural_of_kind(kind: str) -> str:
    return {"class": "classes", "declared": "declared"}.get(kind, f"{kind}s")


def _format_names(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    return ", ".join(found[:_NAMES_SHOWN]) + more
