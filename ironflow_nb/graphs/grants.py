"""What a graph may touch outside of itself: hosts, folders, programs, variables, modules.

A graph that is read from a text may touch nothing but what its ``allow`` names; one that is built in Python may touch
everything, unless it says otherwise. Denied is an error of `validate` where the text tells what a node will ask for,
else of the node.

Hosts of URLs, and the names that mean them in ``allow`` and in ``auth``.

A URL is read here more strictly than anywhere else: what two readers could take for different hosts, with backslashes,
control characters, escapes or other digits in it, has no host at all, so that what is checked is what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from ironflow_nb.errors import NotGranted

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

HOST_PATTERN: Final = r"^(\*\.)?[^\s/?#@*\\%]+$"
"""What a name of hosts looks like, for schemas; `means` is stricter."""

_URL: Final = re.compile(r"(https?)://([^/?#\\\s]+)(?=[/?#]|\Z)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::([0-9]{0,5}))?", re.ASCII)
_LABELS: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBERS: Final = re.compile(r"[0-9.]+|.*\.0x[0-9a-f]*|0x[0-9a-f]*")
"""What some resolvers take for an address."""


class UrlOrigin(NamedTuple):
    """Where a URL leads; two with the same origin are on one server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def origin_of(url: str) -> UrlOrigin | None:
    """Return where the URL leads; None of what is no plain http or https URL."""
    found = _URL.match(url)
    if found is None:
        return None
    scheme = found[1].lower()
    read = _read(found[2].rpartition("@")[2])
    if read is None:
        return None
    host, port = read
    return UrlOrigin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)


def host_of(url: str) -> str:
    """Return the host of a URL, with its port where that is not the one of its scheme; "" where there is none."""
    return str(origin_of(url) or "")


def matches_host(name: str, origin: UrlOrigin) -> bool:
    """Tell whether a name in ``allow`` or ``auth`` means that host, on that port."""
    read = _read(name.removeprefix("*."))
    if read is None:
        return False
    host, port = read
    if origin.port != (DEFAULT_PORTS[origin.scheme] if port is None else port):
        return False
    return _is_below(origin.host, host) if name.startswith("*.") else origin.host == host


def covers_hosts(wide: str, narrow: str) -> bool:
    """Tell whether everything that the one name means is meant by the other too."""
    reads = [_read(name.removeprefix("*.")) for name in (wide, narrow)]
    if reads[0] is None or reads[1] is None or reads[0][1] != reads[1][1]:
        return False
    (outer, _), (inner, _) = reads[0], reads[1]
    if not wide.startswith("*."):
        return not narrow.startswith("*.") and inner == outer
    return _is_below(inner, outer) or (narrow.startswith("*.") and inner == outer)


