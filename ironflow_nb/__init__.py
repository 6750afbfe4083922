"""Durable workflows in Jupyter: lose the kernel, run the cell again, and it continues."""

import builtins as _builtins

import lazy_loader as _lazy

from ironflow_nb._version import __version__ as __version__

# __init__.pyi lists the public names. Each is imported when it is first used.
_lazy_name, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

# `from ironflow_nb import *` must not take anybody's open() away.
__all__ = [name for name in __all__ if not hasattr(_builtins, name)]


def __getattr__(name: str) -> object:
    """Return the public name, or the error class that `dir()` shows only in `ironflow_nb.errors`."""
    try:
        return _lazy_name(name)
    except AttributeError:
        from ironflow_nb import errors

        found = getattr(errors, name, None)
        if isinstance(found, type) and issubclass(found, errors.IronflowError):
            return found
        from difflib import get_close_matches

        near = get_close_matches(name, __dir__(), n=1, cutoff=0.75)
        advice = f"did you mean {near[0]}?" if near else "docs/comparison.md has the names of other tools"
        raise AttributeError(f"ironflow_nb has no {name}; {advice}", name=name) from None
