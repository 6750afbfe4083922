"""The walk from a function to all user code that it refers to, and one digest of this code.

The links of a function or class are its references, each with a label and a target. A container that the code itself
fills while it runs is left out of the walk: its content is a result of the code, and not a part of it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from inspect import getattr_static
from typing import Any

from ironflow_nb.code_identity.code_parts import TRANSITIVE, CodePart, PartKind, TrackedCode, Untracked, UntrackedReason
from ironflow_nb.code_identity.definitions import (
    Chain,
    Reading,
    changed_names,
    class_namespace,
    functions_in,
    has_our_decorator,
    innermost,
    is_definition,
    is_written_in,
    own_methods,
    read_class,
    read_function,
)
from ironflow_nb.code_identity.guards import Guards, cell_content
from ironflow_nb.code_identity.name_resolution import (
    CodeReference,
    Constant,
    LookupScope,
    NameResolver,
    Target,
    owner_of,
)
from ironflow_nb.code_identity.referenced_values import constant_digest, is_constant, may_have_members, shown
from ironflow_nb.code_identity.source import decorated, function_source, is_generated, is_user_class, is_user_function
from ironflow_nb.code_identity.source_files import Excerpt, declared_content
from ironflow_nb.core.identity import Digest, digest_bytes, step_name
from ironflow_nb.values.classes import class_name

Link = tuple[str, Target]


def links_of_function(code: CodeReference, reading: Reading, resolver: NameResolver) -> Iterator[Link]:
    """Yield the references of the body, and the decorators unless a wrapper shows their effect."""
    resolver.watch.function(code.value)
    scope = _scope_of_function(code.value, code.owner, reading)
    for chain in reading.chains:
        for target in _unassigned(chain, reading, scope, resolver):
            yield ".".join(chain), target
    for chain in reading.decorators if resolver.asks_decorators and not code.is_wrapped else ():
        for target in resolver.chain(chain, scope):
            yield "@" + ".".join(chain), target


def links_of_defaults(function: types.FunctionType, resolver: NameResolver) -> Iterator[Link]:
    """Yield the default arguments, by the values that they got when the function was defined."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    values = function.__defaults__ or ()
    given = {**dict(zip(names[len(names) - len(values) :], values, strict=True)), **(function.__kwdefaults__ or {})}
    for name, value in sorted(given.items()):
        for target in resolver.follow(value, f"{name_of(function)}({name}=)"):
            yield f"{name}=", target


def links_of_class(kind: type, reading: Reading, resolver: NameResolver) -> Iterator[Link]:
    """Yield the references of the body, the user's base classes, and attributes that the body does not define."""
    resolver.watch.attributes(kind)
    scope = LookupScope(class_namespace(kind), _watched_cells(kind, resolver), imports=reading.imports)
    for chain in reading.chains:
        for target in resolver.chain(chain, scope):
            yield ".".join(chain), target
    for base in (*kind.__bases__, type(kind)):
        if is_user_class(base):
            yield f"base {base.__name__}", CodeReference(base)
    yield from _links_of_attributes(kind, resolver, is_written=reading.no_source is None)


def name_of(value: Any) -> str:
    """Return the qualified name of a function or class; a wrapper has its own name, not that of the wrapped one."""
    if isinstance(value, types.FunctionType):
        return step_name(value.__globals__.get("__name__"), value.__code__.co_qualname)
    return step_name(value.__module__, value.__qualname__)


def _scope_of_function(function: types.FunctionType, owner: type | None, reading: Reading) -> LookupScope:
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    first = code.co_varnames[0] if code.co_argcount else None
    return LookupScope(function.__globals__, cells, owner or owner_of(function), first, reading.imports)


def _unassigned(chain: Chain, reading: Reading, scope: LookupScope, resolver: NameResolver) -> Iterator[Target]:
    """Yield the targets of the chain, except constants that the code itself assigns.

    Otherwise a global counter would make other code of it at every call.
    """
    for target in resolver.chain(chain, scope):
        if isinstance(target, Constant) and chain[0] in reading.assigned:
            resolver.watch.only_type(scope.namespace, chain[0])
            yield Untracked(chain[0], UntrackedReason.ASSIGNED)
        else:
            yield target


def _watched_cells(kind: type, resolver: NameResolver) -> dict[str, types.CellType]:
    cells: dict[str, types.CellType] = {}
    for method in own_methods(kind):
        resolver.watch.function(method)
        cells.update(zip(method.__code__.co_freevars, method.__closure__ or (), strict=True))
    return {name: cell for name, cell in cells.items() if name != "__class__"}


