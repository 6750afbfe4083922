"""Grants: which hosts, folders, programs, variables and modules a graph may use.

A graph that is read from a text may use only what its ``allow`` names. A graph that is built in Python may use
everything unless it has an ``allow``. A refusal is an error of `validate` if the text tells what a node will need, else
an error of the node.

URLs are parsed more strictly than by other libraries. A URL in which two parsers could see different hosts has no host
at all (backslashes, control characters, escapes, digits of other scripts). So the checked host is the connected one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from ironflow_nb.errors import NotGranted
from ironflow_nb.graphs.remote_paths import canonical_url, is_remote, is_within_url

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

HOST_PATTERN: Final = r"^(\*\.)?[^\s/?#@*\\%]+$"
"""The pattern of host names in schemas; `matches_host` is stricter."""

SERVER_PATTERN: Final = r"^[^\s/?#@*\\%]+:[0-9]{1,5}$"
"""The pattern of servers in schemas: a host with its port."""

_URL: Final = re.compile(r"(https?)://([^/?#\\\s]+)(?=[/?#]|\Z)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::([0-9]{0,5}))?", re.ASCII)
_LABELS: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBERS: Final = re.compile(r"[0-9.]+|.*\.0x[0-9a-f]*|0x[0-9a-f]*")
"""Names that some resolvers read as an IP address."""


class UrlOrigin(NamedTuple):
    """The origin of a URL; URLs of one origin are on one server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def origin_of(url: str) -> UrlOrigin | None:
    """Return the origin of an http or https URL; None for any other text."""
    found = _URL.match(url)
    if found is None:
        return None
    scheme = found[1].lower()
    authority = _parse_authority(found[2].rpartition("@")[2])
    if authority is None:
        return None
    host, port = authority
    return UrlOrigin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)


def host_of(url: str) -> str:
    """Return the host of a URL, with its port unless it is the default one; empty if the URL has no host."""
    return str(origin_of(url) or "")


def matches_host(name: str, origin: UrlOrigin) -> bool:
    """Return True if a name in ``allow`` or ``auth`` means the host and port of the origin."""
    authority = _parse_authority(name.removeprefix("*."))
    if authority is None:
        return False
    host, port = authority
    if origin.port != (DEFAULT_PORTS[origin.scheme] if port is None else port):
        return False
    return _is_below(origin.host, host) if name.startswith("*.") else origin.host == host


def covers_hosts(wide: str, narrow: str) -> bool:
    """Return True if the wide name means every host that the narrow one means."""
    outer_authority, inner_authority = (_parse_authority(name.removeprefix("*.")) for name in (wide, narrow))
    if outer_authority is None or inner_authority is None or outer_authority[1] != inner_authority[1]:
        return False
    outer, inner = outer_authority[0], inner_authority[0]
    if not wide.startswith("*."):
        return not narrow.startswith("*.") and inner == outer
    return _is_below(inner, outer) or (narrow.startswith("*.") and inner == outer)


