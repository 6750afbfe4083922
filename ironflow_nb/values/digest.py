"""Digests that identify a value: equal exactly if type and content are equal, in every process.

A value is brought into a canonical form and hashed. This form is the tagged form with sorted keys. Arrays and frames
enter it by their buffers, functions by their code identity, objects by their attributes or else by their
``__reduce_ex__``. A value without such a form (a lock, a connection) is opaque: it is equal only to itself, in this
process. The bytes of a pickle never identify a value, because the next release may write others. A class with a method
``__ironflow_digest__`` decides itself.
"""

from __future__ import annotations

import copyreg
import functools
import io
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.identity import Digest, digest_bytes, step_name
from ironflow_nb.errors import ValueNotStorable
from ironflow_nb.values.argument_types import Resource, Secret
from ironflow_nb.values.classes import CodeKnowledge, adds_only_attributes, attributes, class_name
from ironflow_nb.values.shared_parts import Extent, Numbering
from ironflow_nb.values.tagged import (
    NOT_PLAIN,
    TAG,
    Rules,
    Tree,
    is_made_of_parts,
    is_plain,
    tag,
    tag_by_class,
    tag_by_codec,
    tag_secret,
)
from ironflow_nb.values.undisturbed import is_disturbance, undisturbed


class Provenance:
    """What one process knows of its live values: tokens of opaque objects, and digests that loaded values had before.

    It keeps no object alive. Tokens are keyed by ``id()``, because many opaque objects are not hashable; the weak
    reference proves that the id was not reused.

    Lock: none; single dict operations are atomic.
    """

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._nonce: bytes | None = None
        self._n_tokens = 0
        self._tokens: dict[int, tuple[weakref.ref[object], bytes]] = {}
        self._recorded: dict[Digest, Digest] = {}

    def add_recorded(self, now: Digest, recorded: Digest) -> None:
        """Remember that values with digest `now` were recorded with digest `recorded`.

        A value that was loaded from a pickle may consist of other parts than the pickled one.
        """
        if now != recorded:
            self._recorded[now] = recorded

    def recorded(self, digest: Digest) -> Digest:
        """Return the digest that values with this digest had when they were recorded."""
        return self._recorded.get(digest, digest)

    def token(self, value: object) -> bytes:
        """Return bytes that stand for this very object, and for no other object in any process."""
        key = id(value)
        known = self._tokens.get(key)
        if known is not None and known[0]() is value:
            return known[1]
        token = self._new_token()
        with suppress(TypeError):  # without a weak reference the object gets a new token each time
            self._tokens[key] = weakref.ref(value, lambda _: self._tokens.pop(key, None)), token
        return token

    def _new_token(self) -> bytes:
        if self._nonce is None:
            self._nonce = self._entropy(16)
        self._n_tokens += 1
        return blake2b(self._nonce + self._n_tokens.to_bytes(8, "big"), digest_size=16).digest()


CANONICAL: Final = msgspec.json.Encoder(order="sorted")
ONCE_ONLY: Final = (Iterator, AsyncIterator, Coroutine, io.IOBase)
# These read the content of a built-in value without the methods of a subclass.
_READERS: Final[dict[Any, Callable[[Any], Any]]] = {
    dict: dict.items, list: list.__iter__, tuple: tuple.__iter__, set: set.__iter__, frozenset: frozenset.__iter__,
    str: str.__str__, bytes: bytes.__iter__, int: int.__int__, float: float.__float__,
}  # fmt: skip
BUILT_IN: Final = frozenset(_READERS)
"""Types whose values `listed` returns as they are: that a class lacks an attribute is found as slowly as five calls."""


class Digested(NamedTuple):
    """A digest, and the names of the classes of opaque objects in the value."""

    digest: Digest
    opaque: tuple[str, ...] = ()


