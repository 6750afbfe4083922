"""Durable workflows in Jupyter: lose the kernel, run the cell again, and it continues."""

import builtins as _builtins

import lazy_loader as _lazy

from ironflow_nb._version import __version__ as __version__

# Every name stands once, in __init__.pyi, and is imported by who first asks for it.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

# `from ironflow_nb import *` must not take anybody's open() away.
__all__ = [name for name in __all__ if not hasattr(_builtins, name)]
