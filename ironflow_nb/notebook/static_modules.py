"""The modules of `static/` as widgets take them: one text each, with what they import inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_STATIC: Final = Path(__file__).parent / "static"
_IMPORT: Final = re.compile(r'^import (\{[^}]*\}) from "\./(\w+\.js)";$', re.MULTILINE)
_LIST: Final = re.compile(r"^export \{([^}]*)\};.*$", re.MULTILINE)
_DECLARED: Final = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_DEFAULT: Final = re.compile(r"^export default .*;$", re.MULTILINE)


def module_text(name: str) -> str:
    """Return a module as one text, in which each module that it imports is a function that is called once.

    A page that is served imports them as they are. A widget has one text, and can fetch nothing.
    """
    inner: dict[str, str] = {}
    own = _with_names(name, inner)
    return "\n".join([*inner.values(), _LIST.sub("", _DECLARED.sub("", own))])


def style_text(*names: str) -> str:
    """Return style sheets as one text."""
    return "\n".join((_STATIC / name).read_text("utf-8") for name in names)


def _with_names(name: str, inner: dict[str, str]) -> str:
    """Return a module that takes what it imports from constants, and add those modules to `inner` before."""
    source = (_STATIC / name).read_text("utf-8")
    for _, other in _IMPORT.findall(source):
        if other not in inner:
            module = _with_names(other, inner)
            inner[other] = f"const {_constant(other)} = (() => {{\n{_as_body(module)}\n}})();"
    return _IMPORT.sub(lambda found: f"const {found[1].replace(' as ', ': ')} = {_constant(found[2])};", source)


def _as_body(module: str) -> str:
    """Return the body of a function that returns what the module exports."""
    exported = [*_DECLARED.findall(module), *(each for names in _LIST.findall(module) for each in names.split(","))]
    inside = _LIST.sub("", _DEFAULT.sub("", _DECLARED.sub("", module)))
    return f"{inside}\nreturn {{ {', '.join(sorted({each.strip() for each in exported} - {''}))} }};"


def _constant(name: str) -> str:
    return f"module_{Path(name).stem}"