class Digester:
    """Digests values for one process, with this process's provenance of objects and its knowledge of code.

    `keyed` digests the texts of secrets. Without it a secret has no digest.
    """

    def __init__(
        self, provenance: Provenance, code: CodeKnowledge, keyed: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.provenance = provenance
        self.code = code
        self.keyed = keyed or _refuse_secret

    def digest(self, value: object) -> Digested:
        """Return the digest of the value.

        Raises:
            ValueNotStorable: it is, or contains, an iterator or an open file.
        """
        try:
            if is_plain(value):
                return Digested(digest_bytes(CANONICAL.encode(value)))
        except NOT_PLAIN:
            pass
        for make in (_Walk, _NumberedWalk):
            walk = make(self)
            with suppress(RecursionError):  # first try it written out, then with numbered parts
                content = CANONICAL.encode(walk.tree(value))
                return Digested(digest_bytes(content), tuple(dict.fromkeys(walk.opaque)))
        return Digested(digest_bytes(CANONICAL.encode(walk.opaque_tree(value))), (class_name(type(value)),))

    def arguments(self, owner: str, values: Mapping[str, object]) -> Digested:
        """Return the digest of the arguments of `owner`, a step or flow.

        Raises:
            ValueNotStorable: see `digest`; the message names the argument.
        """
        try:
            if is_plain(values):  # as nearly all are
                return Digested(digest_bytes(CANONICAL.encode(values)))
        except NOT_PLAIN:
            pass
        try:
            return self.digest(values)
        except Exception as error:  # noqa: BLE001 -- raised below
            failed = error
        for name, value in values.items():  # after the handler, in which the error would be shown twice
            try:
                self.digest(value)
            except ValueNotStorable as error:
                raise ValueNotStorable(f"{owner}: argument {name}: {error}") from error.__cause__
            except Exception as error:  # raised by a user's class
                error.add_note(f"This was raised while argument {name} of {owner} was digested.")
                raise
        raise failed


def listed(value: Any) -> Any:
    """Return the result of a flow or step, with the lazy results of a map turned into a list."""
    make_list = getattr(type(value), "__ironflow_list__", None)
    return value if make_list is None else make_list(value)


class _Walk:
    """One walk through one value; `opaque` collects the class names of opaque objects."""

    def __init__(self, digester: Digester) -> None:
        self.digester = digester
        self.opaque: list[str] = []
        self._extent = Extent()
        self.rules = Rules(self.other, _sorted_pairs, CANONICAL.encode, self._extent.meet)
        self._objects: dict[int, tuple[object, Tree]] = {}
        self.depth = 0

    def tree(self, value: object) -> Tree:
        """Return the canonical tree of the value.

        Raises:
            RecursionError: it contains itself, or shares its parts too often.
        """
        return tag(value, self.rules)

    def other(self, value: object, _rules: Rules) -> Tree:
        """Return the canonical tree of a value whose type is not built-in."""
        kind = type(value)
        if isinstance(value, Resource):
            return {TAG: "resource", "c": class_name(type(value.wrapped))}
        if isinstance(value, Secret):
            return tag_secret(value, self.digester.keyed)
        if _is_executor(value):
            return {TAG: "resource", "c": "concurrent.futures.Executor"}  # where bodies run changes no result
        if (coded := tag_by_codec(value, self.rules)) is not None:
            return coded
        if hasattr(kind, "__ironflow_digest__"):
            return {TAG: "own", "c": class_name(kind), "v": undisturbed(_own_digest, value)}
        if isinstance(value, ONCE_ONLY):
            if not self.depth:
                raise ValueNotStorable(refusal(value))
            return self.opaque_tree(value)  # an object may hold an open file without being one
        wrapped = _wrapped(value)
        if wrapped is not None:
            return {TAG: "wrapper", "c": class_name(kind), "v": self._parts(value, [wrapped])}
        known = self._objects.get(id(value))
        tree = self._tree_of(value) if known is None else known[1]
        # A callable object counts with its class's code; other objects are data with a class name.
        return self._with_code(tree, kind) if callable(value) else tree

    def _tree_of(self, value: object) -> Tree:
        # The attributes of pandas arrays differ between versions.
        state = None if is_of_numpy(value) else undisturbed(_state, value)
        if state is not None:
            return self._object(value, "data", state)
        tree = self._by_class(value)
        if tree is None and (parts := undisturbed(_reduced, value)) is not None:
            return self._object(value, "reduced", parts)
        return self.opaque_tree(value) if tree is None else tree

    def _by_class(self, value: Any) -> Tree | None:
        tree = tag_by_class(value, self.rules)
        if tree is not None and isinstance(value, Enum):
            tree["values"] = tag((value._name_, value._value_), self.rules)
        return tree or self._code(value) or self._array(value) or self._container(value)

    def _object(self, value: object, name: str, state: Any) -> Tree:
        """Return the tree of an object with that state; it is computed once per walk."""
        n_opaque, before = len(self.opaque), self._extent.mark()
        self.depth += 1
        try:
            content = self._content(state)
        except RecursionError:  # it refers to itself, or shares its parts too often
            if self.depth > 1:
                raise
            del self.opaque[n_opaque:]
            self._extent.reset(before)
            return self._numbered(value)
        finally:
            self.depth -= 1
        if self.opaque[n_opaque:]:
            self.opaque[n_opaque:] = [
                class_name(type(value))
            ]  # a warning names the outermost class, which the user knows
        tree = {TAG: name, "c": class_name(type(value)), "v": content}
        self._objects[id(value)] = value, tree
        return tree

    def _content(self, state: Any) -> Tree:
        return blake2b(CANONICAL.encode(tag(state, self.rules)), digest_size=19).hexdigest()

    def _numbered(self, value: object) -> Tree:
        """Return the tree of an object with numbered parts; the object is opaque if one of its parts is."""
        walk = _NumberedWalk(self.digester)
        with suppress(RecursionError):
            tree = walk.tree(value)
            if not walk.opaque:
                return tree
        return self.opaque_tree(value)

    def _code(self, value: Any) -> Tree | None:
        parts: Any
        match value:
            case types.FunctionType():
                cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell, value)]
                parts = [cells, value.__defaults__, value.__kwdefaults__]
                name = step_name(value.__module__, value.__qualname__)
                code = self.digester.code.of_function(value).hex()
                return {TAG: "function", "c": name, "code": code, "v": self._parts(value, parts)}
            case types.MethodType():
                return {TAG: "method", "v": self._parts(value, [value.__func__, value.__self__])}
            case types.BuiltinFunctionType() if not isinstance(value.__self__, types.ModuleType):
                return {TAG: "method", "v": self._parts(value, [value.__name__, value.__self__])}
            case types.BuiltinFunctionType() | types.ModuleType():
                return {TAG: "name", "c": f"{getattr(value, '__module__', '')}.{value.__name__}"}
            case functools.partial():
                return {TAG: "partial", "v": self._parts(value, [value.func, value.args, value.keywords])}
            case type():
                return self._with_code({TAG: "class", "c": class_name(value)}, value)
        return None

    def _with_code(self, tree: dict[str, Tree], kind: type) -> Tree:
        code = self.digester.code.of_class(kind)
        return tree if code is None else tree | {"code": code.hex()}

    def _parts(self, value: object, parts: list[Any]) -> Tree:
        self._extent.stand_for(value, parts)
        return tag(parts, self.rules)

    def _array(self, value: Any) -> Tree | None:
        if not is_of_numpy(value):
            return None
        from ironflow_nb.values import arrays

        return arrays.canonical(value, self.rules)

    def _container(self, value: Any) -> Tree | None:
        """Return the tree of a standard library container or of a subclass of a built-in type, else None."""
        parts = undisturbed(_items_of_container, value)
        if parts is None:
            return None
        return {TAG: "built-in", "c": class_name(type(value)), "v": self._parts(value, parts)}

    def opaque_tree(self, value: object) -> Tree:
        """Return a tree that stands for this very object in this process."""
        self.opaque.append(class_name(type(value)))
        return {TAG: "opaque", "v": self.digester.provenance.token(value).hex()}


