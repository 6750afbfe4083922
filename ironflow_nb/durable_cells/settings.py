"""Statements that only set something up in the process, which a restored cell does again: they leave no name behind."""

from __future__ import annotations

import ast
from typing import Final

from ironflow_nb.tracking.tree import dotted

_MAGICS: Final = frozenset(
    {"load_ext", "reload_ext", "matplotlib", "config", "cd", "env", "set_env", "autoreload", "precision", "xmode"}
)
_CALLS: Final = frozenset(
    {
        "path.append", "path.insert", "chdir", "set_option", "seed", "style.use", "rcParams.update", "filterwarnings",
        "simplefilter", "set_theme", "set_style", "basicConfig", "load_dotenv", "setlocale", "environ.setdefault",
        "environ.update", "options.display",
    }
)  # fmt: skip
_TARGETS: Final = frozenset({"environ", "options", "rcParams"})


def is_setting(node: ast.stmt) -> bool:
    """Tell whether the statement is known to set something up: a search path, an option, a seed, an extension."""
    match node:
        case ast.Expr(value=ast.Call() as call):
            return _is_setting_call(call)
        case ast.Assign(targets=[ast.Subscript(value=target)]) | ast.Assign(targets=[ast.Attribute(value=target)]):
            return not _TARGETS.isdisjoint(dotted(target))
    return False


def _is_setting_call(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "run_line_magic":
        first = call.args[0] if call.args else None
        return isinstance(first, ast.Constant) and first.value in _MAGICS
    names = dotted(call.func)
    return ".".join(names[-2:]) in _CALLS or (bool(names) and names[-1] in _CALLS)
