"""Resolution of names to the code or constants that they stand for, through modules, classes and wrappers.

No user code runs for it.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any, Final, NamedTuple, get_args, get_origin

import msgspec

from ironflow_nb.code_identity.code_parts import Untracked, UntrackedReason
from ironflow_nb.code_identity.definitions import SUPER, Chain, is_code, is_definition, own_methods, wrapped_by
from ironflow_nb.code_identity.guards import MISSING, Guards
from ironflow_nb.code_identity.referenced_values import Members, is_constant, may_have_members, members_now
from ironflow_nb.code_identity.source import is_user_class, is_user_function, is_user_module
from ironflow_nb.code_identity.source_files import Excerpt, absolute, excerpts
from ironflow_nb.core.identity import step_name
from ironflow_nb.values.classes import class_name

_DYNAMIC: Final = frozenset({"eval", "exec", "globals", "locals", "vars", "__import__", "getattr", "compile"})
_LOOKUPS: Final = frozenset({
    "importlib.import_module", "importlib.__import__", "importlib.reload", "runpy.run_module", "runpy.run_path",
    "sys.modules", "builtins.eval", "builtins.exec", "builtins.globals", "builtins.__import__",
})  # fmt: skip
"""Functions and mappings of libraries that find code by a text."""
_CONTAINERS: Final = (list, dict, set, bytearray)


class CodeReference(NamedTuple):
    """A function or class to be read."""

    value: Any
    owner: type | None = None
    """The class whose `self` the function has."""
    is_wrapped: bool = False
    """Whether other user code wraps the function."""
    place: str = ""
    """The place of the code in the container or object that the name stands for."""


class Constant(NamedTuple):
    """A value whose content is part of the code."""

    name: str
    value: object


Target = CodeReference | Constant | Excerpt | Untracked


class LookupScope(msgspec.Struct, frozen=True):
    """The namespaces in which the names of one function or class are looked up."""

    namespace: dict[str, Any]
    cells: Mapping[str, types.CellType] = {}
    owner: type | None = None
    self_name: str | None = None
    imports: Mapping[str, tuple[str, str | None]] = {}


class NameResolver:
    """Looks names up, and records in the guards what it found."""

    def __init__(self, watch: Guards, *, asks_decorators: bool, changed: frozenset[int] = frozenset()) -> None:
        self.watch = watch
        self.changed = changed
        """The ids of containers and objects that the code itself fills; their content is not followed."""
        self.has_members = False
        """Whether code was found in another container or object."""
        self.asks_decorators = asks_decorators
        """Whether to follow decorators that return the function unwrapped. A loaded pickle does not have them."""
        self._looked_up: tuple[object, Callable[[], Any]] = MISSING, dict

    def chain(self, chain: Chain, scope: LookupScope) -> Iterator[Target]:
        """Yield the targets of a name with attributes; none for data of `self`."""
        head, *attributes = chain
        if head in scope.imports:
            yield from self._imported(scope.imports[head], attributes, scope)
        elif head in scope.cells:
            yield from self.follow(self.watch.cell(scope.cells[head]), head, attributes)
        elif head in {SUPER, scope.self_name}:
            yield from self._self_attribute(head, attributes, scope)
        else:
            yield from self._global(head, attributes, scope)

    def _global(self, name: str, attributes: list[str], scope: LookupScope) -> Iterator[Target]:
        found = self.watch.item(scope.namespace, name)
        if found is MISSING:
            is_builtin = hasattr(builtins, name)
            of_builtin = UntrackedReason.DYNAMIC if name in _DYNAMIC else UntrackedReason.BUILT_IN
            yield Untracked(name, of_builtin if is_builtin else UntrackedReason.UNDEFINED)
            return
        # Where only the type of the name is watched, another container of this type may have replaced it.
        self._looked_up = found, lambda: scope.namespace.get(name)
        for target in self.follow(found, step_name(scope.namespace.get("__name__"), name), attributes):
            if isinstance(target, Untracked) and target == _untracked_data(target.name, found):
                self.watch.only_type(scope.namespace, name)
            yield target

    def _imported(
        self, imported: tuple[str, str | None], attributes: list[str], scope: LookupScope
    ) -> Iterator[Target]:
        module = absolute(imported[0], str(scope.namespace.get("__package__")))
        attributes = [*filter(None, imported[1:]), *attributes]
        found = self.watch.item(sys.modules, module)
        read = excerpts(module, attributes, self.watch)
        if read:
            yield from read
        elif found is MISSING:
            yield Untracked(module, UntrackedReason.NOT_IMPORTED)
        else:
            yield from self.follow(found, module, attributes)

    def _self_attribute(self, head: str, attributes: list[str], scope: LookupScope) -> Iterator[Target]:
        """Yield the targets of an attribute of `self` in its class; for `self` alone, the whole class."""
        if scope.owner is None:
            return
        if not attributes or attributes[0] == "__class__":
            yield CodeReference(scope.owner)
            return
        bases = scope.owner.__mro__[1 if head == SUPER else 0 :]
        found = self._attribute(bases, attributes[0])
        if found is not MISSING and (is_code(found) or is_constant(found)):
            yield from self.follow(found, f"{class_name(scope.owner)}.{attributes[0]}", attributes[1:], scope.owner)

    def _attribute(self, bases: tuple[type, ...], name: str) -> Any:
        for base in bases:
            if is_user_class(base):
                self.watch.attributes(base)
            if name in vars(base):
                return vars(base)[name] if is_user_class(base) else MISSING
        return MISSING

    def follow(
        self, value: Any, name: str, attributes: Sequence[str] = (), owner: type | None = None
    ) -> Iterator[Target]:
        """Yield the targets of the value and its attributes: code, constants, or names that are not tracked."""
        while attributes and isinstance(value, types.ModuleType) and is_user_module(value):
            name = f"{value.__name__}.{attributes[0]}"
            value = self.watch.item(vars(value), attributes[0])
            attributes = attributes[1:]
        if value is MISSING:
            yield Untracked(name, UntrackedReason.UNDEFINED)
        elif isinstance(value, types.ModuleType):
            path = ".".join([value.__name__, *attributes[:1]])
            if path in _LOOKUPS:
                yield Untracked(path, UntrackedReason.DYNAMIC)
            else:
                yield Untracked(
                    name, UntrackedReason.WHOLE_MODULE if is_user_module(value) else UntrackedReason.LIBRARY
                )
        elif f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}" in _LOOKUPS:
            yield Untracked(name, UntrackedReason.DYNAMIC)
        elif isinstance(value, type):
            yield from self._class(value, attributes, name)
        elif get_args(value):
            yield from self._alias(value, name)
        elif is_code(value):
            yield from self._function(value, name, owner)
            if attributes and isinstance(value, types.FunctionType) and is_user_function(value):
                yield from self._function_attribute(value, name, attributes)
        elif is_constant(value):
            yield Constant(name, value)
            yield from self._code_of_constant(value, name, attributes)
        else:
            yield from self._data(value, name)

    def _code_of_constant(self, value: Any, name: str, attributes: Sequence[str] = ()) -> Iterator[Target]:
        """Yield the code of members of enums, and of objects of a user's class, that are constants or in one."""
        if isinstance(value, Enum):
            if attributes[:1] in (["value"], ["_value_"]):
                if not is_constant(value._value_):
                    yield from self.follow(value._value_, f"{name}.value", attributes[1:])
            elif _is_followed(value, attributes):
                yield from self._class(type(value), attributes, name)
            elif not attributes:  # handed on: other code may call its methods, and needs no other member
                yield from self._methods(type(value))
        elif isinstance(value, tuple | frozenset):
            for each in value:
                yield from self._code_of_constant(each, name)
        elif is_user_class(type(value)):
            yield CodeReference(type(value))

    def _methods(self, kind: type) -> Iterator[Target]:
        """Yield the methods of a class of the user's, without what else its body says."""
        for base in filter(is_user_class, kind.__mro__):
            self.watch.attributes(base)
            for method in sorted(own_methods(base), key=attrgetter("__qualname__")):
                yield CodeReference(method, base)

    def _function_attribute(
        self, function: types.FunctionType, name: str, attributes: Sequence[str]
    ) -> Iterator[Target]:
        """Yield the code in an attribute of a function; other data there is mostly what the code itself counts."""
        attribute, found = f"{name}.{attributes[0]}", self.watch.item(vars(function), attributes[0])
        if is_code(found) or isinstance(found, type) or may_have_members(found):
            yield from self.follow(found, attribute, attributes[1:])
        elif found is not MISSING:
            self.watch.only_type(vars(function), attributes[0])
            yield _untracked_data(attribute, found)

    def _alias(self, value: Any, name: str) -> Iterator[Target]:
        """Yield the text of a generic type, such as ``list[Box]`` or ``Literal["a"]``, and the classes in it."""
        text = repr(value)
        yield Untracked(name, UntrackedReason.TYPE_WITH_OBJECTS) if " at 0x" in text else Constant(name, text)
        for each in (get_origin(value), *get_args(value)):
            yield from (target for target in self.follow(each, name) if isinstance(target, CodeReference))

    def _class(self, kind: type, attributes: Sequence[str], name: str) -> Iterator[Target]:
        if attributes[:1] == ["__subclasses__"]:  # they depend on the modules that are loaded
            yield Untracked(f"{name}.__subclasses__", UntrackedReason.DYNAMIC)
        if not is_user_class(kind):
            is_builtin = vars(builtins).get(kind.__name__) is kind
            yield Untracked(name, UntrackedReason.BUILT_IN if is_builtin else UntrackedReason.LIBRARY)
            return
        found = self._attribute(kind.__mro__, attributes[0]) if attributes else MISSING
        # A class method may make an object of the class, and use any attribute of it. So the whole class counts.
        is_part = isinstance(found, types.FunctionType | staticmethod | type) or is_constant(found)
        if is_part or is_definition(found):
            yield from self.follow(found, f"{name}.{attributes[0]}", attributes[1:], kind)
        else:
            yield CodeReference(kind)
            if type(found) in (list, dict, set):  # a registry, for example
                yield from self._data(found, f"{name}.{attributes[0]}")

    def _function(self, value: Any, name: str, owner: type | None) -> Iterator[Target]:
        """Yield the user's functions in the value, the wrapped one before its wrappers."""
        others: list[Target] = []
        layers: list[CodeReference] = []
        seen: set[int] = set()
        while value is not None and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, types.FunctionType):
                if is_user_function(value):
                    self.watch.function(value)
                    layers.insert(0, CodeReference(value, owner))
                others += self._registered(value, name)
                value = wrapped_by(value)
                continue
            if isinstance(value, types.MethodType):
                owner = value.__self__ if isinstance(value.__self__, type) else type(value.__self__)
            if isinstance(value, staticmethod):
                owner = None
            others += self._beside_wrapped(value, name, owner)
            value = _wrapped_function(value)
        if len(layers) > 1:
            layers[0] = layers[0]._replace(is_wrapped=True)
        if not layers and not others:
            yield Untracked(name, UntrackedReason.LIBRARY)
        yield from (*layers, *others)

    def _beside_wrapped(self, value: Any, name: str, owner: type | None) -> Iterator[Target]:
        """Yield the targets that a wrapper object has beside its wrapped function."""
        match value:
            case functools.partial() | functools.partialmethod():
                given = {**{str(index): item for index, item in enumerate(value.args)}, **value.keywords}
                for key, item in sorted(given.items()):
                    yield from self.follow(item, f"{name}({key}=)")
            case property():
                for each in (value.fset, value.fdel):
                    if each is not None:
                        yield from self._function(each, name, owner)
            case _ if is_definition(value):
                for index, item in enumerate(getattr(value, "depends", ())):
                    if is_code(item) or isinstance(item, type):
                        yield from self.follow(item, f"{name}[{index}]")

    def _registered(self, function: types.FunctionType, name: str) -> Iterator[Target]:
        """Yield the functions that are registered with a `functools.singledispatch`."""
        registry = vars(function).get("registry")
        if isinstance(registry, types.MappingProxyType):
            self.watch.registry(registry)
            for kind in sorted(registry, key=class_name):
                if is_code(registry[kind]) and wrapped_by(function) is not registry[kind]:
                    yield from self.follow(registry[kind], f"{name}({class_name(kind)})")

    def _data(self, value: object, name: str) -> Iterator[Target]:
        """Yield the code in a container or object, an `Untracked` for its data, and the class of a user's object."""
        members = Members(value, self.changed) if may_have_members(value) else None
        if members is not None and id(value) in self.changed:
            yield _untracked_data(name, value, is_changed=bool(members.found))
            if is_user_class(type(value)) and not isinstance(value, _CONTAINERS):
                yield CodeReference(type(value))
            return
        self.has_members = self.has_members or (members is not None and bool(members.found))
        if members is not None and members.are_watched:
            found, look_up = self._looked_up
            self.watch.members(look_up if found is value else lambda: value, members_now(value))
        if members is None or members.has_data or not members.found:
            is_filled = members is not None and members.has_left_out
            yield _untracked_data(name, value, is_changed=is_filled)
        if not isinstance(value, _CONTAINERS) and is_user_class(type(value)):
            yield CodeReference(type(value))
        for place, member in () if members is None else members.found:
            for target in self.follow(member, f"{name}{place}"):
                yield target._replace(place=place) if isinstance(target, CodeReference) else target


