"""The source of functions and classes that run, even if their file was edited after the import; and who wrote them.

Only the user's code is followed, and not that of Python, of libraries or of this package.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import linecache
import site
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final

import msgspec

from ironflow_nb.code_identity.syntax import FunctionNode, named_tree, parse, statement
from ironflow_nb.values.classes import note_of

NO_SOURCE: Final = "no source: known by its bytecode"
NO_SOURCE_OF_CLASS: Final = "no source, or another one by now: known by its methods and constants"
EDITED: Final = "edited on disk and not imported again: known by its bytecode"
_FUTURES: Final = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names[2:])


class Source(msgspec.Struct, frozen=True):
    """The source of a function or class. The caller may change `tree`, except that of a lambda."""

    text: str
    file: str
    line: int
    tree: ast.AST


def function_source(function: types.FunctionType) -> Source | str:
    """Return the source of the function itself, not of one that it wraps; or the reason why it can't be found."""
    code = function.__code__
    lines = _lines(code.co_filename, function.__globals__)
    if not 0 < code.co_firstlineno <= len(lines):
        return NO_SOURCE
    found = _lambda_source(code, lines) if code.co_name == "<lambda>" else _def_source(code, lines)
    if found is not None and _is_source_of([function], found, lines):
        return found
    # A reload in place may give the code other line numbers.
    others = _sources_by_name(function, lines) if _is_a_file(code.co_filename) else ()
    running = (other for other in others if _is_source_of([function], other, lines))
    return next(running, EDITED if _is_a_file(code.co_filename) else NO_SOURCE)


def _sources_by_name(function: types.FunctionType, lines: list[str]) -> Iterator[Source]:
    """Yield the source of each function in the file that has the same qualified name."""
    for node in _definitions(lines, function.__qualname__):
        first, last = _lines_of(node)
        text = textwrap.dedent("".join(lines[first - 1 : last]))
        tree = named_tree(text, function.__code__.co_name)
        if tree is not None:
            yield Source(text, function.__code__.co_filename, first, tree)


def class_source(kind: type, methods: list[types.FunctionType], namespace: dict[str, Any]) -> Source | None:
    """Return the source of the class, or None; in a notebook, of the last cell that defines the same names."""
    for filename in _files_of(kind, methods, namespace):
        lines = _lines(filename, namespace)
        found = _class_lines(lines, kind, methods)
        if found is not None:
            text = textwrap.dedent("".join(lines[found[0] - 1 : found[1]]))
            tree = statement(text)
            source = None if tree is None else Source(text, filename, found[0], tree)
            return source if source is not None and _is_source_of(methods, source, lines) else None
    return None


def _lines(filename: str, namespace: dict[str, Any]) -> list[str]:
    linecache.checkcache(filename)
    return linecache.getlines(filename, namespace)


def _is_a_file(filename: str) -> bool:
    """Return True if the source may change after it was compiled; the source of a cell does not change."""
    entry = linecache.cache.get(filename)
    return entry is not None and len(entry) > 1 and entry[1] is not None


# A flow asks for the sources of what it refers to, and of the function around it, again and again.
_block: Final = lru_cache(maxsize=64)(inspect.getblock)


@lru_cache(maxsize=64)
def decorated(text: str) -> tuple[ast.AST, ...]:
    """Return what has a decorator in the source of a function, cached: it must not be changed."""
    return tuple(node for node in ast.walk(statement(text) or ast.Pass()) if getattr(node, "decorator_list", ()))


def _def_source(code: types.CodeType, lines: list[str]) -> Source | None:
    try:
        text = textwrap.dedent("".join(_block(tuple(lines[code.co_firstlineno - 1 :]))))
    except (SyntaxError, TokenError):  # the file was replaced, or is being edited
        return None
    tree = named_tree(text, code.co_name)
    return None if tree is None else Source(text, code.co_filename, code.co_firstlineno, tree)


# -- lambdas -----------------------------------------------------------------------------------------------------------


def _lambda_source(code: types.CodeType, lines: list[str]) -> Source | None:
    text = "".join(lines)
    fitting = [node for node in _lambdas(text) if node.lineno == code.co_firstlineno and _has_arguments_of(node, code)]
    spans = [span for span in map(_span, code.co_positions()) if span is not None]
    inside = [node for node in fitting if spans and all(_covers(node.body, span) for span in spans)]
    if not spans and len(fitting) > 1:  # Python 3.12 gives the body of `lambda: 1` no position
        fitting = [
            node for node in fitting if _compiles_to(ast.get_source_segment(text, node) or "", [code], "co_name")
        ]
    # An outer lambda covers and contains a nested one, so the innermost is taken. Equal lambdas are interchangeable.
    node = max(inside if spans else fitting, key=_begins, default=None)
    if node is None:
        return None
    return Source(ast.get_source_segment(text, node) or "", code.co_filename, node.lineno, node)


