"""Which code is the user's: only user code is followed, and not that of Python, of libraries or of this package."""

from __future__ import annotations

import builtins
import linecache
import site
import sys
import types
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from ironflow_nb.code_identity.source import function_source
from ironflow_nb.values.stored_code import note_of

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
    return is_user_file(function.__code__.co_filename)


def is_generated(function: types.FunctionType) -> bool:
    """Return True if the function was compiled from a text that was not kept, like the methods of dataclasses."""
    filename = function.__code__.co_filename
    # Python 3.13 keeps the text of `python -c` under "<string>", the name that generated code has too.
    is_kept = filename in linecache.cache and not (
        filename == "<string>" and isinstance(function_source(function), str)
    )
    return filename.startswith("<") and not is_kept and note_of(function) is None


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