def common_hosts(ones: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """Yield names that together mean the hosts that both sides mean."""
    yield from (name for name in ones if any(covers_hosts(other, name) for other in others))
    yield from (name for name in others if any(covers_hosts(one, name) for one in ones))


def _is_below(host: str, domain: str) -> bool:
    return host.endswith(f".{domain}") and not _NUMBERS.fullmatch(host)


def _read(authority: str) -> tuple[str, int | None] | None:
    """Return host and port of ``host:port``; None if it is none."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    host = _canonical(found[1])
    port = int(found[2]) if found[2] else None
    if host is None or (port is not None and not 0 < port < 65536):
        return None
    return host, port


def _canonical(host: str) -> str | None:
    """Return the host as every way of writing it is compared: lower case, ASCII, without the dot of the root."""
    if host.startswith("["):
        return _canonical_address(host[1:-1])
    host = host.lower()
    if not host.isascii():
        import idna

        try:
            # As httpx does it, so that what is compared is what is connected to.
            host = idna.encode(host).decode("ascii")
        except UnicodeError:
            return None
    return host.removesuffix(".") if _LABELS.fullmatch(host) else None


def _canonical_address(text: str) -> str | None:
    from ipaddress import AddressValueError, IPv6Address

    try:
        return f"[{IPv6Address(text).compressed}]"
    except AddressValueError:
        return None


Grant: TypeAlias = Literal["http", "files", "shell", "shell_env", "env", "keyring", "lambda", "python"]
GRANT_NAMES: Final[tuple[Grant, ...]] = get_args(Grant)

SHELL_TEXT: Final = "a text for the shell"
"""What a command that is no list asks for: the shell itself, which only ``shell: true`` grants."""

GRANTS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "http": {
            "description": "hosts: example.org is that host on the ports of http and https, example.org:8080 that "
            "host and port, *.example.org every host below it; true is every host",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "pattern": HOST_PATTERN}}],
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
        "shell_env": {
            "description": "variables that shell nodes may set for the programs that are granted by name: some choose "
            "which code these run (PATH, LD_PRELOAD, BASH_ENV, PYTHONPATH); shell: true grants all",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "env": {
            "description": "variables of the environment, for env, for secrets and for the programs of shell nodes",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "keyring": {
            "description": "entries of the keyring of the system that secrets may come from, each as SERVICE/NAME",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "lambda": {
            "description": "functions of AWS Lambda; true is every function",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "python": {
            "description": "modules and functions that python nodes may call; functions that the notebook defines need "
            "no grant, those that it has imported or that Python brings along do",
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
            return cls(dict.fromkeys(GRANT_NAMES, True), base or ".")
        allowed = {kind: names if isinstance(names, bool) else tuple(names) for kind, names in allow.items()}
        if allowed.get("shell") is True:  # the whole shell can set any variable by itself
            allowed["shell_env"] = True
        return cls(allowed, base or ".")

    def within(self, other: Grants) -> Grants:
        """Return what both of them grant; relative paths start where those of the first do."""
        mine, others = self.with_whole_paths(), other.with_whole_paths()
        kinds = self.allowed.keys() & other.allowed.keys()
        return Grants({kind: _both(kind, mine[kind], others[kind]) for kind in kinds}, self.base)

    def with_whole_paths(self) -> dict[str, bool | tuple[str, ...]]:
        """Return what is allowed, with paths that mean the same from any other folder."""
        allowed = dict(self.allowed)
        files = allowed.get("files", False)
        if not isinstance(files, bool):
            allowed["files"] = tuple(str(root) for root in map(self._found, files) if root is not None)
        return allowed

    def refusal(self, need: Need) -> str | None:
        """Return why the need is not granted, and what would grant it; None if it is granted."""
        allowed = self.allowed.get(need.grant, False)
        if allowed is True:
            return None
        names = () if allowed is False else allowed
        return None if self._is_granted(need, names) else _refusal(need, names)

    def _is_granted(self, need: Need, names: tuple[str, ...]) -> bool:
        match need.grant:
            case "http":
                origin = origin_of(need.what)
                return origin is not None and any(matches_host(name, origin) for name in names)
            case "files":
                path = self._found(need.what)
                return path is not None and self._is_path_granted(path, names)
            case "python":
                return any(_is_module_within(need.what, name) for name in names)
            case _:
                return need.what in names

    def require(self, need: Need) -> None:
        """Refuse what is not granted.

        Raises:
            NotGranted: it is not.
        """
        refusal = self.refusal(need)
        if refusal is not None:
            # Of a URL its host: the rest of it may hold what nobody should read.
            raise NotGranted(refusal, grant=need.grant, what=host_of(need.what) if need.grant == "http" else need.what)

    def require_function(self, name: str, home: str) -> None:
        """Refuse a function that is reached by a name, but was defined elsewhere: listed is that name, or its module.

        Raises:
            NotGranted: neither is.
        """
        allowed = self.allowed.get("python", False)
        names = () if isinstance(allowed, bool) else allowed
        if allowed is True or name in names or any(_is_module_within(home, each) for each in names):
            return
        granted = f"granted are {', '.join(names)}" if names else "nothing of it is granted"
        raise NotGranted(
            f"python {name!r} comes from {home} and was not defined in the notebook ({granted}); to grant it: "
            f"allow: {{python: [{name}]}}, or call it in a function of the notebook",
            grant="python",
            what=name,
        )

    def path(self, text: str) -> Path:
        """Return the path, resolved with all its links.

        Raises:
            NotGranted: it leads outside of what is granted, or nowhere.
        """
        path = self._found(text)
        if path is None:
            raise NotGranted(f"files {text!r} can't be a path; give another", grant="files", what=text)
        allowed = self.allowed.get("files", False)
        # What was resolved is both checked and returned: a link that changes in between leads nowhere else.
        if allowed is False or (allowed is not True and not self._is_path_granted(path, allowed)):
            raise NotGranted(_refusal(Need("files", text), allowed or ()), grant="files", what=text)
        return path

    def resolved(self, text: str) -> Path:
        """Return where a path leads, from the folder of the graph, with all its links followed."""
        return (Path(self.base) / Path(text).expanduser()).resolve()

    def _found(self, text: str) -> Path | None:
        """Return where a path leads; None where it can't: a loop of links, a folder of nobody, a null character."""
        if "\0" in text:
            return None
        try:
            return self.resolved(text)
        except (OSError, RuntimeError, ValueError):
            return None

    def _is_path_granted(self, path: Path, names: tuple[str, ...]) -> bool:
        roots = map(self._found, names)
        return any(root is not None and path.is_relative_to(root) for root in roots)


def _refusal(need: Need, names: tuple[str, ...]) -> str:
    wanted = _wanted(need)
    if not wanted:
        return f"{need.grant}: what is asked for is no URL with a plain host, so it can't be granted"
    granted = f"granted are {', '.join(names)}" if names else "nothing of it is granted"
    if need == Need("shell", SHELL_TEXT):
        return (
            f"a command that is a text needs the whole shell ({granted}); write it as a list, the program first, or "
            "grant it: allow: {shell: true}"
        )
    return f"{need.grant} {wanted!r} is not granted ({granted}); to grant it: allow: {{{need.grant}: [{wanted}]}}"


def _wanted(need: Need) -> str:
    """Return what would have to be granted."""
    match need.grant:
        case "http":
            return host_of(need.what)
        case "python":
            return need.what.rpartition(".")[0] or need.what
        case _:
            return need.what


def _is_module_within(what: str, name: str) -> bool:
    return what == name or what.startswith(f"{name}.")


def _both(kind: str, one: bool | tuple[str, ...], other: bool | tuple[str, ...]) -> bool | tuple[str, ...]:  # noqa: FBT001
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    if kind == "http":
        found = tuple(common_hosts(one, other))
    else:
        is_within = {"files": _is_path_within, "python": _is_module_within}.get(kind, str.__eq__)
        found = tuple(name for name in one if any(is_within(name, each) for each in other))
        found += tuple(name for name in other if any(is_within(name, each) for each in one))
    return tuple(dict.fromkeys(found))


def _is_path_within(path: str, root: str) -> bool:
    return Path(path).is_relative_to(root)