def common_hosts(ones: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of each side that the other side covers."""
    yield from (name for name in ones if any(covers_hosts(other, name) for other in others))
    yield from (name for name in others if any(covers_hosts(one, name) for one in ones))


def _is_below(host: str, domain: str) -> bool:
    return host.endswith(f".{domain}") and not _NUMBERS.fullmatch(host)


def _parse_authority(authority: str) -> tuple[str, int | None] | None:
    """Return host and port of ``host:port``; None if the text is not valid."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    host = _canonical_host(found[1])
    port = int(found[2]) if found[2] else None
    if host is None or (port is not None and not 0 < port < 65536):
        return None
    return host, port


def _canonical_host(host: str) -> str | None:
    """Return the host in its canonical form: lower case, ASCII, without the final dot; None if it is not valid."""
    if host.startswith("["):
        return _canonical_address(host[1:-1])
    host = host.lower()
    if not host.isascii():
        import idna

        try:
            # httpx encodes in the same way, so the compared host is the connected one.
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


Grant: TypeAlias = Literal["http", "files", "servers", "shell", "shell_env", "env", "keyring", "lambda", "python"]
GRANT_NAMES: Final[tuple[Grant, ...]] = get_args(Grant)

SHELL_TEXT: Final = "a text for the shell"
"""The need of a command that is a text: the shell itself, which only ``shell: true`` grants."""

GRANTS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "http": {
            "description": "hosts: example.org is that host on the ports of http and https, example.org:8080 that "
            "host and port, *.example.org every subdomain; true is every host",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "pattern": HOST_PATTERN}}],
        },
        "files": {
            "description": "folders and files, relative to the folder of the graph's file or to the working "
            "directory, or URLs such as s3://bucket/folder; true is every file of this machine",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "servers": {
            "description": "servers of databases and of mail, each with its port: db.example.org:5432; true is every "
            "server",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "pattern": SERVER_PATTERN}}],
        },
        "shell": {
            "description": "true is every program and the shell; a list names programs, for commands that are lists",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "shell_env": {
            "description": "variables that shell nodes may set for the programs that are granted by name: some choose "
            "which code these run (PATH, LD_PRELOAD, BASH_ENV, PYTHONPATH); shell: true grants all",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "env": {
            "description": "environment variables, for env, for secrets and for the programs of shell nodes",
            "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
        },
        "keyring": {
            "description": "entries of the system's keyring for secrets, each as SERVICE/NAME",
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
    """One thing that a node needs: `what` is a URL for ``http``, else a path, a program or a name.

    For ``servers`` it is a host in lower case with its port: ``db.example.org:5432``.
    """

    grant: Grant
    what: str


class Grants(msgspec.Struct, frozen=True):
    """The grants of a graph: for each kind True for everything, or names. `base` is the folder of relative paths."""

    allowed: Mapping[str, bool | tuple[str, ...]]
    base: str = "."

    @classmethod
    def of(cls, allow: Mapping[str, Any] | None, *, base: str | None = None) -> Grants:
        """Return the grants of an ``allow``; None grants everything."""
        if allow is None:
            return cls(dict.fromkeys(GRANT_NAMES, True), base or ".")
        allowed = {kind: names if isinstance(names, bool) else tuple(names) for kind, names in allow.items()}
        if allowed.get("shell") is True:  # the whole shell can set any variable by itself
            allowed["shell_env"] = True
        return cls(allowed, base or ".")

    def within(self, other: Grants) -> Grants:
        """Return what both grant; relative paths start at the base of the first."""
        own, others = self.with_absolute_paths(), other.with_absolute_paths()
        kinds = self.allowed.keys() & other.allowed.keys()
        return Grants({kind: _common_names(kind, own[kind], others[kind]) for kind in kinds}, self.base)

    def with_absolute_paths(self) -> dict[str, bool | tuple[str, ...]]:
        """Return what is allowed, with absolute paths."""
        allowed = dict(self.allowed)
        files = allowed.get("files", False)
        if not isinstance(files, bool):
            roots = (name if is_remote(name) else self._resolve_or_none(name) for name in files)
            allowed["files"] = tuple(str(root) for root in roots if root is not None)
        return allowed

    def refusal(self, need: Need) -> str | None:
        """Return why the need is not granted and how to grant it; None if it is granted."""
        allowed = self.allowed.get(need.grant, False)
        if allowed is True and not (need.grant == "files" and is_remote(need.what)):
            return None
        if allowed is True:  # every file of this machine; others are on servers
            return None if self.allowed.get("http") is True else _refusal_message(need, ())
        names = () if allowed is False else allowed
        return None if self._is_granted(need, names) else _refusal_message(need, names)

    def _is_granted(self, need: Need, names: tuple[str, ...]) -> bool:
        match need.grant:
            case "http":
                origin = origin_of(need.what)
                return origin is not None and any(matches_host(name, origin) for name in names)
            case "files" if is_remote(need.what):
                return any(is_within_url(need.what, name) for name in names if is_remote(name))
            case "files":
                path = self._resolve_or_none(need.what)
                return path is not None and self._is_path_granted(path, names)
            case "python":
                return any(_is_module_within(need.what, name) for name in names)
            case "servers":
                return need.what in {name.lower() for name in names}
            case _:
                return need.what in names

    def require(self, need: Need) -> None:
        """Check that the need is granted.

        Raises:
            NotGranted: the need is not granted.
        """
        refusal = self.refusal(need)
        if refusal is not None:
            # Only the host of a URL, because the rest may contain secrets.
            raise NotGranted(refusal, grant=need.grant, what=host_of(need.what) if need.grant == "http" else need.what)

    def require_function(self, name: str, home: str) -> None:
        """Check a function that is found by `name` but defined in module `home`: one of the two must be granted.

        Raises:
            NotGranted: neither is granted.
        """
        allowed = self.allowed.get("python", False)
        names = () if isinstance(allowed, bool) else allowed
        if allowed is True or name in names or any(_is_module_within(home, each) for each in names):
            return
        granted = _granted_text(names)
        raise NotGranted(
            f"python {name!r} comes from {home} and is not defined in the notebook ({granted}); to grant it: "
            f"allow: {{python: [{name}]}}, or call it in a function of the notebook",
            grant="python",
            what=name,
        )

    def path(self, text: str) -> Path:
        """Return the absolute path with all symbolic links resolved.

        Raises:
            NotGranted: the path is outside of the granted ones, or can't be resolved.
        """
        path = None if is_remote(text) and not text.lower().startswith("file:") else self._resolve_or_none(text)
        if path is None:
            raise NotGranted(f"files {text!r} is not a valid path; give another", grant="files", what=text)
        allowed = self.allowed.get("files", False)
        # The resolved path is both checked and returned, so a link that changes afterwards has no effect.
        if allowed is False or (allowed is not True and not self._is_path_granted(path, allowed)):
            raise NotGranted(_refusal_message(Need("files", text), allowed or ()), grant="files", what=text)
        return path

    def resolved(self, text: str) -> Path:
        """Return the absolute path with all symbolic links resolved; relative paths start at `base`."""
        return (Path(self.base) / Path(text).expanduser()).resolve()

    def _resolve_or_none(self, text: str) -> Path | None:
        """Like `resolved`, but None for an invalid path: a loop of links, an unknown user, a null character."""
        if "\0" in text:
            return None
        try:
            return self.resolved(text)
        except (OSError, RuntimeError, ValueError):
            return None

    @staticmethod
    def local_names(names: Iterable[str]) -> Iterator[str]:
        """Yield those of granted files that are paths of this machine."""
        return (name for name in names if not is_remote(name))

    def _is_path_granted(self, path: Path, names: tuple[str, ...]) -> bool:
        roots = map(self._resolve_or_none, self.local_names(names))
        return any(root is not None and path.is_relative_to(root) for root in roots)


def _refusal_message(need: Need, names: tuple[str, ...]) -> str:
    name = _name_to_grant(need)
    if not name:
        return (
            f"{need.grant}: the URL has no valid {'host' if need.grant == 'http' else 'path'}, so it can't be granted"
        )
    granted = _granted_text(names)
    if need == Need("shell", SHELL_TEXT):
        return (
            f"a command that is a text needs the whole shell ({granted}); write it as a list, the program first, or "
            "grant it: allow: {shell: true}"
        )
    return f"{need.grant} {name!r} is not granted ({granted}); to grant it: allow: {{{need.grant}: [{name}]}}"


def _granted_text(names: tuple[str, ...]) -> str:
    return f"granted are {', '.join(names)}" if names else "nothing of it is granted"


def _name_to_grant(need: Need) -> str:
    """Return the name that would grant the need; empty if no name can."""
    match need.grant:
        case "http":
            return host_of(need.what)
        case "python":
            return need.what.rpartition(".")[0] or need.what
        case "files" if is_remote(need.what):
            return canonical_url(need.what) or ""
        case _:
            return need.what


def _is_module_within(what: str, name: str) -> bool:
    return what == name or what.startswith(f"{name}.")


def _common_names(kind: str, one: bool | tuple[str, ...], other: bool | tuple[str, ...]) -> bool | tuple[str, ...]:  # noqa: FBT001
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
    if is_remote(path) or is_remote(root):
        return is_within_url(path, root)
    return Path(path).is_relative_to(root)
