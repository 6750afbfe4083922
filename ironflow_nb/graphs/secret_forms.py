"""The forms of a secret that redaction finds: plain, reversed, in other cases, escaped, in hex and in base64.

A form is one pattern, in which every character may be plain, or escaped as in URLs, JSON, HTML, mails, shells or
Python. So it does not matter which characters are escaped, or how many times. A long secret is searched in pieces, so
that a part of it is found too.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from html.entities import codepoint2name
from struct import pack
from typing import Any, Final

REDACTED: Final = "***"

SHORTEST_SECRET: Final = 4
"""Minimum length of a secret. A shorter one would match too much of other texts."""

_SHORTEST_PART: Final = 8
"""Minimum length of a part of a secret: of a line of it, or of the rest of a cut one."""

_PIECE: Final = 32
_LONGEST_WHOLE: Final = 2 * _PIECE
"""Texts up to this length are searched as a whole, longer ones in pieces."""

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_NUMBER_CODES: Final = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"})
_BREAKS: Final = r"(?:[\r\n]|\\+[rn])*"
_SHORT_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", "\v": "v", "\0": "0"}
_QUOTED: Final = {"'": r"""\\*'{1,2}|'"'"'|'\\+''""", '"': r'\\*"{1,2}', " ": r"\\*[ +]"}
_FOR_URLS: Final = str.maketrans("+/", "-_")
_WIDE: Final = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1")
_DROPPED: Final = bytes(code for code in range(128) if not chr(code).isalnum())
_ESCAPED: Final = re.compile(
    r"(?P<bytes>(?:%(?:25)*[0-9a-f]{2}|\\+x[0-9a-f]{2})+)|(?:%|\\+)u(?P<unit>[0-9a-f]{4})|\\+U(?P<code>[0-9a-f]{8})"
    r"|\\+[nrtbfv0]|&(?:amp;)*(?P<entity>#?\w+;)",
    re.IGNORECASE,
)
_QUOTED_BYTES: Final = re.compile(r"(?:=[0-9A-Fa-f]{2})+")


class SecretForm:
    """One form of a secret: its pattern, and the bare letters and digits that a text with it must contain."""

    def __init__(self, pattern: str, text: str) -> None:
        self.source = pattern
        bare = _bare(text)
        # If characters of the secret itself look like escapes, its bare form is ambiguous and can't rule a text out.
        self._is_ambiguous = len(bare) < SHORTEST_SECRET or not text.isascii() or not set(text).isdisjoint("%\\&")
        self._bare = bare

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled pattern, made at its first use, because most secrets occur nowhere."""
        return re.compile(self.source)

    def may_be_in(self, readings: Iterable[bytes]) -> bool:
        """Return False if no reading can contain the form, so that the slow pattern is not needed."""
        return self._is_ambiguous or any(self._bare in reading for reading in readings)