@lru_cache(maxsize=64)
def _lambdas(text: str) -> tuple[ast.Lambda, ...]:
    tree = parsed(text)
    return () if tree is None else tuple(node for node in ast.walk(tree) if isinstance(node, ast.Lambda))


def _has_arguments_of(node: ast.Lambda, code: types.CodeType) -> bool:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return names == list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _span(position: tuple[int | None, ...]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    match position:
        case int(line), int(end_line), int(column), int(end_column) if (line, column) != (end_line, end_column):
            return (line, column), (end_line, end_column)
    return None  # an operation that the compiler added


def _covers(node: ast.expr, span: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return _begins(node) <= span[0] and span[1] <= (node.end_lineno or 0, node.end_col_offset or 0)


def _begins(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


# -- classes -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def parsed(text: str) -> ast.Module | None:
    """Return the cached syntax tree of the text, which must not be changed; None if the text is not Python."""
    try:
        return parse(text)
    except (SyntaxError, ValueError):
        return None


def _files_of(kind: type, methods: list[types.FunctionType], namespace: Mapping[str, Any]) -> Iterator[str]:
    files = [method.__code__.co_filename for method in methods]
    if isinstance(own := namespace.get("__file__"), str):
        files.append(own)
    yield from dict.fromkeys(files)
    if not methods:  # no code object names the cell: try all cells, the last one first
        for filename, entry in reversed(list(linecache.cache.items())):
            if len(entry) > 2 and entry[1] is None and any(kind.__name__ in line for line in entry[2]):
                yield filename


def _class_lines(lines: list[str], kind: type, methods: list[types.FunctionType]) -> tuple[int, int] | None:
    """Return the first and the last line of the class in the file, or None."""
    numbers = {method.__code__.co_firstlineno for method in methods}
    first = vars(kind).get("__firstlineno__")  # since Python 3.13
    nodes = [node for node in _definitions(lines, kind.__qualname__) if isinstance(node, ast.ClassDef)]
    spans = [_lines_of(node) for node in nodes if _defines(node, kind, is_exact=not methods)]
    exact = [span for span in spans if span[0] == first or any(span[0] <= number <= span[1] for number in numbers)]
    fitting = exact or spans
    return fitting[-1] if fitting else None


def _definitions(lines: list[str], qualname: str) -> Iterator[FunctionNode | ast.ClassDef]:
    """Return the definitions of that qualified name, in the order of the file."""
    tree = parsed("".join(lines))
    return iter(()) if tree is None else _definitions_in(tree, qualname.replace("<locals>.", "").split("."))


def _definitions_in(tree: ast.AST, path: list[str]) -> Iterator[FunctionNode | ast.ClassDef]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | FunctionNode) and node.name == path[0]:
            if len(path) > 1:
                yield from _definitions_in(node, path[1:])
            else:
                yield node
        elif not isinstance(node, ast.expr | ast.ClassDef | FunctionNode):
            yield from _definitions_in(node, path)


def _lines_of(node: FunctionNode | ast.ClassDef) -> tuple[int, int]:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]), node.end_lineno or 0


