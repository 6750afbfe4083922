"""What a graph may touch outside of itself: hosts, folders, programs, variables, modules.

A graph that is read from a text may touch nothing but what its ``allow`` names; one that is built in Python may touch
everything, unless it says otherwise. Denied is an error of `validate` where the text tells what a node will ask for,
else of the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec

from ironflow_nb.errors import NotGranted

Grant: TypeAlias = Literal["http", "files", "shell", "env", "lambda", "python"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "http": {
            "description": "hosts: example.org is that host on the ports of http and https, example.org:8080 that "
            "host and port, *.example.org every host below it; true is every host",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "files": {
            "description": "folders and files, relative to the folder of the graph's own file, or the working "
            "directory; true is every file",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "shell": {
            "description": "true is every program; a list names programs, for commands that are lists themselves",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "env": {
            "description": "variables of the environment, for env, for secrets and for the programs of shell nodes",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "lambda": {
            "description": "functions of AWS Lambda; true is every function",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "python": {
            "description": "modules of which python nodes may import functions; those of the notebook need no grant",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
    },
}


class Need(NamedTuple):
    """One thing that a node will ask for: a URL for ``http``, a path, a program, a name."""

    grant: Grant
    what: str


class Grants(msgspec.Struct, frozen=True):
    """What is granted: for each kind True for everything, else names. `base` is where relative paths start."""

    allowed: Mapping[str, bool | tuple[str, ...]]
    base: str = "."

    @classmethod
    def of(cls, allow: Mapping[str, Any] | None, *, base: str | None = None) -> Grants:
        """Return the grants that an ``allow`` says; of None, everything."""
        if allow is None:
            return cls(dict.fromkeys(("http", "files", "shell", "env", "lambda", "python"), True), base or ".")
        allowed = {kind: names if isinstance(names, bool) else tuple(names) for kind, names in allow.items()}
        return cls(allowed, base or ".")

    def within(self, other: Grants) -> Grants:
        """Return what both of them grant by name; everything of one is what the other names."""
        kinds = self.allowed.keys() & other.allowed.keys()
        return Grants({kind: _both(self.allowed[kind], other.allowed[kind]) for kind in kinds}, self.base)

    def refusal(self, need: Need) -> str | None:
        """Return why the need is not granted, and what would grant it; None if it is granted."""
        allowed = self.allowed.get(need.grant, False)
        if allowed is True:
            return None
        names = () if allowed is False else allowed
        match need.grant:
            case "http":
                is_granted, wanted = _is_host_granted(need.what, names), host_of(need.what)
            case "files":
                is_granted, wanted = self._is_path_granted(need.what, names), need.what
            case "python":
                is_granted = any(need.what == name or need.what.startswith(f"{name}.") for name in names)
                wanted = need.what.rpartition(".")[0] or need.what
            case _:
                is_granted, wanted = need.what in names, need.what
        if is_granted:
            return None
        granted = f"granted are {', '.join(names)}" if names else "nothing of it is granted"
        return f"{need.grant} {wanted!r} is not granted ({granted}); to grant it: allow: {{{need.grant}: [{wanted}]}}"

    def require(self, need: Need) -> None:
        """Refuse what is not granted.

        Raises:
            NotGranted: it is not.
        """
        refusal = self.refusal(need)
        if refusal is not None:
            raise NotGranted(refusal, grant=need.grant, what=need.what)

    def path(self, text: str) -> Path:
        """Return the path, resolved with all its links.

        Raises:
            NotGranted: it leads outside of what is granted.
        """
        self.require(Need("files", text))
        return self.resolved(text)

    def resolved(self, text: str) -> Path:
        """Return where a path leads, from the folder of the graph, with all its links followed."""
        return (Path(self.base) / Path(text).expanduser()).resolve()

    def _is_path_granted(self, text: str, names: tuple[str, ...]) -> bool:
        if "\0" in text:
            return False
        path = self.resolved(text)
        return any(path.is_relative_to(self.resolved(root)) for root in names)


def _both(one: bool | tuple[str, ...], other: bool | tuple[str, ...]) -> bool | tuple[str, ...]:  # noqa: FBT001
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return tuple(name for name in one if name in other)


def host_of(url: str) -> str:
    """Return the host of a URL, with its port where that is not the one of its scheme."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    try:
        port = parts.port
    except ValueError:
        port = -1
    return host if port in {None, DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{port}"


def _is_host_granted(url: str, names: tuple[str, ...]) -> bool:
    host = host_of(url)
    return bool(host) and any(_is_same_host(host, name.lower()) for name in names)


def _is_same_host(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
