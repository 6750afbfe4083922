"""Digests that identify a value: equal exactly if type and content are equal, in every process.

A value is brought into a canonical form (the tagged form with sorted keys, arrays and frames by their buffers,
objects by their attributes) and hashed. What has no canonical form is recognised by the step that returned it, by its
pickle (whose bytes may differ between processes: then the step runs again, it never mixes up), and else only by being
the same object in this process. A class that defines ``__ironflow_digest__`` decides itself.
"""

from __future__ import annotations

import io
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.identity import digest_bytes, step_name
from ironflow_nb.core.ids import Digest
from ironflow_nb.errors import ValueNotStorable
from ironflow_nb.values.classes import adds_only_attributes, attributes, class_name
from ironflow_nb.values.kept_code import CodeKnowledge
from ironflow_nb.values.pickles import pickled
from ironflow_nb.values.provenance import Provenance
from ironflow_nb.values.resource import Resource
from ironflow_nb.values.stored import value_id
from ironflow_nb.values.tagged import TAG, Rules, Tree, is_plain, tag, tag_by_class

CANONICAL: Final = msgspec.json.Encoder(order="sorted")
ONCE_ONLY: Final = (Iterator, AsyncIterator, io.IOBase)
# How to read what is in a built-in value without the methods of a class that extends it.
_READERS: Final[dict[Any, Callable[[Any], Any]]] = {
    dict: dict.items, list: list.__iter__, tuple: tuple.__iter__, set: set.__iter__, frozenset: frozenset.__iter__,
    str: str.__str__, bytes: bytes.__iter__, int: int.__int__, float: float.__float__,
}  # fmt: skip


class Digested(NamedTuple):
    """A digest, and the names of the classes in the value that identify only within this process."""

    digest: Digest
    opaque: tuple[str, ...] = ()


class Digester:
    """Digests values for one process, with what that process knows of where objects came from."""

    def __init__(self, provenance: Provenance, code: CodeKnowledge) -> None:
        self.provenance = provenance
        self.code = code

    def digest(self, value: object) -> Digested:
        """Return the digest of the value.

        Raises:
            ValueNotStorable: it is, or contains, an iterator or an open file.
        """
        try:
            if is_plain(value):
                return Digested(digest_bytes(CANONICAL.encode(value)))
        except (UnicodeEncodeError, RecursionError):  # the tagged form keeps lone surrogates
            pass
        walk = _Walk(self)
        try:
            content = CANONICAL.encode(tag(value, walk.rules))
        except RecursionError:  # it contains itself
            walk.opaque.clear()
            content = CANONICAL.encode(walk.by_origin_or_pickle(value))
        return Digested(digest_bytes(content), tuple(dict.fromkeys(walk.opaque)))


