"""Definitions in classes: taken of an object or class they are bound to it, as methods are."""

from __future__ import annotations

import types
from typing import Any, Final, Self

from ironflow_nb.errors import DefinitionError

_INSIDE: Final = frozenset({"bound_to", "receiver", "refuse_lost_class", "getdoc", "spec"})
"""What is the package's own, and nothing to choose from with Tab."""


class Bindable:
    """A step or flow that may stand in the body of a class.

    `fn` is the undecorated function; of a bound definition it is bound as well, and `receiver` holds what to.
    """

    fn: Any

    def __init__(self, given: Any) -> None:
        """Take what was decorated: a function, or a class method or static method around one."""
        self._given = given
        self.receiver: tuple[Any, ...] = ()
        self.fn = given.__func__ if isinstance(given, classmethod | staticmethod) else given

    def bound_to(self, instance: object, owner: type | None) -> Self:
        """Return the definition bound as what was decorated would be; itself, if that takes no receiver."""
        get = None if self.receiver else getattr(type(self._given), "__get__", None)
        fn = self.fn if get is None else get(self._given, instance, owner)
        if fn is self.fn:
            return self
        bound = object.__new__(type(self))  # copy.copy takes six times as long, at every call
        vars(bound).update(vars(self))
        bound.fn, bound.receiver = fn, (fn.__self__,)
        return bound

    @property
    def __self__(self) -> Any:
        """What it is bound to, for `functools.partialmethod` and whoever else asks methods."""
        if not self.receiver:
            raise AttributeError("it is bound to nothing", name="__self__", obj=self)
        return self.receiver[0]

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INSIDE]

    def refuse_lost_class(self) -> None:
        """Refuse what Python takes past the class since 3.13: an attribute of a class method around a definition.

        Raises:
            DefinitionError: that is so; the first item would be taken for the class.
        """
        code = getattr(self._given, "__code__", None)
        if (
            self.receiver
            or not isinstance(code, types.CodeType)
            or code.co_varnames[: code.co_argcount][:1] != ("cls",)
        ):
            return
        raise DefinitionError(
            f"{self._given.__qualname__} is a class method whose class is not known here; write its decorator above "
            "@classmethod and not below it",
            name=self._given.__qualname__,
        )