def _untracked_data(name: str, value: object, *, is_changed: bool = False) -> Untracked:
    if is_changed:
        return Untracked(name, UntrackedReason.CHANGED)
    if isinstance(value, _CONTAINERS):
        return Untracked(name, UntrackedReason.MUTABLE)
    return Untracked(name, UntrackedReason.DATA, class_name(type(value)))


def _is_followed(member: Enum, attributes: Sequence[str]) -> bool:
    """Return True if the code may use more of the member than its name and value."""
    if not attributes:
        return callable(member) or not is_constant(member._value_)
    return attributes[0] != "name"


def _wrapped_function(value: Any) -> Any:
    """Return the function that a wrapper object calls, or None."""
    match value:
        case types.MethodType() | staticmethod() | classmethod():
            return value.__func__
        case property():
            return value.fget
        case functools.partial() | functools.partialmethod() | functools.cached_property():
            return value.func
        case _ if is_definition(value):
            return getattr(value, "fn", None)  # a decider is called by commands
    return wrapped_by(value)


def owner_of(function: types.FunctionType) -> type | None:
    """Return the class whose body defines the function, if it can be found by name; None for a static method."""
    path = function.__qualname__.rpartition("<locals>.")[2].split(".")[:-1]
    if "<locals>" in function.__qualname__ or not path:
        return None
    found: Any = function.__globals__.get(path[0])
    for name in path[1:]:
        found = inspect.getattr_static(found, name, None)
    if not isinstance(found, type) or isinstance(vars(found).get(function.__name__), staticmethod):
        return None
    return found
