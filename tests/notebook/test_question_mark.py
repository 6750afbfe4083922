"""``fetch?``: what IPython's inspector shows of steps and flows."""

from __future__ import annotations

import re
from typing import Any

import pytest

import ironflow_nb as iron
from tests.notebook.shells import Shell

CELL = '''
import ironflow_nb as iron

LIMIT = 3
seen = {}

def clean(text):
    return text[:LIMIT]

def by_url(url, n):
    return url

@iron.step(retries=2, cache="7d", key=by_url, on_change="keep", depends=[clean, 7])
def fetch(url: str, /, n: int = 3, *rest: int, loud: bool = False) -> "dict[str, int]":
    """Fetch a page.

    It takes a while.
    """
    seen[url] = n
    return {clean(url): n}

@iron.step
def plain(n):
    return n

@iron.step(once=True)
def pay(n):
    return n

@iron.flow(on_change="strict", continue_within="1d")
def main(urls: list) -> list:
    """Fetch all of them."""
    return list(fetch.map(urls))
'''


def asked(shell: Shell, name: str) -> str:
    """Return what ``name?`` shows."""
    inspector = shell.ipython.inspector
    bundle = inspector._get_info(shell.space[name], name, info=shell.ipython._ofind(name))
    return re.sub(r"\x1b\[[0-9;]*m", "", bundle["text/plain"])


@pytest.fixture
def defined(shell: Shell) -> Shell:
    shell.fine(CELL)
    return shell


def test_a_step_shows_docstring_signature_options_and_what_is_tracked(defined: Shell) -> None:
    shown = asked(defined, "fetch")
    assert (
        "Signature:       fetch(url: str, /, n: int = 3, *rest: int, loud: bool = False) -> 'dict[str, int]'" in shown
    )
    for line in (
        "Fetch a page.",
        "It takes a while.",
        "step fetch(url: str, /, n: int = 3, *rest: int, loud: bool = False) -> dict[str, int]",
        "Options: key=by_url, retries=2, cache='7d', on_change='keep', depends=[clean, 7]",
        "The code of fetch is tracked, with",
        "  functions: clean",
        "  constants: LIMIT = 3",
        "Not tracked:",
        "  mutable data: seen",
    ):
        assert line in shown.splitlines(), line


def test_a_step_without_options_or_docstring_says_so(defined: Shell) -> None:
    shown = asked(defined, "plain")
    assert "step plain(n)\n\nOptions: none given\n\nThe code of plain is tracked, and refers to no other" in shown
    assert "Options: once=True" in asked(defined, "pay")


def test_a_flow_shows_the_same(defined: Shell) -> None:
    shown = asked(defined, "main")
    assert "Signature:       main(urls: list) -> list" in shown
    for line in (
        "Fetch all of them.",
        "flow main(urls: list) -> list",
        "Options: continue_within_s=86400.0, on_change='strict'",
        "  functions: fetch, clean",
    ):
        assert line in shown.splitlines(), line


def test_the_code_is_described_as_it_is_now(defined: Shell) -> None:
    defined.fine("LIMIT = 5")
    assert "constants: LIMIT = 5" in asked(defined, "fetch")


class Odd:
    """An object that hardly anything can be done with."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depends": [iter(())]}, "(Its code can't be shown: ValueNotStorable: an iterator"),
        ({"depends": [Odd()]}, "(Its options can't be shown: RuntimeError: no"),
    ],
)
def test_what_can_not_be_told_does_not_keep_the_rest_back(options: dict[str, Any], message: str) -> None:
    odd = iron.step(**options)(len_of)
    assert message in odd.getdoc()
    assert "step " in odd.getdoc()


def len_of(text: str) -> int:
    return len(text)


@pytest.mark.parametrize("function", [len, str.upper, Odd().__repr__, test_a_flow_shows_the_same])
def test_whatever_a_step_is_made_of_it_can_be_asked_about(function: Any) -> None:
    assert "step any" in iron.step(name="any")(function).getdoc()


@pytest.mark.parametrize("name", ["fetch", "plain"])
def test_how_the_decorator_is_called_is_not_told(shell: Shell, name: str) -> None:
    shell.fine("%load_ext ironflow_nb")
    shell.fine(CELL)
    told = shell.ipython.inspector.info(shell.space[name], name)
    assert told["definition"].startswith(f"{name}(")
    assert not told["call_def"]
    assert not told["call_docstring"]
    assert "Class docstring" not in asked(shell, name)
    assert "Init docstring" not in asked(shell, name)
    shell.fine("%unload_ext ironflow_nb")
    assert shell.ipython.inspector.info(shell.space[name], name)["call_def"]
