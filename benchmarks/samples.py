"""The words that the workloads have in common."""

from __future__ import annotations

from typing import TypeAlias, TypedDict

Figures: TypeAlias = dict[str, float]
"""What one repetition of a workload found, by name: seconds, unless the table says something else."""


class Sample(TypedDict):
    """What a step of the benchmarks returns."""

    n: int
    text: str
