"""What a body imports itself, read in the text of the user's module: it is the same before the import and after it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from ironflow_nb.code_identity.guards import MISSING, Guards
from ironflow_nb.code_identity.syntax import parse, stripped, written
from ironflow_nb.code_identity.user_code import is_user_file
from ironflow_nb.core.identity import Digest, digest_bytes

_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
WHOLE: Final = ""
"""The name that stands for everything in a module."""


class Excerpt(NamedTuple):
    """The statements of a module's text that something imported consists of."""

    name: str
    digest: Digest
    source: str


class _Text:
    """The text of a module, statement by statement."""

    def __init__(self, path: str) -> None:
        tree = stripped(parse(Path(path).read_bytes(), path), lambda _: False)
        assert isinstance(tree, ast.Module)
        self.statements = tree.body
        imports = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        self._imported = set[str]().union(*map(_bound, imports))
        self.bound = [_bound(statement) for statement in tree.body]
        self.used = [_used(statement) for statement in tree.body]
        self.acted_on = [self._reached(_acted_on(statement)) for statement in tree.body]

    def binds(self, name: str) -> bool:
        return any(name in bound for bound in self.bound)

    def _reached(self, names: set[str]) -> set[str]:
        """Return the module's own names that may be changed by way of the names: a function registers in a dict."""
        reached: set[str] = set()
        while names := names - reached:
            reached |= names
            rows = zip(self.bound, self.used, strict=True)
            names = names.union(*(used for bound, used in rows if not names.isdisjoint(bound)))
        return reached - self._imported

    def excerpt(self, names: set[str]) -> list[ast.stmt]:
        """Return what binds the names or may change them, and what that refers to."""
        if WHOLE in names or not all(map(self.binds, names)):
            return self.statements
        wanted, taken = set(names), set[int]()
        while found := {
            index
            for index in range(len(self.statements))
            if index not in taken and not wanted.isdisjoint(self.bound[index] | self.acted_on[index])
        }:
            taken |= found
            wanted.update(*(self.used[index] for index in found))
        return [self.statements[index] for index in sorted(taken)]


# By path, with what it was read of: the spec of the module as it was imported, or the state of the file. A module that
# was imported is what was read then, and not what its file became; a reload gives it another spec.
_TEXTS: Final[dict[str, tuple[object, _Text]]] = {}


def excerpts(module: str, attributes: list[str], watch: Guards) -> list[Excerpt]:
    """Return what the attribute consists of, in all modules of the user's; nothing if the first is none of theirs."""
    wanted: dict[str, set[str]] = {}
    texts: dict[str, _Text] = {}
    waiting = [(module, attributes)]
    while waiting:
        name, names = waiting.pop()
        text = texts.get(name) or _text(name, watch)
        if text is None:
            continue
        texts[name] = text
        if names and not text.binds(names[0]) and _located(f"{name}.{names[0]}") is not None:
            waiting.append((f"{name}.{names[0]}", names[1:]))
            continue
        start = names[0] if names else WHOLE
        if start not in wanted.setdefault(name, set()):
            wanted[name].add(start)
            waiting += _imports(text.excerpt(wanted[name]), name, _located(name))
    return [_excerpt(name, texts[name].excerpt(starts)) for name, starts in sorted(wanted.items())]


def _excerpt(name: str, statements: list[ast.stmt]) -> Excerpt:
    content = b"".join(map(written, statements))
    return Excerpt(name, digest_bytes(b"module\0" + content), "\n".join(map(ast.unparse, statements)))


def _text(name: str, watch: Guards) -> _Text | None:
    """Return the text of the module, and watch what would make it another one; None if it is none of the user's."""
    loaded = watch.item(sys.modules, name)
    spec = _located(name)
    path = None if spec is None else spec.origin
    if path is None or not path.endswith(".py") or not is_user_file(path):
        return None
    try:
        state: object = Path(path).stat()[6:]
        if loaded is MISSING:
            watch.file(Path(path))
        else:
            state = watch.item(vars(loaded), "__spec__")
        known = _TEXTS.get(path)
        if known is None or not (known[0] is state or (loaded is MISSING and known[0] == state)):
            _TEXTS[path] = known = state, _Text(path)
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
    return known[1]


def _located(name: str) -> ModuleSpec | None:
    """Return where the module is, without importing it or the packages that it is in."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__spec__", None)
    parent = name.rpartition(".")[0]
    with suppress(ImportError, ValueError, AttributeError):
        if not parent:
            return find_spec(name)
        package = _located(parent)
        if package is not None and package.submodule_search_locations is not None:
            return PathFinder.find_spec(name, package.submodule_search_locations)
    return None


def _imports(statements: list[ast.stmt], name: str, spec: ModuleSpec | None) -> Iterator[tuple[str, list[str]]]:
    """Yield what the statements import, as module and attribute; of a module that is used by its attributes, these."""
    package = "" if spec is None else name if spec.submodule_search_locations is not None else spec.parent or ""
    attributes = _attributes(statements)
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                for path in attributes.get(alias.asname or module, [[]]):
                    yield module, path
        elif isinstance(node, ast.ImportFrom):
            module = absolute(("." * node.level) + (node.module or ""), package)
            for alias in node.names:
                found = [[]] if alias.name == "*" else attributes.get(alias.asname or alias.name, [[]])
                yield from ((module, [] if alias.name == "*" else [alias.name, *path]) for path in found)


def _attributes(statements: list[ast.stmt]) -> Mapping[str, list[list[str]]]:
    """Return the attributes that are taken of each name; of one that stands alone as well, the name itself."""
    found: dict[str, list[list[str]]] = {}
    for statement in statements:
        inner = set[int]()
        for node in ast.walk(statement):
            names: list[str] = []
            head: ast.AST | None = None if id(node) in inner else node
            while isinstance(head, ast.Attribute):
                names.insert(0, head.attr)
                head = head.value
                inner.add(id(head))
            if isinstance(head, ast.Name):
                found.setdefault(head.id, []).append(names)
    return found


def absolute(module: str, package: str) -> str:
    """Return the full name of a module that is named as an import names it."""
    level = len(module) - len(module.lstrip("."))
    if not level:
        return module
    parent = ".".join(package.split(".")[: 1 - level or None])
    return f"{parent}.{module[level:]}".rstrip(".")


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, _DEFINITIONS):
            names.add(node.name)
    return names


def _used(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _acted_on(statement: ast.stmt) -> set[str]:
    """Return the names of what a statement may change that binds none of them: it registers something, say."""
    if isinstance(statement, _DEFINITIONS):
        return set[str]().union(*map(_used, statement.decorator_list))
    is_plain = isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets)
    return _used(statement) if isinstance(statement, ast.Expr | ast.AugAssign | ast.Assign) and not is_plain else set()
