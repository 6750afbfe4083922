"""Code that is identified by the text of its files, and not by loaded objects.

These are the imports inside of a function body: the text of a user's module is the same before and after the import, so
the identity of a step does not change when its body runs. And these are the modules, files and values that a step
declares in ``depends=``, beside functions and classes.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from ironflow_nb.code_identity.guards import MISSING, Guards
from ironflow_nb.code_identity.referenced_values import shown, value_digest
from ironflow_nb.code_identity.source import is_user_file
from ironflow_nb.code_identity.syntax import FunctionNode, parse, without_docstrings, written
from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.values.argument_types import content_digest
from ironflow_nb.values.private_files import journal_of, refuse_used

_DEFINITIONS: Final = FunctionNode | ast.ClassDef
WHOLE: Final = ""
"""Stands for all names of a module."""


class Excerpt(NamedTuple):
    """The statements of a module that an imported name depends on; `name` is that of the module."""

    name: str
    digest: Digest
    source: str


class _ModuleText:
    """The statements of a module, with the names that each one binds, uses and may change."""

    def __init__(self, path: str) -> None:
        tree = without_docstrings(parse(Path(path).read_bytes(), path))
        self.statements = tree.body
        imports = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        self._imported = set[str]().union(*map(_bound_names, imports))
        self.bound = [_bound_names(statement) for statement in tree.body]
        self.used = [_used_names(statement) for statement in tree.body]
        self.changed = [self._reachable(_changed_names(statement)) for statement in tree.body]

    def binds(self, name: str) -> bool:
        return any(name in bound for bound in self.bound)

    def _reachable(self, names: set[str]) -> set[str]:
        """Return the module's own names that code of these names may change: a function registers in a dict."""
        reached: set[str] = set()
        while names := names - reached:
            reached |= names
            rows = zip(self.bound, self.used, strict=True)
            names = names.union(*(used for bound, used in rows if not names.isdisjoint(bound)))
        return reached - self._imported

    def excerpt(self, names: set[str]) -> list[ast.stmt]:
        """Return the statements that bind the names or may change them, and those that these refer to."""
        if WHOLE in names or not all(map(self.binds, names)):
            return self.statements
        wanted, taken = set(names), set[int]()
        while found := {
            index
            for index in range(len(self.statements))
            if index not in taken and not wanted.isdisjoint(self.bound[index] | self.changed[index])
        }:
            taken |= found
            wanted.update(*(self.used[index] for index in found))
        return [self.statements[index] for index in sorted(taken)]


# By path, with the spec of the imported module or else the state of the file. An imported module keeps the text of its
# import, even if its file is edited; a reload gives it another spec.
_TEXTS: Final[dict[str, tuple[object, _ModuleText]]] = {}


def excerpts(module: str, attributes: list[str], watch: Guards) -> list[Excerpt]:
    """Return the statements that the attribute depends on, in all user modules; none if `module` is not the user's."""
    wanted: dict[str, set[str]] = {}
    texts: dict[str, _ModuleText] = {}
    waiting = [(module, attributes)]
    while waiting:
        name, names = waiting.pop()
        text = texts.get(name) or _module_text(name, watch)
        if text is None:
            continue
        texts[name] = text
        if names and not text.binds(names[0]) and _find_spec(f"{name}.{names[0]}") is not None:
            waiting.append((f"{name}.{names[0]}", names[1:]))
            continue
        start = names[0] if names else WHOLE
        if start not in wanted.setdefault(name, set()):
            wanted[name].add(start)
            waiting += _imported_names(text.excerpt(wanted[name]), name, _find_spec(name))
    return [_excerpt(name, texts[name].excerpt(starts)) for name, starts in sorted(wanted.items())]


def _excerpt(name: str, statements: list[ast.stmt]) -> Excerpt:
    content = b"".join(map(written, statements))
    return Excerpt(name, digest_bytes(b"module\0" + content), "\n".join(map(ast.unparse, statements)))


def _module_text(name: str, watch: Guards) -> _ModuleText | None:
    """Return the text of the module and watch it for changes; None if the module is not the user's."""
    loaded = watch.item(sys.modules, name)
    spec = _find_spec(name)
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
            _TEXTS[path] = known = state, _ModuleText(path)
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
    return known[1]