def _links_of_attributes(kind: type, resolver: NameResolver, *, is_written: bool) -> Iterator[Link]:
    """Yield the functions that were added to the class later; for a class without source, all attributes."""
    for name, value in sorted(vars(kind).items()):
        found = (each for each in functions_in(value) if is_user_function(each))
        functions = [each for each in found if not (is_written and is_generated(each))]
        if functions and not (is_written and all(is_written_in(each, kind) for each in functions)):
            for target in resolver.follow(value, f"{class_name(kind)}.{name}"):
                yield f".{name}", target
        elif not is_written and not name.startswith("__") and is_constant(value):
            yield f".{name}", Constant(f"{class_name(kind)}.{name}", value)


def filled_by(
    function: Callable[..., Any], codes: Sequence[CodeReference], readings: Sequence[Reading]
) -> Iterator[Any]:
    """Yield the containers and objects that these codes change, or flows and steps of the same module.

    Those that only decorators fill, while a module is loaded, are not among them.
    """
    registering = _decorator_ids(codes, readings)
    for code, reading in zip(codes, readings, strict=True):
        if id(code.value) not in registering:
            yield from _containers_of(reading.changed, code.value)
        if isinstance(code.value, types.FunctionType):
            yield from _containers_of(_cells_changed_by_siblings(code.value), code.value)
    root = getattr(function, "fn", function)
    for value in [*getattr(root, "__globals__", {}).values()]:
        fn = getattr(value, "fn", None) if is_definition(value) else None
        if isinstance(fn, types.FunctionType):
            yield from _containers_of(read_function(innermost(fn)).changed, innermost(fn))


def _decorator_ids(codes: Sequence[CodeReference], readings: Sequence[Reading]) -> set[int]:
    """Return the ids of the decorators of these codes."""
    found = [
        value
        for code, reading in zip(codes, readings, strict=True)
        for value in _objects_of(reading.decorators, *_names_of(code.value))
    ]
    return {id(innermost(each) if isinstance(each, types.FunctionType) else each) for each in found}


def _cells_changed_by_siblings(fn: types.FunctionType) -> Iterable[Chain]:
    """Return the function's closure variables that flows and steps in the same outer function change."""
    cells = fn.__code__.co_freevars
    around = fn.__globals__.get(fn.__qualname__.partition(".")[0])
    if not cells or not isinstance(around, types.FunctionType):
        return ()
    source = function_source(innermost(around))
    nodes = () if isinstance(source, str) else decorated(source.text)
    return [chain for node in nodes if has_our_decorator(node, fn.__globals__) for chain in changed_names(node, cells)]


def _names_of(code: Any) -> tuple[Mapping[str, Any], Mapping[str, types.CellType]]:
    """Return the globals of the function or class, and its closure cells by name."""
    functions = own_methods(code) if isinstance(code, type) else [code]
    cells = [zip(each.__code__.co_freevars, each.__closure__ or (), strict=True) for each in functions]
    namespace = class_namespace(code) if isinstance(code, type) else code.__globals__
    return namespace, {name: cell for each in cells for name, cell in each}


def _containers_of(chains: Iterable[Chain], code: Any) -> Iterator[Any]:
    return filter(may_have_members, _objects_of(chains, *_names_of(code)))


def _objects_of(
    chains: Iterable[Chain], namespace: Mapping[str, Any], cells: Mapping[str, types.CellType]
) -> Iterator[Any]:
    """Yield the object of each chain, or one that contains nothing; no code runs for it."""
    for head, *attributes in chains:
        found = cell_content(cells[head]) if head in cells else namespace.get(head)
        for name in attributes:
            found = getattr_static(found, name, None)
        yield found


Edge = tuple[str, str]
"""The label of a link, and the number of its target code or the digest of its target value."""


