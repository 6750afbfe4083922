"""How a step is recognised: by what it was asked to do, not by where it stands."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ironflow_nb.core.ids import BranchId, Digest

RECIPE: Final = b"\x01"
"""The first byte of every digest: the recipe that made it."""

OWN_PREFIX: Final = "iron."
"""Stands before the names of recorded calls of the package; no function of a user can have such a name."""

ROOT_BRANCH: Final = BranchId("")


def digest_bytes(content: bytes) -> Digest:
    """Return the digest of `content` under the current recipe."""
    return Digest(RECIPE + blake2b(content, digest_size=19).digest())


def step_name(module: str | None, qualname: str) -> str:
    """Return the name of a function: its qualname in ``__main__``, elsewhere module and qualname."""
    local = qualname.replace("<locals>.", "")
    return local if module in {None, "", "__main__"} else f"{module}.{local}"


def step_identity(name: str, arguments: Digest) -> Digest:
    """Return the identity of a step that is recognised by its arguments."""
    return Digest(RECIPE + blake2b(arguments + name.encode(), digest_size=19).digest())


def keyed_identity(name: str, key: Digest) -> Digest:
    """Return the identity of a step that is recognised by its ``key=``."""
    return Digest(RECIPE + blake2b(key + b"key\0" + name.encode(), digest_size=19).digest())


def branch_id(parent: BranchId, name: str, arguments: Digest | None, nth: int) -> BranchId:
    """Return the path of a branch: its parent's and a word of name, arguments and which one among equals it is."""
    own = name.replace("%", "%25").replace("/", "%2F")
    word = f"{own}.{nth}" if arguments is None else f"{own}.{arguments.hex()[2:18]}.{nth}"
    return BranchId(f"{parent}/{word}")


def is_same_line(a: BranchId, b: BranchId) -> bool:
    """Tell whether one branch is the other, its ancestor or its descendant."""
    shorter, longer = sorted((a, b), key=len)
    return longer == shorter or longer.startswith(f"{shorter}/")
