"""No result that a run with secrets stores has one in it, in whatever type and form: the journal's bytes tell."""

from __future__ import annotations

import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import ExpressionFailed, SecretMissing, ValueNotStorable
from tests.graphs.hidden import NUMBERS, RESULTS, Frozen, Record, Shown, calling, contents, journal, secrets_in, shown

__all__ = ["journal"]


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("secret", ["token", "key"])
def test_no_result_has_a_secret_in_it(journal: Path, secret: str, result: str) -> None:
    graph = calling(RESULTS[result], f"{{{{ secrets.{secret} }}}}")
    told: Any
    try:
        told = graph()
    except ValueNotStorable as error:
        told = [str(error), *error.__notes__]
    assert secrets_in(journal, None if isinstance(told, Shown) else told, *shown(graph)) == []


@pytest.mark.parametrize("result", NUMBERS)
def test_no_number_is_a_secret(journal: Path, result: str) -> None:
    graph = calling(NUMBERS[result], "{{ secrets.pin }}")
    with suppress(ValueNotStorable):
        graph()
    assert secrets_in(journal, *shown(graph)) == []


def test_data_is_blackened_and_keeps_its_classes(journal: Path) -> None:
    def f(token: str) -> Any:
        return Record(f"x {token}"), {token}, Frozen((token,)), Path(f"/a/{token[:3]}"), {"n": 1.5, "t": [token, None]}

    graph = calling(f, "{{ secrets.token }}")
    graph()
    assert graph.last is not None
    assert graph.last.value("g.a") == (
        Record("x ***"), {"***"}, Frozen(("***",)), Path("/a/tok"), {"n": 1.5, "t": ["***", None]},
    )  # fmt: skip


def test_what_can_not_be_blackened_is_refused_and_says_so(journal: Path) -> None:
    graph = calling(RESULTS["frame"], "{{ secrets.token }}")
    with pytest.raises(ValueNotStorable, match=r"a secret is in a value of type .*DataFrame.* as plain data"):
        graph()


@pytest.mark.parametrize(
    "made",
    [
        "{{ secrets.pin }}", "{{ to_number(secrets.pin) }}", "{{ split(secrets.token, '/') }}",
        "{{ split(secrets.key, '\n')[1] }}", "{{ reverse(secrets.token) }}", "{{ upper(secrets.token) }}",
        "{{ lower(secrets.token) }}", "{{ base64_encode(join(':', ['u', secrets.token])) }}",
        "{{ hash(secrets.token) }}", "{{ regex_replace(secrets.token, 'Ab', 'zz') }}",
        "{{ from_json(join('', ['[', secrets.pin, ']'])) }}", "{{ {a: secrets.token, b: [to_number(secrets.pin)]} }}",
        "{{ to_string([secrets.token]) }}", "{{ base64_decode(base64_encode(secrets.token)) }}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["echo", "raise", "object"])
def test_what_an_expression_makes_of_a_secret_is_not_kept(journal: Path, made: str, way: str) -> None:
    def f(value: Any) -> Any:
        seen.append(value)
        if way == "raise":
            raise ValueError(value, {"value": (value,)})
        return types.SimpleNamespace(value=value) if way == "object" else {"value": (value, str(value))}

    seen: list[Any] = []
    graph = calling(f, made)
    with suppress(ValueError, ValueNotStorable):
        graph()
    assert secrets_in(journal, *shown(graph)) == []
    parts = [str(each) for value in seen for each in (value if isinstance(value, list) else [value])]
    kept = b"\n".join(contents(journal))
    assert [part for part in parts if len(part) > 3 and part.encode() in kept] == []


def test_a_secret_in_parts_that_can_not_be_found_again_is_refused(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "ab cd ef gh")
    graph = calling(lambda value: value, "{{ split(secrets.token, ' ') }}")
    with pytest.raises(ExpressionFailed, match="parts of a secret with fewer than 4 characters"):
        graph()


def test_parts_beside_a_secret_are_no_secret(journal: Path) -> None:
    graph = calling(
        lambda value: {**value, "t": 1}, "{{ {id: input.id, kind: 'ab', n: length(input.id), t: secrets.token} }}"
    )
    assert graph(id="x1") == {"id": "x1", "kind": "ab", "n": 2, "t": 1}


def test_a_secret_too_short_to_be_found_again_is_refused(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PIN", "123")
    graph = calling(lambda value: value, "{{ secrets.pin }}")
    with pytest.raises(SecretMissing, match="secret pin has only 3 characters"):
        graph()
