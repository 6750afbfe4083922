"""The context of a Lua flow as expressions of ours: which step wrote a key, and what its texts and conditions mean.

There, all steps share one object of keys, and the steps of a phase see what the phases before it have written. Here a
reader names the output of the step that wrote the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLACE: Final = re.compile(
    r"(?P<escape>\\?)\$\{ctx(?P<path>(?:\.[A-Za-z_][\w-]*|\[\d+\]|\[\"[^\"\]]*\"\])+)\}", re.ASCII
)
_BAD_PLACE: Final = re.compile(r"(?<!\\)\$\{ctx\b[^}]*\}?")
_PART: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\[\"([^\"\]]*)\"\]", re.ASCII)
_OPERATORS: Final = ("==", "!=", ">=", "<=", ">", "<")

Path = tuple[str | int, ...]


class LuaStep(msgspec.Struct, kw_only=True):
    """One step of a flow, and what is known of the node that it becomes.

    `keys` are the expressions of what it writes, by the names of the keys. A step with `writes_more` writes others,
    too: each is a field of its output. `is_sure` is False for one that may not write them all; `always_runs` for one
    that may be skipped, or fail and be handled.
    """

    name: str
    id: str
    line: int
    kind: str
    config: Any
    depends_on: list[str]
    phase: int = 0
    number: int = 0
    keys: dict[str, str] = {}
    routes: dict[str, str] = {}
    """For each route the condition under which the step chooses it."""
    route_text: str = ""
    """The expression of the route, for a step whose output is the name of it."""
    lost: frozenset[str] = frozenset()
    """Keys that it writes there, and not here."""
    writes_more: bool = False
    is_sure: bool = True
    always_runs: bool = True
    is_handled: bool = False
    handles: LuaStep | None = None

    @property
    def guard(self) -> str:
        """The condition under which its keys are there."""
        return f"{self.id} != `null`" + (f" && {self.id}.error == `null`" if self.is_handled else "")


def quoted_text(text: str) -> str:
    """Return the expression of a text.

    Raises:
        ValueError: it has a mark of what is known only when the graph runs.
    """
    if "\0" in text:
        raise ValueError("a variable of the environment, or a random id, is put where only a fixed text can be")
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def field_name(name: str) -> str:
    """Return the name of a field as an expression has it."""
    return name if _NAME.fullmatch(name) else msgspec.json.encode(name).decode()


def path_text(path: Iterable[str | int]) -> str:
    """Return the fields and indexes of a path as they follow an expression."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{field_name(part)}" for part in path)


def parse_path(text: str) -> Path:
    """Return the parts of ``.a.b[0]["c.d"]``.

    Raises:
        ValueError: it is no path.
    """
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} is no path of keys")
        parts.append(int(match[2]) if match[2] is not None else match[1] if match[1] is not None else match[3])
        at = match.end()
    return tuple(parts)


def keys_of_path(text: str) -> Path:
    """Return the parts of a key as options name it: ``a``, ``a.b`` or ``ctx.a.b``."""
    return parse_path(f".{text.removeprefix('ctx.')}")