def _find_spec(name: str) -> ModuleSpec | None:
    """Return the spec of the module without importing it or its packages, or None."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__spec__", None)
    parent = name.rpartition(".")[0]
    with suppress(ImportError, ValueError, AttributeError):
        if not parent:
            return find_spec(name)
        package = _find_spec(parent)
        if package is not None and package.submodule_search_locations is not None:
            return PathFinder.find_spec(name, package.submodule_search_locations)
    return None


def _imported_names(statements: list[ast.stmt], name: str, spec: ModuleSpec | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the imports of the statements as module and attributes, with the attributes that are used of a module."""
    package = "" if spec is None else name if spec.submodule_search_locations is not None else spec.parent or ""
    attributes = _attributes_by_name(statements)
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


def _attributes_by_name(statements: list[ast.stmt]) -> Mapping[str, list[list[str]]]:
    """Return the attribute chains that are used of each name; an empty chain where the name is used alone."""
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
    """Return the full name of a module that an import names with leading dots."""
    level = len(module) - len(module.lstrip("."))
    if not level:
        return module
    parent = ".".join(package.split(".")[: 1 - level or None])
    return f"{parent}.{module[level:]}".rstrip(".")


def _bound_names(statement: ast.stmt) -> set[str]:
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


def _used_names(statement: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _changed_names(statement: ast.stmt) -> set[str]:
    """Return the names of objects that the statement may change without binding a name: it may register something."""
    if isinstance(statement, _DEFINITIONS):
        return set[str]().union(*map(_used_names, statement.decorator_list))
    is_plain = isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets)
    changes = isinstance(statement, ast.Expr | ast.AugAssign | ast.Assign) and not is_plain
    return _used_names(statement) if changes else set()


# -- declared dependencies ---------------------------------------------------------------------------------------


def declared_content(item: Any, guards: Guards) -> tuple[str, str, Digest]:
    """Return name, source text and digest of a module (for a package, of all its files), a path or a value.

    Raises:
        ValueNotStorable: the value is an iterator or an open file.
        PermissionError: the path is a file of a journal in use; in a folder such files are left out.
    """
    if isinstance(item, types.ModuleType):
        files = list(_files_in(_path_of_module(item), guards, "*.py"))
        return item.__name__, "\n".join(path.read_text("utf-8", "replace") for path in files), _modules_digest(files)
    if isinstance(item, Path):
        files = list(_files_in(item, guards, "*"))
        n_bytes = sum(path.stat().st_size for path in files)
        name = item.as_posix().encode("utf-8", "replace").decode()  # a file name may have any bytes
        return name, f"{name}: {n_bytes} bytes in {len(files)} files", _files_digest(item, files)
    digest = value_digest(item).digest
    return f"value {digest.hex()[2:10]}", shown(item), digest


def _path_of_module(module: types.ModuleType) -> Path:
    own = Path(getattr(module, "__file__", None) or module.__name__)
    return own.parent if own.name == "__init__.py" else own


def _files_in(place: Path, guards: Guards, pattern: str) -> Iterator[Path]:
    guards.file(place)
    if place.is_file():
        refuse_used(place)
        yield place
    for path in sorted(place.rglob(pattern)) if place.is_dir() else ():
        guards.file(path)
        if path.is_file() and "__pycache__" not in path.parts and journal_of(path) is None:
            yield path


def _modules_digest(files: list[Path]) -> Digest:
    trees = [written(without_docstrings(_module_tree(path))) for path in files]
    return digest_bytes(b"modules\0" + b"\0".join(trees))


def _module_tree(path: Path) -> ast.Module:
    try:
        return parse(path.read_bytes())
    except (SyntaxError, ValueError):  # its bytes are its identity
        return ast.Module([ast.Expr(ast.Constant(path.read_bytes()))], [])


def _files_digest(place: Path, files: list[Path]) -> Digest:
    """Return the digest of names and contents; a missing file differs from an empty one."""
    rows = [f"{path.relative_to(place).as_posix()}\0{content_digest(path)}" for path in files]
    return digest_bytes("\0".join(["files", *rows]).encode("utf-8", "surrogateescape"))