class SecretForms:
    """All forms of a set of secrets."""

    def __init__(self, secrets: Iterable[str], around: Iterable[str] = ()) -> None:
        """Make the forms of the secrets. Texts `around` secrets are redacted as a whole where they are plain."""
        self._around = sorted(around, key=len, reverse=True)
        self._texts = sorted({each for secret in secrets for each in _texts_of(secret)}, key=len, reverse=True)
        forms = [form for text in self._texts for form in _forms_of(text)]
        self._forms = sorted({form.source: form for form in forms}.values(), key=lambda each: -len(each.source))
        self._contents = [form for text in self._texts for form in _binary_forms(text)]
        self.numbers = tuple(text for text in self._texts if _NUMBER.fullmatch(text))
        """The secrets that are numbers, because data may contain them as numbers."""
        self._has_slashes = any("/" in text for text in self._texts)

    def redacted(self, text: str) -> str:
        """Return the text with every form of a secret replaced by ``***``."""
        if len(text) < SHORTEST_SECRET:
            return text
        original = text
        for whole in self._around:
            text = text.replace(whole, REDACTED)
        readings = _readings(text)
        for form in self._forms:
            if form.may_be_in(readings):
                text = form.pattern.sub(REDACTED, text)
        text = self._without_parts(text)
        return text if text == original else re.sub(r"(\*\*\*){2,}", REDACTED, text)

    def redacted_bytes(self, content: bytes) -> bytes:
        """Return the bytes with every form of a secret replaced by ``***``."""
        for form, encoding in self._contents:
            content = content.replace(form, REDACTED.encode(encoding))
        text = content.decode("utf-8", "surrogateescape")
        clean = self.redacted(text)
        return content if clean == text else clean.encode("utf-8", "surrogateescape")

    def is_in(self, content: str | bytes) -> bool:
        """Return True if the content has any form of a secret."""
        clean: str | bytes = self.redacted(content) if isinstance(content, str) else self.redacted_bytes(content)
        return clean != content

    def is_in_pickle(self, content: bytes) -> bool:
        """Return True if the pickle has any form of a secret. Its numbers are encoded, so they are decoded first."""
        if self.is_in(content):
            return True
        if not self.numbers and not self._has_slashes:
            return False
        import pickletools

        if any(packed in content for number in self.numbers for packed in _packed(number)):
            return True
        found = [(code.name, argument) for code, argument, _ in pickletools.genops(content)]
        # A path is pickled as its parts, so they are joined.
        texts = "/".join(argument for _, argument in found if isinstance(argument, str))
        return self.is_in(texts) or any(self.is_number(number) for name, number in found if name in _NUMBER_CODES)

    def is_number(self, number: Any) -> bool:
        """Return True if the digits of the number contain those of a secret."""
        if not self.numbers:
            return False
        whole = str(int(number)) if isinstance(number, float) and number.is_integer() else ""
        return any(digits in f"{number} {whole}" for digits in self.numbers)

    def redacted_data(self, value: Any) -> Any:
        """Return plain data with secrets replaced, in keys too; data without secrets is returned as the same object."""
        match value:
            case str():
                clean: Any = self.redacted(value)
            case bytes():
                clean = self.redacted_bytes(value)
            case bool() | None:
                return value
            case int() | float():
                return REDACTED if self.is_number(value) else value
            case dict():
                clean = {self.redacted_data(key): self.redacted_data(each) for key, each in value.items()}
            case list():
                clean = [self.redacted_data(each) for each in value]
            case tuple() if type(value) is tuple:
                clean = tuple(map(self.redacted_data, value))
            case _:
                return value
        return value if clean == value else clean

    def _without_parts(self, text: str) -> str:
        """Return the text without the parts of a secret that was cut at its start or end."""
        bare = text.rstrip(".")
        for secret in self._texts:
            if len(secret) > _LONGEST_WHOLE:  # its pieces are searched
                continue
            for length in range(len(secret) - 1, max(_SHORTEST_PART, len(secret) // 2) - 1, -1):
                if bare.endswith(secret[:length]):
                    return self._without_parts(bare[:-length] + REDACTED + text[len(bare) :])
                if text.startswith(secret[-length:]):
                    return self._without_parts(REDACTED + text[length:])
        return text


def _texts_of(secret: str) -> Iterator[str]:
    yield secret
    yield from (line.strip() for line in secret.splitlines() if len(line.strip()) >= _SHORTEST_PART)
    compact = secret.replace("-", "")
    if re.fullmatch("[0-9A-Fa-f]{32}", compact):  # a UUID is written with and without dashes
        yield compact
        yield "-".join((compact[:8], compact[8:12], compact[12:16], compact[16:20], compact[20:]))


@lru_cache(maxsize=256)
def _forms_of(text: str) -> tuple[SecretForm, ...]:
    return tuple(_make_forms(text))


def _make_forms(text: str) -> Iterator[SecretForm]:
    for piece in _split_pieces(text):
        yield SecretForm("".join(map(_character_pattern, piece)), piece)
        yield SecretForm("".join(map(_character_pattern, reversed(piece))), piece[::-1])
        hexed = [f"{byte:02x}" for byte in _utf8(piece)]
        yield SecretForm(f"(?i:{'[ :-]?'.join(hexed)})", "".join(hexed))
    for encoded in _in_base64(text):
        for piece in _split_pieces(encoded):
            yield SecretForm(_BREAKS.join(map(_base64_letter_pattern, piece)), piece)


def _split_pieces(text: str) -> list[str]:
    if len(text) <= _LONGEST_WHOLE:
        return [text]
    starts = range(0, len(text) - _PIECE + 1, _PIECE)
    return [text[start : start + _PIECE] if start != starts[-1] else text[start:] for start in starts]


@lru_cache(maxsize=1024)
def _character_pattern(character: str) -> str:
    """Return the pattern of a character in either case, plain or escaped."""
    cases = dict.fromkeys((character, character.lower(), character.upper()))
    return "(?:" + "|".join(form for each in cases for form in _escaped_patterns(each)) + ")"


@lru_cache(maxsize=256)
def _base64_letter_pattern(letter: str) -> str:
    """Return the pattern of a letter of base64 in both of its alphabets."""
    both = dict.fromkeys((letter, letter.translate(_FOR_URLS)))
    return "(?:" + "|".join(form for each in both for form in _escaped_patterns(each)) + ")"


def _escaped_patterns(text: str) -> Iterator[str]:
    if len(text) != 1:  # one character may have a capital of several
        yield re.escape(text)
        return
    code = ord(text)
    if text.isalnum() or code > 127:
        yield re.escape(text)
    else:
        yield _QUOTED.get(text, rf"\\*{re.escape(text)}")
    if text in _SHORT_ESCAPES:
        yield rf"\\+{_SHORT_ESCAPES[text]}"
    content = _utf8(text)
    yield "(?i:" + "".join(rf"[%=](?:25)*{byte:02x}" for byte in content) + ")"
    yield "(?i:" + "".join(rf"\\+x{byte:02x}" for byte in content) + ")"
    units = text.encode("utf-16-be", "surrogatepass").hex()
    yield "(?i:" + "".join(rf"(?:%|\\+)u{units[at : at + 4]}" for at in range(0, len(units), 4)) + ")"
    yield rf"(?i:\\+u{code:08x})"
    if 127 < code < 256:
        yield rf"(?i:\\+x{code:02x})"
    yield rf"&(?:amp;)*#(?:0*{code}|[xX]0*(?i:{code:x}));"
    if code in codepoint2name:
        yield f"&(?:amp;)*{codepoint2name[code]};"


def _in_base64(text: str) -> Iterator[str]:
    """Yield the base64 of the text alone, and inside a longer text such as ``user:password``."""
    content = _utf8(text)
    yield b64encode(content).decode().rstrip("=")
    for before in range(3):
        # Only the letters that do not depend on neighbouring bytes.
        first, last = -(-before * 8 // 6), (before + len(content)) * 8 // 6
        inside = b64encode(b"\0" * before + content).decode()[first:last]
        if len(inside) > SHORTEST_SECRET:
            yield inside


def _binary_forms(text: str) -> Iterator[tuple[bytes, str]]:
    """Yield the text in encodings other than UTF-8, each with the encoding."""
    for encoding in _WIDE:
        try:
            form = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        if encoding != "latin-1" or not text.isascii():
            yield form, encoding


def _packed(number: str) -> Iterator[bytes]:
    """Yield a number as arrays hold it, in eight bytes."""
    yield pack("<d", float(number))
    if number.isdecimal() and int(number) < 2**63:
        yield pack("<q", int(number))


def _bare(text: str) -> bytes:
    """Return the letters and digits of a text as case-folded bytes."""
    return _utf8(text.casefold()).translate(None, _DROPPED)


def _readings(text: str) -> list[bytes]:
    """Return the letters and digits of a text, of the text as it is and with its escapes decoded."""
    readings = [_bare(text)]
    if not {"%", "\\", "&"}.isdisjoint(text):
        text = _ESCAPED.sub(_decode_escape, text)
        readings.append(_bare(text))
    if "=" in text:
        readings.append(_bare(_QUOTED_BYTES.sub(lambda found: _decode_hex(found[0].replace("=", "")), text)))
    return readings


def _decode_escape(found: re.Match[str]) -> str:
    if found["bytes"]:
        return _decode_hex("".join(re.findall(r"[0-9a-fA-F]{2}(?=%|\\|\Z)", found["bytes"])))
    if found["unit"] or found["code"]:
        code = int(found["unit"] or found["code"], 16)
        return chr(code) if code <= 0x10FFFF else ""
    return html.unescape(f"&{found['entity']}") if found["entity"] else ""


def _decode_hex(hexed: str) -> str:
    return bytes.fromhex(hexed).decode("utf-8", "replace")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
