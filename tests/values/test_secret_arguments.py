"""`iron.Secret`: a text that counts and that nothing writes down."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import SecretMissing, ValueNotStorable
from ironflow_nb.values.codecs import input_references
from ironflow_nb.values.tagged import untag
from tests.values.workshop import new_values

TEXT = "s3cr3t token"


@dataclasses.dataclass(frozen=True)
class Login:
    token: iron.Secret
    user: str = "ann"


class Client:
    def __init__(self, token: iron.Secret) -> None:
        self.token = token


def holders(secret: iron.Secret) -> list[Any]:
    return [secret, [secret], {"token": secret}, (1, secret), {secret}, Login(secret), [Login(secret)], Client(secret)]


def digest(value: object) -> bytes:
    return new_values().digester.digest(value).digest


def test_only_its_value_shows_the_text() -> None:
    secret = iron.Secret(TEXT)
    assert secret.value == TEXT
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(Login(secret)), repr([secret])]
    assert not [each for each in shown if TEXT in each or "***" not in each]


@pytest.mark.parametrize("text", ["", None, 3, b"bytes", ["t"]])
def test_what_is_no_text_is_refused_and_not_shown(text: Any) -> None:
    with pytest.raises(TypeError, match=r"iron\.Secret takes the text of a secret") as raised:
        iron.Secret(text)
    assert "bytes'" not in str(raised.value)


def test_equal_texts_are_equal_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert iron.Secret(TEXT) == iron.Secret(TEXT) != iron.Secret("other")
    assert iron.Secret(TEXT) != TEXT
    assert len({iron.Secret(TEXT), iron.Secret(TEXT), iron.Secret("other"), iron.Secret.from_env("TOKEN")}) == 3
    monkeypatch.setenv("TOKEN", TEXT)
    assert iron.Secret.from_env("TOKEN") != iron.Secret(TEXT)


def test_the_text_identifies_wherever_the_secret_is_held() -> None:
    before = list(map(digest, holders(iron.Secret(TEXT))))
    assert list(map(digest, holders(iron.Secret(TEXT)))) == before
    assert not set(map(digest, holders(iron.Secret("other")))) & set(before)


def test_without_the_key_of_the_user_the_digest_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(iron.Secret(TEXT))
    monkeypatch.setenv("IRONFLOW_KEY", "another key")
    assert digest(iron.Secret(TEXT)) != before


def test_a_variable_identifies_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TEXT)
    secret = iron.Secret.from_env("TOKEN")
    before = digest(secret)
    assert (secret.value, repr(secret), str(secret)) == (TEXT, "Secret.from_env('TOKEN')", "***")
    monkeypatch.setenv("TOKEN", "a new one")
    assert (secret.value, digest(secret)) == ("a new one", before)
    monkeypatch.delenv("TOKEN")
    assert digest(secret) == before
    with pytest.raises(SecretMissing, match="the environment variable TOKEN is not set") as raised:
        secret.value  # noqa: B018 -- it raises
    assert raised.value.secret == "TOKEN"


@pytest.mark.parametrize("n", range(8))
def test_as_an_argument_only_its_digest_is_stored(n: int) -> None:
    values = new_values()
    holder = holders(iron.Secret(TEXT))[n]
    stored = values.store_inputs({"holder": holder, "rest": 1})
    assert TEXT.encode() not in b"".join(part.content or b"" for part in stored)
    here, elsewhere, gone = input_references(stored[-1])
    assert here["rest"] == 1
    assert not elsewhere
    if isinstance(holder, Client):  # only a pickle stores it
        assert gone.keys() == {"holder"}
    else:
        assert new_values().digester.digest(untag(here["holder"])) == new_values().digester.digest(holder)


@pytest.mark.parametrize("n", range(8))
def test_a_value_that_is_to_be_read_back_can_have_none(n: int) -> None:
    with pytest.raises(ValueNotStorable, match=r"an iron\.Secret can't be stored"):
        new_values().store(holders(iron.Secret(TEXT))[n])
    values, used = new_values(), iron.Secret(TEXT)
    values.store_inputs({"token": used})  # that it was an argument before changes nothing
    for secret in (used, iron.Secret.recorded("00" * 20)):
        with pytest.raises(ValueNotStorable, match=r"an iron\.Secret can't be stored"):
            values.store(holders(secret)[n])


@pytest.mark.parametrize("n", range(8))
def test_one_of_a_variable_is_stored_by_the_name_of_that(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TEXT)
    values = new_values()
    holder = holders(iron.Secret.from_env("TOKEN"))[n]
    stored, echo = values.store(holder)
    assert TEXT.encode() not in (stored.content or b"")
    assert values.digester.digest(echo) == values.digester.digest(holder)


def test_a_recorded_one_has_its_text_only_where_that_was_used() -> None:
    values = new_values()
    text = "used in this process only"
    (stored,) = values.store_inputs({"token": iron.Secret(text)})
    assert untag(input_references(stored)[0]["token"]).value == text
    other = iron.Secret.recorded("00" * 20)
    assert repr(other) == "Secret('***')"
    with pytest.raises(SecretMissing, match="call the flow again with"):
        other.value  # noqa: B018 -- it raises


def test_it_can_be_copied_and_sent_to_the_workers_of_an_executor() -> None:
    secret = iron.Secret(TEXT)
    assert copy.deepcopy(secret) == secret
    assert pickle.loads(pickle.dumps(secret)).value == TEXT
