"""Hosts of URLs, and the names that mean them in ``allow`` and in ``auth``.

A URL is read here more strictly than anywhere else: what two readers could take for different hosts, with backslashes,
control characters, escapes or other digits in it, has no host at all, so that what is checked is what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

NAME_PATTERN: Final = r"^(\*\.)?[^\s/?#@*\\%]+$"
"""What a name of hosts looks like, for schemas; `means` is stricter."""

_URL: Final = re.compile(r"(https?)://([^/?#\\\s]+)(?=[/?#]|\Z)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::([0-9]{0,5}))?", re.ASCII)
_LABELS: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBERS: Final = re.compile(r"[0-9.]+|.*\.0x[0-9a-f]*|0x[0-9a-f]*")
"""What some resolvers take for an address."""


class Origin(NamedTuple):
    """Where a URL leads; two with the same origin are on one server."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin | None:
    """Return where the URL leads; None of what is no plain http or https URL."""
    found = _URL.match(url)
    if found is None:
        return None
    scheme = found[1].lower()
    read = _read(found[2].rpartition("@")[2])
    if read is None:
        return None
    host, port = read
    return Origin(scheme, host, DEFAULT_PORTS[scheme] if port is None else port)


def host_of(url: str) -> str:
    """Return the host of a URL, with its port where that is not the one of its scheme; "" where there is none."""
    return str(origin_of(url) or "")


def means(name: str, origin: Origin) -> bool:
    """Tell whether a name in ``allow`` or ``auth`` means that host, on that port."""
    read = _read(name.removeprefix("*."))
    if read is None:
        return False
    host, port = read
    if origin.port != (DEFAULT_PORTS[origin.scheme] if port is None else port):
        return False
    return _is_below(origin.host, host) if name.startswith("*.") else origin.host == host


def covers(wide: str, narrow: str) -> bool:
    """Tell whether everything that the one name means is meant by the other too."""
    reads = [_read(name.removeprefix("*.")) for name in (wide, narrow)]
    if reads[0] is None or reads[1] is None or reads[0][1] != reads[1][1]:
        return False
    (outer, _), (inner, _) = reads[0], reads[1]
    if not wide.startswith("*."):
        return not narrow.startswith("*.") and inner == outer
    return _is_below(inner, outer) or (narrow.startswith("*.") and inner == outer)


def both(ones: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """Yield names that together mean the hosts that both sides mean."""
    yield from (name for name in ones if any(covers(other, name) for other in others))
    yield from (name for name in others if any(covers(one, name) for one in ones))


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
