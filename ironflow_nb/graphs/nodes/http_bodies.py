"""The bodies of answers: read up to a size, unpacked and understood by their content type."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

Parse: TypeAlias = Literal["auto", "json", "text", "bytes"]

_TEXTS: Final = frozenset({
    "application/xml", "application/javascript", "application/ecmascript", "application/x-www-form-urlencoded",
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/yaml", "application/x-yaml",
    "application/toml", "application/graphql", "application/sql", "image/svg+xml",
})  # fmt: skip
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)
_PIECE: Final = 256 * 1024

# What httpx asks for unless told otherwise depends on which packages are there; only these are asked for.
_PACKINGS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class BodyTooLarge(Exception):
    """There is more of the body than may be."""


class BodyUnreadable(Exception):
    """The body is not what its headers say. The message tells no content."""


def read(chunks: Iterable[bytes], packing: str, max_bytes: int) -> bytes:
    """Return the body, unpacked; no more than a piece beyond `max_bytes` is ever read or unpacked.

    Raises:
        BodyTooLarge, BodyUnreadable: see there.
    """
    content = bytearray()
    for piece in _unpacked(_at_most(chunks, max_bytes), packing.strip().lower()):
        content += piece
        if len(content) > max_bytes:
            raise BodyTooLarge
    return bytes(content)


def _at_most(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    n_read = 0
    for chunk in chunks:
        n_read += len(chunk)
        if n_read > max_bytes:
            raise BodyTooLarge
        yield chunk


def _unpacked(chunks: Iterable[bytes], packing: str) -> Iterable[bytes]:
    if packing in {"", "identity"}:
        return chunks
    if packing not in _PACKINGS:
        raise BodyUnreadable("it is packed otherwise than by gzip or deflate, which were asked for")
    return _inflated(chunks, _PACKINGS[packing])


def _inflated(chunks: Iterable[bytes], window: int) -> Iterator[bytes]:
    """Unpack in pieces of a bounded size: a small chunk may hold gigabytes."""
    inflater, is_begun = zlib.decompressobj(window), False
    for chunk in chunks:
        packed = chunk
        if not is_begun and window == 15 and chunk and not _is_zlib(chunk):
            inflater = zlib.decompressobj(-15)  # what some servers mean by deflate
        is_begun = is_begun or bool(chunk)
        while packed:
            if inflater.eof and not (window == 31 and packed.startswith(b"\x1f")):
                return  # what follows is padding
            if inflater.eof:
                inflater = zlib.decompressobj(window)  # one archive after the other
            try:
                yield inflater.decompress(packed, _PIECE)
            except zlib.error:
                raise BodyUnreadable("it is damaged: it can't be unpacked") from None
            packed = inflater.unconsumed_tail or inflater.unused_data
    yield inflater.flush()
    if is_begun and not inflater.eof:
        raise BodyUnreadable("it breaks off in the middle")


def _is_zlib(chunk: bytes) -> bool:
    return chunk[0] & 0x0F == 8 and (len(chunk) < 2 or int.from_bytes(chunk[:2]) % 31 == 0)


def understand(content: bytes, content_type: str, parse: Parse) -> Any:
    """Return the body as data, as text or as it is. An empty one is "" if it is text and else null.

    Raises:
        BodyUnreadable: it is to be JSON, and is not.
    """
    kind = kind_of(content_type, parse)
    if kind == "text":
        return text_of(content, content_type)
    if not content:
        return b"" if parse == "bytes" else None
    return content if kind == "bytes" else _json(content, content_type)


def kind_of(content_type: str, parse: Parse) -> Parse:
    """Return what a body of that type is taken for."""
    if parse != "auto":
        return parse
    media = content_type.partition(";")[0].strip().lower()
    if media in {"application/json", "text/json"} or media.endswith("+json"):
        return "json"
    is_text = media.startswith("text/") or media in _TEXTS or media.endswith("+xml")
    return "text" if is_text else "bytes"


def text_of(content: bytes, content_type: str) -> str:
    """Return the text in the charset that it says it has; without one UTF-8, and Latin-1 where it is not that."""
    said = _CHARSET.search(content_type)
    for charset in ([said[1]] if said else []) + ["utf-8"]:
        try:
            return content.decode(charset).removeprefix("\ufeff")
        except (LookupError, ValueError):
            continue
    return content.decode("latin-1")


def _json(content: bytes, content_type: str) -> Any:
    try:
        has_charset = _CHARSET.search(content_type) is not None
        text = text_of(content, content_type) if has_charset else content.decode(json.detect_encoding(content))
        return json.loads(text, parse_constant=_no_json)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BodyUnreadable(f"it is {shape(content)}, which is no JSON at {where}") from None
    except UnicodeDecodeError:
        raise BodyUnreadable(f"it is {shape(content)}, and not in UTF-8") from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, NaN, or thousands of lists in each other.
        raise BodyUnreadable(f"it is {shape(content)}, and holds a number or depth that JSON can't") from None


def _no_json(_name: str) -> None:
    raise ValueError


def shape(content: bytes) -> str:
    """Return what the content looks like, and nothing of it."""
    size = f"{len(content):,} bytes"
    begins = content[:256].lstrip()
    if not begins:
        return f"{size} of nothing but blanks" if content else "empty"
    if begins.startswith(b"<"):
        return f"{size} that begin like HTML or XML"
    if begins[:1] in b'{["':
        return f"{size} that begin like JSON"
    try:
        begins.decode()
    except UnicodeDecodeError as error:
        if error.start < len(begins) - 4:
            return f"{size} of binary data"
    return f"{size} of other text"