class DependencyWalk:
    """One walk through all user code that is reachable from one function.

    Codes are numbered in the order of their first visit, and names are visited in sorted order. So the numbers and the
    digest depend on the references between codes, and not on the place or the order of definitions.
    """

    def __init__(self, function: Callable[..., Any], depends: tuple[Any, ...], *, is_value: bool) -> None:
        self._function = function
        self._depends = depends
        self._is_value = is_value
        self._begin(frozenset())

    def _begin(self, changed: frozenset[int]) -> None:
        self.watch = Guards()
        self._resolver = NameResolver(self.watch, asks_decorators=not self._is_value, changed=changed)
        self._codes: list[CodeReference] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._readings: list[Reading] = []
        self._others: dict[str, CodePart] = {}
        self._untracked: set[Untracked] = set()

    def tracked(self) -> TrackedCode:
        """Visit all user code reachable from the function, and return its digest and parts.

        The walk is repeated without the containers that the visited code fills itself, until it finds no more of them.
        """
        found = self._tracked()
        filled: list[Any] = []
        while self._resolver.has_members:
            filled = [*filled, *filled_by(self._function, self._codes, self._readings)]
            changed = frozenset(map(id, filled))
            if changed <= self._resolver.changed:
                break
            self._begin(changed)
            found = self._tracked()
        return found

    def _tracked(self) -> TrackedCode:
        rows = [[*self._edges(self._links_of_root()), *self._declared()]]
        for number, code in enumerate(self._codes):  # the list grows during the loop
            rows[number:] = [[*(rows[number] if number == 0 else ()), *self._edges(self._links(code))]]
        self.watch.settle()
        parts = [_part_of_code(code, reading) for code, reading in zip(self._codes, self._readings, strict=True)]
        own = parts or [_part_without_code(self._function)]
        digest = _digest(own, [sorted(set(row)) for row in rows])
        others = (part for _, part in sorted(self._others.items()))
        return TrackedCode(digest, (*own, *others), tuple(sorted(self._untracked)))

    def _links_of_root(self) -> Iterator[Link]:
        """Yield the codes that the given function consists of, the innermost code first."""
        name = _part_without_code(self._function).name
        found = self._resolver.follow(self._function, name)
        targets: list[Target] = [each for each in found if not isinstance(each, Untracked)]
        if not any(isinstance(target, CodeReference) for target in targets):
            targets.append(Untracked(name, UntrackedReason.NO_CODE))
        for target in targets:
            yield "", target

    def _declared(self) -> Iterator[Edge]:
        if not self._depends:
            return
        for item in self._depends:
            codes = [target for target in self._resolver.follow(item, "") if isinstance(target, CodeReference)]
            if codes and (callable(item) or isinstance(item, type)):
                label = f"depends {getattr(item, '__qualname__', '')}"
                yield from self._edges((label, code) for code in codes)
            else:
                name, source, digest = declared_content(item, self.watch)
                self._others[f"depends {name}"] = CodePart(name, PartKind.DECLARED, digest, source)
                yield f"depends {name}", digest.hex()

    def _links(self, code: CodeReference) -> Iterator[Link]:
        is_class = isinstance(code.value, type)
        reading = read_class(code.value) if is_class else read_function(code.value)
        self._readings.append(reading)
        if reading.no_source is not None:
            yield "", Untracked(name_of(code.value), UntrackedReason.NO_SOURCE, reading.no_source)
        if is_class:
            yield from links_of_class(code.value, reading, self._resolver)
        else:
            # The data in the closure of a step is treated as arguments, and so are its defaults.
            cells = code.value.__code__.co_freevars if code.value is self._function else ()
            for label, target in links_of_function(code, reading, self._resolver):
                if isinstance(target, CodeReference) or label.partition(".")[0] not in cells:
                    yield label, target
            if code is not self._codes[0]:
                yield from links_of_defaults(code.value, self._resolver)

    def _edges(self, links: Iterable[Link]) -> Iterator[Edge]:
        """Number new codes, and collect constants, excerpts and untracked names."""
        for label, target in links:
            match target:
                case CodeReference():
                    key = id(target.value), id(target.owner)
                    if self._numbers.setdefault(key, len(self._codes)) == len(self._codes):
                        self._codes.append(target)
                    yield label + target.place, str(self._numbers[key])
                case Constant(name=name, value=value):
                    digest = constant_digest(value)
                    self._others[name] = CodePart(name, PartKind.CONSTANT, digest, f"{name} = {shown(value)}")
                    yield label, digest.hex()
                case Excerpt(name=name, digest=digest, source=source):
                    self._others[name] = CodePart(name, PartKind.DECLARED, digest, source)
                    yield f"{label} {name}", digest.hex()
                case Untracked():
                    self._untracked.add(target)


def _part_of_code(code: CodeReference, reading: Reading) -> CodePart:
    of_function = PartKind.FUNCTION if code.owner is None else PartKind.METHOD
    kind = PartKind.CLASS if isinstance(code.value, type) else of_function
    return CodePart(name_of(code.value), kind, reading.content, reading.source, reading.file, reading.line)


def _part_without_code(function: Any) -> CodePart:
    """Return the part of a callable without Python code: its name identifies it."""
    named = function if hasattr(function, "__qualname__") else type(function)
    # A method of a built-in class, such as str.upper, has no module.
    name = f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
    return CodePart(name, PartKind.FUNCTION, digest_bytes(f"named\0{name}".encode()), "")


def _digest(own: list[CodePart], edges: list[list[Edge]]) -> Digest:
    """Return the digest of the codes and their edges; a single code that refers only to itself keeps its own digest."""
    if len(own) == 1 and all(target == "0" for _, target in edges[0]):
        return own[0].digest
    rows = [[part.digest.hex(), found] for part, found in zip(own, edges, strict=True)]
    return Digest(TRANSITIVE + blake2b(json.dumps(rows).encode(), digest_size=19).digest())
