"""Arguments that do their work without identifying it: clients, connections, loggers."""

from __future__ import annotations

from typing import Any, TypeVar, cast

T = TypeVar("T")


class Resource:
    """A wrapper that a step takes off before its body runs; outside of steps it passes everything on."""

    __slots__ = ("wrapped",)

    def __init__(self, wrapped: object) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped" or name.startswith("__"):  # asked by copy and pickle before anything is wrapped
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what is wrapped."""
        return self.wrapped(*args, **kwargs)  # type: ignore[operator]

    def __repr__(self) -> str:
        return f"resource({self.wrapped!r})"


def resource(wrapped: T) -> T:
    """Return `wrapped` as an argument that does not identify a step: another one of its class is as good."""
    return cast("T", wrapped if isinstance(wrapped, Resource) else Resource(wrapped))
