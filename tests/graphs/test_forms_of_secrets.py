"""Secrets are found in every form that people and libraries write a text in, and other texts stay as they are."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import quopri
import re
import shlex
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.graphs.secret_forms import REDACTED, SecretForms

SECRETS = {
    "token": "sk_live_51Habcdefghijklmnop",
    "signs": 'p@ss "wörd"/+42\\x\'&<>|$',
    "escapes": "a b&c=d%e+f;g%41\\u0041",
    "uuid": "550e8400-e29b-41d4-a716-446655440000",
    "key": "-----BEGIN KEY-----\nMIIEabcdEFGH1234/+=\nq2w3e4r5t6y7u8i9o0==\n-----END KEY-----",
    "long": "".join(chr(33 + 7 * n % 90) for n in range(300)),
    "wide": "日本語パスワード",
}


def every(text: str, pattern: Callable[[str], str]) -> str:
    return "".join(map(pattern, text))


def in_csv(text: str) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([text, 1])
    return out.getvalue()


WRITTEN: dict[str, Callable[[str], str]] = {
    "itself": lambda s: f"a {s} b",
    "upper case": str.upper,
    "lower case": str.lower,
    "title case": str.title,
    "reversed": lambda s: s[::-1],
    "url": quote,
    "url, all": lambda s: quote(s, safe=""),
    "url, plus": quote_plus,
    "url, lower case": lambda s: re.sub("%..", lambda found: found[0].lower(), quote(s, safe="")),
    "url, every byte": lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    "url, twice": lambda s: quote(quote(s, safe=""), safe=""),
    "userinfo": lambda s: f"https://user:{quote(s, safe='')}@example.org/",
    "form": lambda s: urlencode({"token": s}),
    "json": json.dumps,
    "json, as it is": lambda s: json.dumps(s, ensure_ascii=False),
    "json, twice": lambda s: json.dumps(json.dumps(s)),
    "json, upper case": lambda s: re.sub(r"\\u(....)", lambda found: "\\u" + found[1].upper(), json.dumps(s)),
    "json, slashes": lambda s: json.dumps(s).replace("/", "\\/"),
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda s: repr(s.encode()),
    "html": html.escape,
    "html, decimal": lambda s: every(s, lambda c: f"&#{ord(c)};"),
    "html, hex": lambda s: every(s, lambda c: f"&#x{ord(c):X};"),
    "html, twice": lambda s: html.escape(html.escape(s)),
    "unicode escapes": lambda s: every(s, lambda c: f"\\u{ord(c):04x}"),
    "byte escapes": lambda s: "".join(f"\\x{byte:02X}" for byte in s.encode()),
    "hex": lambda s: s.encode().hex(),
    "hex, upper case": lambda s: s.encode().hex().upper(),
    "hex, colons": lambda s: s.encode().hex(":"),
    "shell": shlex.quote,
    "sql": lambda s: "'" + s.replace("'", "''") + "'",
    "csv": in_csv,
    "pattern": re.escape,
    "mail": lambda s: quopri.encodestring(s.encode()).decode(),
    "base64 in lines": lambda s: base64.encodebytes(b"hello" + 3 * s.encode()).decode(),
    **{
        f"base64 after {n}": lambda s, n=n: base64.b64encode(b"u" * n + s.encode() + b"!" * n).decode()
        for n in range(4)
    },
    "base64 for urls": lambda s: base64.urlsafe_b64encode(b"me:" + s.encode()).decode(),
}


@cache
def forms_of(name: str) -> SecretForms:
    """Return the forms of a secret, which are made once for all tests."""
    return SecretForms([SECRETS[name]])


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_however_it_is_written(name: str, form: str) -> None:
    text = WRITTEN[form](SECRETS[name])
    clean = forms_of(name).redacted(text)
    assert REDACTED in clean
    assert len(clean) < max(0.6 * len(text), 40)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_in_bytes_of_any_encoding(name: str, encoding: str) -> None:
    try:
        content = b"\x00\xff" + SECRETS[name].encode(encoding) + b"\xfe"
    except UnicodeEncodeError:
        pytest.skip("it has no such form")
    assert forms_of(name).is_in(content)


def test_single_lines_and_pieces_of_a_key_are_found() -> None:
    forms = SecretForms([SECRETS["key"], SECRETS["long"]])
    assert forms.redacted("got MIIEabcdEFGH1234/+= there") == "got *** there"
    assert forms.redacted(f"x{SECRETS['long'][32:64]}x") == "x***x"


@pytest.mark.parametrize("length", [14, 20, 26])
def test_a_secret_that_was_cut_in_the_middle_is_found(length: int) -> None:
    token = SECRETS["token"]
    forms = SecretForms([token])
    assert forms.redacted(f"denied for {token[:length]}") == "denied for ***"
    assert forms.redacted(f"denied for {token[:length]}...") == "denied for ***..."
    assert forms.redacted(f"{token[-length:]} was denied") == "*** was denied"


@pytest.mark.parametrize("number", [123456, 123456.0, -123456, 91234560])
def test_a_secret_that_is_a_number_is_found_in_numbers(number: float) -> None:
    assert SecretForms(["123456"]).is_number(number)
    assert not SecretForms(["123457"]).is_number(number)
    assert not SecretForms(["12345x"]).is_number(number)


@pytest.mark.slow
@given(st.text(max_size=200), st.text(min_size=12, max_size=40))
def test_other_texts_stay_as_they_are(text: str, secret: str) -> None:
    clean = SecretForms([secret]).redacted(text)
    folded, wanted = text.casefold(), secret.casefold()
    if clean != text:  # nothing of what is redacted is unlike the secret
        assert any(part in folded or part[::-1] in folded for part in (wanted[:1], wanted[-1:]))
    if len({*wanted}) > 6 and not {*wanted} & {*folded}:
        assert clean == text


@given(st.text(max_size=20), st.text(min_size=4, max_size=100), st.text(max_size=20))
def test_no_secret_is_left_whatever_it_is_made_of(before: str, secret: str, after: str) -> None:
    clean = SecretForms([secret]).redacted(before + secret + after)
    assert secret not in clean or secret in REDACTED * 3


def test_texts_without_a_secret_are_searched_without_any_pattern() -> None:
    forms = SecretForms(["a-token-that-no-other-test-has-0123456789"])
    text = "".join(blake2b(bytes([n])).hexdigest() for n in range(256))
    assert forms.redacted(text) == text
    assert not any("pattern" in vars(form) for form in forms._forms)
