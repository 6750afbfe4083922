"""What differs between the code of then and the code of now, in words.

What was found to be the code of a step, and how a journal keeps it.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from ironflow_nb.code_identity.syntax import parse
from ironflow_nb.core.identity import Digest

Kind = Literal["function", "method", "class", "constant", "declared"]

TRANSITIVE: Final = b"\x02"
"""The first byte of the digest of code that refers to other code; of code on its own it is that of the first recipe."""

DATA: Final = "data of class "
MUTABLE: Final = "mutable data"
"""Why lists, dicts and sets do not count."""


CHANGED: Final = "changed by the code itself"
DYNAMIC: Final = "dynamic"
"""Why code does not count that is found by a text or by what else is loaded, while the body runs."""
WHOLE_MODULE: Final = "a module as a whole"
_OF_OBJECTS: Final = frozenset({"getattr", "vars", "locals", "compile"})
"""These ask an object for what it has, as a rule; of a module it is named beside them."""


class CodePart(msgspec.Struct, frozen=True):
    """A piece of code that counts. The source of a constant is ``NAME = value``."""

    name: str
    kind: Kind
    digest: Digest
    source: str
    file: str = ""
    line: int = 0


class Untracked(NamedTuple):
    """A name that is referred to and does not count, and why."""

    name: str
    reason: str


class TrackedCode(msgspec.Struct, frozen=True):
    """The code of a function: the function itself is the first part."""

    digest: Digest
    parts: tuple[CodePart, ...]
    untracked: tuple[Untracked, ...]

    @property
    def data(self) -> tuple[str, ...]:
        """The names of data in it that may have changed since, and do not count."""
        return tuple(name for name, reason in self.untracked if reason in {MUTABLE, CHANGED} or reason.startswith(DATA))

    @property
    def looked_up(self) -> tuple[str, ...]:
        """The names by which it reaches code of the user's that nothing can follow."""
        reasons = {DYNAMIC, WHOLE_MODULE}
        return tuple(name for name, reason in self.untracked if reason in reasons and name not in _OF_OBJECTS)

    @property
    def own(self) -> Digest:
        """The identity of the function's own code, whatever it refers to."""
        return self.parts[0].digest


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode_parts(tracked: TrackedCode) -> str:
    """Return the parts as JSON text that is the same for the same parts."""
    rows = [msgspec.structs.asdict(part) | {"digest": part.digest.hex()} for part in tracked.parts]
    return _ENCODER.encode({"v": 1, "parts": rows}).decode()


def decode_parts(text: str) -> tuple[CodePart, ...]:
    """Return the parts of the text; what a newer version adds to them is left out.

    Raises:
        ValueError: it is no such text.
    """
    try:
        return tuple(map(_part, msgspec.json.decode(text)["parts"]))
    except (KeyError, TypeError, AttributeError, msgspec.DecodeError) as error:
        raise ValueError(f"these are not the parts of a step: {text[:60]!r}") from error


def _part(row: dict[str, Any]) -> CodePart:
    digest = Digest(bytes.fromhex(row["digest"]))
    return CodePart(row["name"], cast("Kind", row["kind"]), digest, row["source"], row["file"], int(row["line"]))


_NAMES_SHOWN = 12


class Change(msgspec.Struct, frozen=True):
    """One part that differs; `old` or `new` is None where there was or is none."""

    reason: str
    old: CodePart | None
    new: CodePart | None


def compare(old_parts: Sequence[CodePart], new_parts: Sequence[CodePart]) -> tuple[Change, ...]:
    """Return what was edited, what is new and what is gone, in that order and each in the order of the code.

    Nothing, if no part differs: then at most what refers to what has changed, or only text that does not count.
    """
    old, new = _by_name(old_parts), _by_name(new_parts)
    edited = [_edited(old[key], part) for key, part in new.items() if key in old and old[key].digest != part.digest]
    added = [Change(f"new: {_named(part)}", None, part) for key, part in new.items() if key not in old]
    gone = [Change(f"gone: {_named(part)}", part, None) for key, part in old.items() if key not in new]
    return (*edited, *added, *gone)


def diff(change: Change) -> str:
    """Return the unified diff of the two sources."""
    old = [] if change.old is None else change.old.source.splitlines()
    new = [] if change.new is None else change.new.source.splitlines()
    part = change.new or change.old
    name = "" if part is None else part.name
    return "\n".join(difflib.unified_diff(old, new, f"{name} (then)", f"{name} (now)", lineterm=""))


def describe(tracked: TrackedCode) -> str:
    """Return in a few lines what counts as the code and what does not."""
    root, *others = tracked.parts
    lines = [f"The code of {root.name} is tracked" + (", with" if others else ", and refers to no other code of yours")]
    for kind, parts in groupby(sorted(others, key=_kind_of), key=_kind_of):
        lines.append(
            f"  {_plural(kind)}: {_listed(part.source if kind == 'constant' else part.name for part in parts)}"
        )
    if tracked.untracked:
        lines.append("Not tracked:")
    for reason, names in groupby(sorted(tracked.untracked, key=_reason_of), key=_reason_of):
        lines.append(f"  {reason}: {_listed(each.name for each in names)}")
    return "\n".join(lines)


def _by_name(parts: Iterable[CodePart]) -> dict[tuple[str, int], CodePart]:
    """Return the parts by name, and which one among equals: two lambdas of one function have one name."""
    met: Counter[str] = Counter()
    found = {}
    for part in parts:
        found[part.name, met[part.name]] = part
        met[part.name] += 1
    return found


def _edited(old: CodePart, new: CodePart) -> Change:
    if new.kind == "constant":
        reason = f"constant {new.name}: {_value(old)} -> {_value(new)}"
    elif new.kind == "declared":
        reason = f"edited: {new.name}"
    else:
        line = _first_edited_line(old.source, new.source)
        reason = f"edited: `{new.name}`" if line is None else f"edited: line {line} of `{new.name}`"
    return Change(reason, old, new)


def _first_edited_line(old: str, new: str) -> int | None:
    """Return the first line of the new text that differs, comments and layout aside as far as that can be told."""
    count = _essential(new)
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    edits = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    lines = [line for _, _, _, first, end in edits for line in range(first + 1, max(first + 1, end) + 1)]
    return next((line for line in lines if count is None or line in count), lines[0] if lines else None)


def _essential(text: str) -> set[int] | None:
    """Return the numbers of the lines on which code stands; None where the text is no whole statement."""
    try:
        tree = parse(text)
    except (SyntaxError, ValueError):
        return None
    documented = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    first = [node.body[0] for node in documented]
    skipped = {id(node.value) for node in first if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    nodes = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr | ast.arg) and id(node) not in skipped
    ]
    return {line for node in nodes for line in (node.lineno, node.end_lineno or node.lineno)}


def _value(part: CodePart) -> str:
    return part.source.partition(" = ")[2]


def _named(part: CodePart) -> str:
    return f"constant {part.source}" if part.kind == "constant" else f"`{part.name}`"


def _kind_of(part: CodePart) -> str:
    return part.kind


def _reason_of(untracked: tuple[str, str]) -> str:
    return untracked[1]


def _plural(kind: str) -> str:
    return {"class": "classes", "declared": "declared"}.get(kind, f"{kind}s")


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    return ", ".join(found[:_NAMES_SHOWN]) + more