class _NumberedWalk(_Walk):
    """A walk that writes each part once, and its number wherever it occurs. So sharing is a part of the identity.

    Items of sets and keys of dicts are written out, because numbers need an order. So a value that contains itself
    through a set has no tree.
    """

    def __init__(self, digester: Digester) -> None:
        super().__init__(digester)
        self._numbering = Numbering()
        self._keys = _Walk(digester)
        self._keys.opaque, self._keys.depth = self.opaque, 1
        self.rules = replace(self.rules, meet=id, part=self._part, key=self._key, items=self._items)
        self.depth = 1

    def tree(self, value: object) -> Tree:
        return {TAG: "parts", "v": self._numbering.forms(value, super().tree)}

    def _part(self, part: object, rules: Rules) -> Tree:
        return {TAG: "part", "v": self._numbering.number(part)} if is_made_of_parts(part) else tag(part, rules)

    def _key(self, key: object, _rules: Rules) -> Tree:
        return self._keys.tree(key)

    def _items(self, value: dict[Any, Any]) -> list[tuple[Any, Any]]:
        return sorted(value.items(), key=lambda item: CANONICAL.encode(self._keys.tree(item[0])))

    def _content(self, state: Any) -> Tree:
        return tag(state, self.rules)


def is_of_numpy(value: object) -> bool:
    """Return True if numpy or pandas defines the class of the value."""
    root = type(value).__module__.partition(".")[0]
    return root in {"numpy", "pandas"} and root in sys.modules


