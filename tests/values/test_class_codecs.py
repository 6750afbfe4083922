"""`@iron.codec`: how values of a class are stored is the user's own choice."""

from __future__ import annotations

import re
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import ValueNotStorable, ValueUnreadable
from ironflow_nb.history.recorded_values import preview_tree
from ironflow_nb.values import class_codecs
from ironflow_nb.values.tagged import untag
from tests.conftest import Lab
from tests.values.workshop import new_values


class Sound:
    """A class of a library whose objects no pickle takes."""

    def __init__(self, samples: bytes) -> None:
        self.samples = samples
        self.n_reads = 0

    def __reduce__(self) -> str:
        raise TypeError("it holds a device")


class Loud(Sound):
    pass


class SoundCodec:
    def encode(self, sound: Sound) -> dict[str, Any]:
        return {"samples": sound.samples, "rate": 48_000}

    def decode(self, data: dict[str, Any]) -> Sound:
        return Sound(data["samples"])


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_codecs, "_CODECS", {})
    iron.codec(Sound)(SoundCodec)


def holders(sound: Sound) -> list[Any]:
    return [sound, [sound], {"sound": sound}, (1, sound), {1: [sound]}]


@pytest.mark.parametrize("n", range(5))
def test_a_value_comes_back_wherever_it_stands(n: int) -> None:
    values = new_values()
    stored, echo = values.store(holders(Sound(b"abc"))[n])
    assert stored.codec == "json"
    found = echo
    while not isinstance(found, Sound):
        found = list(found.values() if isinstance(found, dict) else found)[-1]
    assert (type(found), found.samples) == (Sound, b"abc")
    assert preview_tree({"~": "codec", "c": "tests.Sound", "v": {}}) == "Sound(...)"


@pytest.mark.parametrize("n", range(5))
def test_what_it_is_encoded_to_identifies_it(n: int) -> None:
    values, sound = new_values(), Sound(b"abc")
    before = values.digester.digest(holders(sound)[n])
    sound.n_reads = 3
    assert values.digester.digest(holders(sound)[n]) == before
    assert not before.opaque
    assert values.digester.digest(holders(Sound(b"abd"))[n]) != before


def test_it_is_not_used_for_another_class() -> None:
    with pytest.raises(ValueNotStorable, match="it holds a device"):
        new_values().store(Loud(b""))


def test_a_later_codec_takes_the_place_of_an_earlier_one() -> None:
    class Bare:
        @staticmethod
        def encode(sound: Sound) -> bytes:
            return sound.samples

        @staticmethod
        def decode(content: bytes) -> Sound:
            return Sound(content)

    stored = new_values().store(Sound(b"abc"))[0]
    assert iron.codec(Sound)(Bare) is Bare
    assert len(new_values().store(Sound(b"abc"))[0].content or b"") < stored.size


def test_a_codec_that_loses_something_is_not_used() -> None:
    class Point:
        def __init__(self, x: int, y: int) -> None:
            self.x, self.y = x, y

    class Flat:
        def encode(self, point: Point) -> list[int]:
            return [point.x, point.y]

        def decode(self, data: list[int]) -> Point:
            return Point(data[0], 0)

    iron.codec(Point)(Flat)
    stored, echo = new_values().store(Point(1, 2))
    assert stored.codec == "pickle"
    assert echo.y == 2


def test_an_error_in_it_names_the_class() -> None:
    class Broken:
        def encode(self, sound: Sound) -> bytes:
            raise OSError("no device")

        def decode(self, content: bytes) -> Sound:
            return Sound(content)

    iron.codec(Sound)(Broken)
    with pytest.raises(ValueNotStorable, match=r"the codec of .*Sound can't encode a value: OSError: no device"):
        new_values().store([Sound(b"")])


def test_without_the_codec_the_value_says_what_to_define() -> None:
    tree = {"~": "codec", "c": "sounds.Tone", "v": 1}
    with pytest.raises(ValueUnreadable, match=re.escape("with @iron.codec(Tone)")):
        untag(tree)


@pytest.mark.parametrize("kind", [dict, int, "Sound", None])
def test_a_codec_is_for_a_class_that_has_none_yet(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"@iron\.codec takes a class of yours or of a library"):
        iron.codec(kind)


def test_what_lacks_a_direction_is_no_codec() -> None:
    class Half:
        def encode(self, sound: Sound) -> bytes:
            return sound.samples

    with pytest.raises(TypeError, match="a codec has two methods"):
        iron.codec(Sound)(Half)


def test_steps_pass_such_values_on_and_a_new_process_reads_them(lab: Lab) -> None:
    performed: list[str] = []
    broken = [True]

    @step
    def record(n: int) -> Sound:
        return Sound(bytes(n))

    @step
    def length(sound: Sound) -> int:
        return len(sound.samples)

    @flow(name="sounds")
    def main() -> int:
        n = length(record(7))
        if broken:
            raise ConnectionError
        return n

    with pytest.raises(ConnectionError):
        main()
    broken.clear()
    lab.die()
    assert main() == 7
    assert main.last is not None
    assert main.last.value("record").samples == bytes(7)
    assert not performed
