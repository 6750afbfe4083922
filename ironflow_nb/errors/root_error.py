"""The root of every error: its ids are attributes that the class declares, and keywords of its constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, dataclass_transform

_PACKAGE: Final = __name__.rpartition(".")[0]


def _field(*, kw_only: bool = True) -> Any:  # noqa: ARG001 -- type checkers read it
    return None


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(_field,))
class _TypedAttributes:
    """Type checkers read the constructor of each error from the attributes that its class declares."""


class IronflowError(_TypedAttributes, Exception):
    """The root of every error that ironflow_nb raises."""

    __module__ = _PACKAGE

    if TYPE_CHECKING:
        message: str = _field(kw_only=False)
    else:

        def __init__(self, message: str, **attributes: object) -> None:
            super().__init__(message)
            kind = type(self)
            vars(self).update(
                {name: value for name, value in attributes.items() if value is not getattr(kind, name, kind)}
            )

        @property
        def message(self) -> str:
            """What was asked, what was found and what to do."""
            return str(self.args[0]) if self.args else ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.rpartition(".")[0] == _PACKAGE:
            cls.__module__ = _PACKAGE  # journals hold the name under which the error is caught
        # An attribute without a default can always be read, also of an error that was rebuilt from an older record.
        for name in vars(cls).get("__annotations__", ()):
            if name not in vars(cls):
                setattr(cls, name, None)

    @property
    def ids(self) -> dict[str, Any]:
        """The attributes of this error that have other values than its class gives them, by name."""
        # Older records of failures hold a copy under the name `ids`.
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "ids"}

    # OSError with one argument would hide the message behind errno.
    def __str__(self) -> str:
        return self.message

    # The constructor of a subclass may ask for something else than what the error consists of.
    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, vars(self))


def _rebuild(kind: type[IronflowError], message: str, attributes: dict[str, Any]) -> IronflowError:
    # `kind.__new__` is refused where RuntimeError stands before OSError among the bases, whose objects are larger.
    error = OSError.__new__(kind, message) if issubclass(kind, OSError) else Exception.__new__(kind, message)
    IronflowError.__init__(error, message, **attributes)
    return error


_rebuild.__module__ = _PACKAGE  # the name in pickles