def refusal(value: object) -> str:
    """Return the message for a value that can be read only once."""
    kind = class_name(type(value))
    if isinstance(value, Coroutine):
        return f"a coroutine ({kind}) can't be recorded: nobody has awaited it; write await before the call"
    what = "an open file" if isinstance(value, io.IOBase) else "an iterator"
    instead = "pass its path or its content" if isinstance(value, io.IOBase) else "pass list(...) of it"
    return f"{what} ({kind}) can't be recorded: the first run would use it up; {instead} instead"


def _refuse_secret(_text: bytes) -> bytes:
    raise ValueNotStorable("a secret is no part of code; pass it to the step as an argument")


def _sorted_pairs(pairs: list[list[Tree]]) -> list[list[Tree]]:
    return sorted(pairs, key=CANONICAL.encode)


def _wrapped(value: Any) -> Any:
    """Return the function inside of a step, a flow, a descriptor of a class or an `lru_cache`, else None.

    A cell that runs again makes new objects around the same function.
    """
    match value:
        case functools._lru_cache_wrapper():
            return value.__wrapped__
        case property():
            return value.fget, value.fset, value.fdel
        case classmethod() | staticmethod():
            return value.__func__
        case functools.cached_property():
            return value.func
    return getattr(value, "fn", None) if hasattr(type(value), "__ironflow_definition__") else None


def _is_executor(value: object) -> bool:
    """Return True for a pool of threads or processes; who has one has loaded its module."""
    module = sys.modules.get("concurrent.futures._base")
    return module is not None and isinstance(value, module.Executor)


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


def _items_of_container(value: Any) -> list[Any] | None:
    """Return the content of a standard library container or of a subclass of a built-in type, else None."""
    kind = type(value)
    parts: list[Any] | None = None
    if kind is OrderedDict:
        try:
            parts = list(value.items())
        except KeyError as error:  # a key that was removed meanwhile
            raise RuntimeError("OrderedDict mutated during iteration") from error
    elif kind is defaultdict:
        parts = [value.default_factory, dict(value)]
    elif kind is deque:
        parts = [value.maxlen, list(value)]
    elif kind is types.MappingProxyType:
        parts = [dict(value)]
    elif isinstance(value, KeysView | ValuesView | ItemsView) and kind.__module__ == "builtins":
        parts = [list(value)]
    elif kind is memoryview:
        parts = [value.format, list(value.shape), value.tobytes()]
    else:
        base = next((base for base in _READERS if isinstance(value, base)), None)
        if base is not None and adds_only_attributes(kind, base):
            parts = [base(_READERS[base](value)), object.__getstate__(value)]
    return parts


def _state(value: Any) -> Any:
    """Return the state of an object that consists of its attributes only, or None."""
    kind = type(value)
    if kind is types.SimpleNamespace:
        return vars(value)
    if getattr(kind, "__pydantic_fields__", None) is not None and hasattr(value, "__pydantic_extra__"):
        return [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
    return attributes(value)


def _reduced(value: Any) -> list[Any] | None:
    """Return the parts that the object's `__reduce_ex__` gives to a pickle; None if it can't be pickled."""
    kind = type(value)
    reduce = copyreg.dispatch_table.get(kind)
    try:
        found: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(found, str):
            return [found]
        make, args, *others = found
        parts = [list(other) if isinstance(other, Iterator) else other for other in others]
    except ValueNotStorable:  # its message already says what to do
        raise
    except Exception as error:  # a foreign __reduce__ may raise anything
        if is_disturbance(error):
            raise
        return None
    # The tree names the class already; among the parts it would count with its code.
    return [None if make is kind else make, [None if arg is kind else arg for arg in args], *parts]