def _defines(node: ast.ClassDef, kind: type, *, is_exact: bool) -> bool:
    """Return True if the class has the names that this body defines, and with `is_exact` no other names.

    The exact test is for classes without methods, because only a method's code names the file.
    """
    known = {*vars(kind), *vars(kind).get("__annotations__", ()), *getattr(kind, "__struct_fields__", ())}
    targets = [target for item in node.body if isinstance(item, ast.Assign) for target in item.targets]
    targets += [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    names |= {item.name for item in node.body if isinstance(item, ast.ClassDef if is_exact else FunctionNode)}
    return _public(names) <= known and (not is_exact or _public(vars(kind)) <= names)


def _public(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


# -- comparing source with running code --------------------------------------------------------------------------------


def _is_source_of(functions: list[types.FunctionType], found: Source, lines: list[str]) -> bool:
    """Return True if the source compiles to the functions: a file may have been edited after it was imported."""
    if not functions or not _is_a_file(found.file) or _is_transformed(functions[0].__globals__):
        return True
    running = [function.__code__ for function in functions]
    # Compiled alone, a function with a closure or a method gets other code than within its file.
    return _compiles_to(found.text, running, "co_name") or _compiles_to("".join(lines), running, "co_qualname")


def _compiles_to(text: str, running: list[types.CodeType], name: str) -> bool:
    """Return True if each of the codes that run is among those of the text, under its name."""
    compiled = _compiled_codes(text, running[0].co_flags & _FUTURES)
    return all(
        any(getattr(each, name) == getattr(code, name) and _is_same_code(each, code) for each in compiled)
        for code in running
    )


def _is_transformed(namespace: Mapping[str, Any]) -> bool:
    """Return True if an import hook (of pytest or a type checker) changes the source before it is compiled."""
    kind = type(namespace.get("__loader__"))
    return kind.__module__ not in {"builtins", "_frozen_importlib", "_frozen_importlib_external"}


@lru_cache(maxsize=64)
def _compiled_codes(text: str, flags: int) -> tuple[types.CodeType, ...]:
    try:
        return tuple(codes(compile(text, "<tracking>", "exec", flags=flags, dont_inherit=True)))
    except (SyntaxError, ValueError):
        return ()


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield the code and all codes nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def _is_same_code(a: types.CodeType, b: types.CodeType) -> bool:
    """Return True if two codes have equal instructions, names and constants; their positions may differ."""
    if (a.co_code, a.co_names, a.co_varnames, a.co_freevars) != (b.co_code, b.co_names, b.co_varnames, b.co_freevars):
        return False
    return len(a.co_consts) == len(b.co_consts) and all(map(_is_same_constant, a.co_consts, b.co_consts))


def _is_same_constant(a: object, b: object) -> bool:
    if isinstance(a, types.CodeType) and isinstance(b, types.CodeType):
        return _is_same_code(a, b)
    return repr(a) == repr(b) or (isinstance(a, frozenset) and a == b)


# -- whose code it is --------------------------------------------------------------------------------------------------


_LIBRARY_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_OWN_FOLDER: Final = str(Path(__file__).parent.parent)


@cache
def _library_paths() -> tuple[str, ...]:
    import sysconfig

    schemes = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths = [*schemes, site.getusersitepackages() if site.ENABLE_USER_SITE else None, _OWN_FOLDER]
    found = {path for path in paths if path} | {str(Path(path).resolve()) for path in paths if path}
    return tuple(f"{path}/".replace("\\", "/") for path in sorted(found))


@lru_cache(maxsize=4096)
def is_user_file(filename: str) -> bool:
    """Return True if the file is a module, a script or a cell of the user."""
    if filename.startswith(("<frozen ", "<attrs ", "<__array_function__")):
        return False
    path = filename.replace("\\", "/")
    return not path.startswith(_library_paths()) and _LIBRARY_FOLDERS.isdisjoint(path.split("/"))


def is_user_function(function: types.FunctionType) -> bool:
    """Return True if the user wrote the function; a generated function belongs to the module of its globals."""
    if is_generated(function):
        return _is_user_namespace(function.__globals__)
    return is_user_file(_origin(function).file)


def is_generated(function: types.FunctionType) -> bool:
    """Return True if the function was compiled from a text that was not kept, like the methods of dataclasses."""
    origin = _origin(function)
    return origin.file.startswith("<") and not origin.source


class _Origin(msgspec.Struct, frozen=True):
    """Where a function was compiled, and something of its source if that was kept; also read from a note."""

    file: str
    source: str


def _origin(function: types.FunctionType) -> _Origin:
    filename, note = function.__code__.co_filename, note_of(function)
    if note is not None:  # a pickler may give code another file name
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(note, type=_Origin)
    # Python 3.13 keeps the text of `python -c` under "<string>", the name that generated code has too.
    is_kept = filename in linecache.cache and not (
        filename == "<string>" and isinstance(function_source(function), str)
    )
    return _Origin(filename, filename if is_kept else "")


def is_user_class(kind: type) -> bool:
    """Return True if the user wrote the class."""
    if not kind.__flags__ & 1 << 9 or vars(builtins).get(kind.__name__) is kind:  # Py_TPFLAGS_HEAPTYPE
        return False
    if kind.__module__ in {"__main__", "builtins"}:  # "builtins" for an exec in a namespace without `__name__`
        return True
    module = sys.modules.get(kind.__module__)
    return module is None or is_user_module(module)


def is_user_module(module: types.ModuleType) -> bool:
    """Return True if the module is the user's."""
    return module.__name__ not in sys.builtin_module_names and _is_user_namespace(vars(module))


def _is_user_namespace(namespace: dict[str, Any]) -> bool:
    filename = namespace.get("__file__")
    if isinstance(filename, str):
        return is_user_file(filename)
    # A namespace package has folders and no file; a built-in C module has neither.
    folders = list(namespace.get("__path__", ()))
    return all(is_user_file(f"{folder}/") for folder in folders)