class StepContext:
    """The context that one step sees.

    `reads` collects the steps whose keys it reads, `missing` the keys that may be missing, `lost` those that there are
    not here.
    """

    def __init__(self, step: LuaStep, steps: Sequence[LuaStep], *, is_lenient: bool) -> None:
        # The steps are in the order in which what they write is there: by phase, and in it as the file has them.
        self.step = step
        self.is_lenient = is_lenient
        self.reads: dict[str, None] = {}
        self.missing: dict[str, None] = {}
        self.lost: dict[str, None] = {}
        self._before = [each for each in steps if each.phase < step.phase]

    def key(self, name: str, path: Path = ()) -> str:
        """Return the expression of a value in the context: of the last step that wrote its key, or of the input."""
        after, found = path_text(path), []
        for writer in self._writers(name):
            found.append(f"{writer.keys.get(name) or f'{writer.id}.{field_name(name)}'}{after}")
            if name in writer.keys and writer.is_sure:
                break
        else:
            is_lost = name.startswith("_") or any(name in each.lost for each in self._before)
            if is_lost and not found:
                self.lost[name] = None
            found.append("`null`" if is_lost else f"input.{field_name(name)}{after}")
        return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"

    def may_lack(self, name: str, path: Path = ()) -> bool:
        """Return True if the value may be missing although the graph runs as it should."""
        writers = list(self._writers(name))
        is_sure = bool(writers) and name in writers[0].keys and writers[0].is_sure
        return bool(path) or not is_sure

    def knows(self, name: str) -> bool:
        """Return True if a step before is known to write the key."""
        return any(name in each.keys for each in self._before)

    def _writers(self, name: str) -> Iterable[LuaStep]:
        handled = self.step.handles
        if handled is not None and name in error_keys(handled):
            self.reads[handled.id] = None
            yield msgspec.structs.replace(handled, keys=error_keys(handled), is_sure=True)
            return
        for writer in reversed(self._before):
            if name in writer.keys or (writer.writes_more and not name.startswith("_")):
                self.reads[writer.id] = None
                yield writer
                if name in writer.keys and writer.is_sure:
                    return

    def strict(self, name: str, path: Path = ()) -> str:
        """Return the expression of a value that must be there; where it may not be, that is noted."""
        if self.may_lack(name, path):
            self.missing[f"{name}{path_text(path)}"] = None
        return self.key(name, path)

    def optional(self, name: str, path: Path = ()) -> str:
        """Return the expression of a value that is null if it is missing."""
        made = self.key(name, path)
        is_safe = made.startswith("coalesce(") and not path
        return made if is_safe or not self.may_lack(name, path) else f"default({made}, `null`)"

    def whole(self, names: Iterable[str] | None = None) -> Any:
        """Return the template of the context: of these keys, or of everything that it has by then."""
        if names is not None:
            return {name: f"{{{{ {self.optional(name)} }}}}" for name in names}
        parts = ["input"]
        for each in self._before:
            part = contribution(each)
            if part:
                self.reads[each.id] = None
                parts.append(part)
        private = error_keys(self.step.handles) if self.step.handles else {}
        if private:
            parts.append(_object(private))
        return f"{{{{ merge({', '.join(parts)}) }}}}"

    # -- texts ---------------------------------------------------------------------------------------------------

    def text(self, written: Any, *, is_text: bool = False) -> Any:
        """Return a value of an option with its ``${ctx...}`` as expressions; nested values, too.

        With `is_text` an expression alone becomes a text, as every one did there.

        Raises:
            ValueError: there is a ``${ctx`` that is no path.
        """
        match written:
            case str():
                return self._interpolated(written, is_text=is_text)
            case Mapping():
                return {key: self.text(each, is_text=is_text) for key, each in written.items()}
            case list():
                return [self.text(each, is_text=is_text) for each in written]
            case _:
                return written

    def _interpolated(self, written: str, *, is_text: bool) -> str:
        made, at = "", 0
        for match in _PLACE.finditer(written):
            made += self._literal(written[at : match.start()])
            at = match.end()
            if match["escape"]:
                made += self._literal(match.group()[1:])
                continue
            name, *path = parse_path(match["path"])
            expression = self.strict(str(name), tuple(path))
            if self.is_lenient and self.may_lack(str(name), tuple(path)):
                expression = f"default({expression}, '')"
            is_alone = match.group() == written
            made += f"{{{{ {f'to_string({expression})' if is_text and is_alone else expression} }}}}"
        return made + self._literal(written[at:])

    @staticmethod
    def _literal(text: str) -> str:
        bad = _BAD_PLACE.search(text)
        if bad is not None and not _PLACE.fullmatch(text):
            raise ValueError(f'{bad.group()!r} is no path of the context: ${{ctx.a.b}}, ${{ctx.a[0]}}, ${{ctx["a"]}}')
        return text.replace("{{", r"\{{")

    # -- conditions ----------------------------------------------------------------------------------------------

    def condition(self, written: Any) -> str:
        """Return the expression of a condition: ``ctx.a``, ``ctx.a exists``, ``ctx.a > 5``.

        Raises:
            ValueError: it is no condition.
        """
        if not isinstance(written, str) or not written.strip():
            raise ValueError("a condition is a text: ctx.a > 5")
        text = written.strip()
        if text.endswith(" exists"):
            name, *path = self._context_path(text.removesuffix(" exists"))
            return f"{self.optional(str(name), tuple(path))} != `null`"
        for operator in _OPERATORS:
            left, found, right = text.partition(operator)
            if found:
                return self._comparison(left.strip(), operator, right.strip())
        name, *path = self._context_path(text)
        return f"coalesce({self.key(str(name), tuple(path))}, `false`) != `false`"

    def _context_path(self, text: str) -> Path:
        if not text.strip().startswith("ctx."):
            raise ValueError(f"{text.strip()!r} is no value of the context; write ctx.NAME")
        return keys_of_path(text.strip())

    def _comparison(self, left: str, operator: str, right: str) -> str:
        name, *path = self._context_path(left)
        if right.startswith("ctx."):
            raise ValueError("two values of the context are not compared there; a function can")
        literal = _literal_of(right)
        if isinstance(literal, str):
            if operator not in {"==", "!="}:
                raise ValueError(f"{operator} compares numbers, and {right!r} is no number")
            return f"{self.optional(str(name), tuple(path))} {operator} {quoted_text(literal)}"
        value = f"`{msgspec.json.encode(literal).decode()}`"
        if literal is None or isinstance(literal, bool):
            return f"{self.optional(str(name), tuple(path))} {operator} {value}"
        if operator in {"==", "!="}:
            return f"to_number({self.optional(str(name), tuple(path))}) {operator} {value}"
        return f"to_number({self.strict(str(name), tuple(path))}) {operator} {value}"


def _literal_of(text: str) -> Any:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text in {"true", "false", "null", "nil"}:
        return {"true": True, "false": False}.get(text)
    try:
        return msgspec.json.decode(text, type=int | float)
    except msgspec.MsgspecError:
        return text


def error_keys(handled: LuaStep) -> dict[str, str]:
    """Return what a recovery step sees of the step that failed, as expressions by their keys."""
    return {
        "_error_message": f"{handled.id}.error.message",
        "_error_step": quoted_text(handled.name),
        "_error_node_type": quoted_text("code" if handled.kind == "function" else handled.kind),
    }


def contribution(step: LuaStep) -> str:
    """Return the expression of the keys that a step adds to the context; empty if it adds none."""
    public = {name: each for name, each in step.keys.items() if not name.startswith("_")}
    is_whole = step.writes_more or step.kind in {"function", "code"}
    made = step.id if is_whole else _object(public) if public else ""
    return made if step.always_runs or not made else f"({step.guard} && {made} || `{{}}`)"


def _object(fields: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{field_name(name)}: {each}" for name, each in fields.items()) + "}"
