"""What the expressions of a block see while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ironflow_nb.core.ids import BranchId


class Frame(Mapping[str, Any]):
    """Names and their values: of this block, then of the ones around it. That each is there was seen when compiling."""

    __slots__ = ("branch", "outer", "own")

    def __init__(self, own: dict[str, Any], outer: Frame | None, branch: BranchId) -> None:
        self.own = own
        self.outer = outer
        self.branch = branch

    def inside(self, own: dict[str, Any], branch: BranchId | None = None) -> Frame:
        """Return the frame of a block inside of this one."""
        return Frame(own, self, self.branch if branch is None else branch)

    def put(self, name: str, value: Any) -> None:
        """Let the name be seen from now on."""
        self.own[name] = value

    def __getitem__(self, name: str) -> Any:
        frame: Frame | None = self
        while frame is not None:
            if name in frame.own:
                return frame.own[name]
            frame = frame.outer
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        seen: set[str] = set()
        frame: Frame | None = self
        while frame is not None:
            yield from (name for name in frame.own if name not in seen)
            seen |= frame.own.keys()
            frame = frame.outer

    def __len__(self) -> int:
        return sum(1 for _ in self)