class _Walk:
    """One walk through one value, collecting what does not identify."""

    def __init__(self, digester: Digester) -> None:
        self.digester = digester
        self.opaque: list[str] = []
        self.rules = Rules(other=self.other, order=_sorted_pairs, encode=CANONICAL.encode)
        self._objects: dict[int, tuple[object, Tree]] = {}
        self._depth = 0

    def other(self, value: object) -> Tree:
        """Return the canonical tree of a value that is of no built-in type."""
        kind = type(value)
        if isinstance(value, Resource):
            return {TAG: "resource", "c": class_name(type(value.wrapped))}
        if hasattr(kind, "__ironflow_digest__"):
            return {TAG: "own", "c": class_name(kind), "v": _own_digest(value)}
        if isinstance(value, ONCE_ONLY):
            if not self._depth:
                raise ValueNotStorable(refusal(value))
            return self._opaque(value)  # what an object keeps for itself is its own affair
        # What arrays of pandas are made of differs from one version to the next.
        own = None if is_of_numpy(value) else self._object(value)
        tree = own or self._by_class(value) or self.by_origin_or_pickle(value)
        # What can be called is code; other objects are data, by the name of their class.
        return self._with_code(tree, kind) if callable(value) else tree

    def _by_class(self, value: Any) -> Tree | None:
        tree = tag_by_class(value, self.rules)
        if tree is not None and isinstance(value, Enum):
            tree["values"] = tag((value._name_, value._value_), self.rules)
        return tree or self._code(value) or self._array(value) or self._container(value)

    def _object(self, value: object) -> Tree | None:
        """Return the tree of an object that consists of its attributes, once however often it is met."""
        known = self._objects.get(id(value))
        if known is not None:
            return known[1]
        state = _state(value)
        if state is None:
            return None
        n_opaque = len(self.opaque)
        self._depth += 1
        try:
            content = blake2b(CANONICAL.encode(tag(state, self.rules)), digest_size=19).hexdigest()
        except RecursionError:  # it refers to itself
            if self._depth > 1:
                raise
            del self.opaque[n_opaque:]
            return self.by_origin_or_pickle(value)
        finally:
            self._depth -= 1
        if self.opaque[n_opaque:]:
            self.opaque[n_opaque:] = [class_name(type(value))]  # who reads the warning knows the outermost
        tree = {TAG: "data", "c": class_name(type(value)), "v": content}
        self._objects[id(value)] = value, tree
        return tree

    def _code(self, value: Any) -> Tree | None:
        parts: Any
        match value:
            case types.FunctionType():
                cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell, value)]
                parts = [cells, value.__defaults__, value.__kwdefaults__]
                name = step_name(value.__module__, value.__qualname__)
                code = self.digester.code.of_function(value).hex()
                return {TAG: "function", "c": name, "code": code, "v": tag(parts, self.rules)}
            case types.MethodType():
                return {TAG: "method", "v": tag([value.__func__, value.__self__], self.rules)}
            case types.BuiltinFunctionType() if not isinstance(value.__self__, types.ModuleType):
                return {TAG: "method", "v": tag([value.__name__, value.__self__], self.rules)}
            case types.BuiltinFunctionType() | types.ModuleType():
                return {TAG: "name", "c": f"{getattr(value, '__module__', '')}.{value.__name__}"}
            case partial():
                return {TAG: "partial", "v": tag([value.func, value.args, value.keywords], self.rules)}
            case type():
                return self._with_code({TAG: "class", "c": class_name(value)}, value)
        return None

    def _with_code(self, tree: dict[str, Tree], kind: type) -> Tree:
        code = self.digester.code.of_class(kind)
        return tree if code is None else tree | {"code": code.hex()}

    def _array(self, value: Any) -> Tree | None:
        if not is_of_numpy(value):
            return None
        from ironflow_nb.values import arrays  # noqa: PLC0415 -- numpy and pandas are only loaded by who uses them

        return arrays.canonical(value, self.rules)

    def _container(self, value: Any) -> Tree | None:
        """Return the tree of a container of the standard library, or of a class that extends a built-in one."""
        kind = type(value)
        parts: Any = None
        if kind is OrderedDict:
            parts = list(value.items())
        elif kind is defaultdict:
            parts = [value.default_factory, dict(value)]
        elif kind is deque:
            parts = [value.maxlen, list(value)]
        else:
            base = next((base for base in _READERS if isinstance(value, base)), None)
            if base is not None and adds_only_attributes(kind, base):
                parts = [base(_READERS[base](value)), object.__getstate__(value)]
        return None if parts is None else {TAG: "built-in", "c": class_name(kind), "v": tag(parts, self.rules)}

    def by_origin_or_pickle(self, value: object) -> Tree:
        """Return the tree of a value by the step that returned it, by its pickle, or as opaque."""
        try:
            content = pickled(value, self.digester.code.note)
        except Exception:  # noqa: BLE001 -- whatever a foreign __reduce__ raises, the value is then opaque
            return self._opaque(value)
        # The same formula as the id of the value that a step returned, so that an object that went through the
        # journal and the one that it was before identify alike.
        own = value_id("pickle", content)
        return {TAG: "pickle", "v": (self.digester.provenance.origin(value, own) or own).hex()}

    def _opaque(self, value: object) -> Tree:
        self.opaque.append(class_name(type(value)))
        return {TAG: "opaque", "v": self.digester.provenance.token(value).hex()}


def is_of_numpy(value: object) -> bool:
    """Tell whether the class of the value is of numpy or pandas."""
    root = type(value).__module__.partition(".")[0]
    return root in {"numpy", "pandas"} and root in sys.modules


def identifies_by_pickle(value: object) -> bool:
    """Tell whether the value may have no canonical form, and is an object whose origin can be remembered."""
    kind = type(value)
    return kind.__weakrefoffset__ != 0 and not is_of_numpy(value) and _state(value) is None


def refusal(value: object) -> str:
    """Return the message for a value that the first reader uses up."""
    kind = class_name(type(value))
    what = "an open file" if isinstance(value, io.IOBase) else "an iterator"
    instead = "pass its path or its content" if isinstance(value, io.IOBase) else "pass list(...) of it"
    return f"{what} ({kind}) can't be recorded: the first run would use it up; {instead} instead"


def _sorted_pairs(pairs: list[list[Tree]]) -> list[list[Tree]]:
    return sorted(pairs, key=CANONICAL.encode)


def _own_digest(value: Any) -> str:
    own = value.__ironflow_digest__()
    if isinstance(own, str):
        own = own.encode()
    if not isinstance(own, bytes):
        raise ValueNotStorable(
            f"{class_name(type(value))}.__ironflow_digest__() returned {type(own).__name__}; return bytes or str"
        )
    return own.hex()


def _is_filled(cell: types.CellType, function: types.FunctionType) -> bool:
    try:
        return cell.cell_contents is not function
    except ValueError:  # an empty cell
        return False


def _state(value: Any) -> Any:
    """Return the state of an object that is nothing but its attributes, or None."""
    kind = type(value)
    if kind is types.SimpleNamespace:
        return vars(value)
    if getattr(kind, "__pydantic_fields__", None) is not None and hasattr(value, "__pydantic_extra__"):
        return [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
    return attributes(value)
