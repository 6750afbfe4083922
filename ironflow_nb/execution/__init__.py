"""The engine: runs and steps are performed, recorded and replayed here.

`__init__.pyi` is its front door: it lists what other rooms may use, and each name is imported when it is first used. A
style performs steps through `durable_calls`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
