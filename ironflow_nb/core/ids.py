"""The identifiers of the package, and how they look."""

from __future__ import annotations

from typing import Final, NewType

RunId = NewType("RunId", str)
"""Twelve lower-case characters of Crockford's base 32; any unique prefix names the run."""

StepRef = NewType("StepRef", str)
"""A step of a run: its name and its zero-based index, ``fetch[12]``."""

BranchId = NewType("BranchId", str)
"""The path of a branch inside a run; the flow's own branch is the empty path."""

Digest = NewType("Digest", bytes)
"""Twenty bytes; the first names the recipe that made the other nineteen."""

ValueId = NewType("ValueId", bytes)
"""Twenty bytes: the hash of a value's codec and stored bytes."""

RUN_ID_LENGTH: Final = 12
ID_SHOWN: Final = 6
"""How many characters of a run's id are shown: two of a thousand runs share them in one journal of two thousand."""
RUN_ID_ENTROPY_BYTES: Final = 8
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# Crockford's reading rules: what a person may have typed for a character that looks alike.
_READ_AS: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None})


def run_id(entropy: bytes) -> RunId:
    """Return the run id made of the first 60 bits of `entropy`."""
    number = int.from_bytes(entropy[:RUN_ID_ENTROPY_BYTES], "big") >> 4
    return RunId("".join(_CROCKFORD[(number >> shift) & 31] for shift in range(55, -1, -5)))


def run_id_prefix(text: str) -> str | None:
    """Return `text` as the prefix of a run id, or None if no id can begin like that."""
    prefix = text.strip().lower().translate(_READ_AS)
    if not prefix or len(prefix) > RUN_ID_LENGTH or any(c not in _CROCKFORD for c in prefix):
        return None
    return prefix


def step_ref(name: str, index: int) -> StepRef:
    """Return the reference of the step `name` with that zero-based index."""
    return StepRef(f"{name}[{index}]")


def parse_step_ref(text: str) -> tuple[str, int | None]:
    """Split ``fetch[12]`` into name and index; the index is None where the text has none."""
    if text.endswith("]"):
        name, _, index = text[:-1].rpartition("[")
        if name and index.isdecimal():
            return name, int(index)
    return text, None
