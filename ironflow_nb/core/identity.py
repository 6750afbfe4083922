"""Identifiers and identities: runs have random ids; steps are recognised by what they were called with."""

from __future__ import annotations

import re
from hashlib import blake2b
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
"""The number of shown characters of a run's id. Among 1,000 runs, the probability that two share them is 1 in 2,000."""
RUN_ID_ENTROPY_BYTES: Final = 8
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# Crockford's rules for reading characters that look alike.
_READ_AS: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None})


def run_id(entropy: bytes) -> RunId:
    """Return the run id made of the first 60 bits of `entropy`."""
    number = int.from_bytes(entropy[:RUN_ID_ENTROPY_BYTES], "big") >> 4
    return RunId("".join([_CROCKFORD[(number >> shift) & 31] for shift in range(55, -1, -5)]))


def run_id_prefix(text: str) -> str | None:
    """Return `text` as the prefix of a run id, or None if no run id can begin with it."""
    prefix = text.strip().lower().translate(_READ_AS)
    if not prefix or len(prefix) > RUN_ID_LENGTH or any(c not in _CROCKFORD for c in prefix):
        return None
    return prefix


def step_ref(name: str, index: int) -> StepRef:
    """Return the reference of the step `name` with that zero-based index."""
    return StepRef(f"{name}[{index}]")


def parse_step_ref(text: str) -> tuple[str, int | None]:
    """Split ``fetch[12]`` into name and index. A text without an index has the index None."""
    if text.endswith("]"):
        name, _, index = text[:-1].rpartition("[")
        if name and index.isdecimal():
            return name, int(index)
    return text, None


RECIPE: Final = b"\x01"
"""The first byte of every digest: the recipe that made it."""

OWN_PREFIX: Final = "iron."
"""The prefix of the package's own recorded calls. A function of a user can't have such a name."""

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
    """Return the path of a branch: the parent's path, and a word of name, arguments and number among equal branches."""
    own = name.replace("%", "%25").replace("/", "%2F")
    word = f"{own}.{nth}" if arguments is None else f"{own}.{arguments.hex()[2:18]}.{nth}"
    return BranchId(f"{parent}/{word}")


def task_name(branch: BranchId) -> str:
    """Return the name of the function that a branch runs, without what it is defined in; empty for the flow's own."""
    word: str = re.sub(r"(\.[0-9a-f]{16})?\.[0-9]+$", "", branch.rpartition("/")[2])
    return word.rpartition(".")[2].replace("%2F", "/").replace("%25", "%")


def is_same_line(a: BranchId, b: BranchId) -> bool:
    """Return True if one branch is the other, its ancestor or its descendant."""
    shorter, longer = sorted((a, b), key=len)
    return longer == shorter or longer.startswith(f"{shorter}/")
