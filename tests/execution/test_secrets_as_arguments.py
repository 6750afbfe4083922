"""`iron.Secret` in runs: who gave the token once is not asked for it in what is done already, and no file has it."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import InputsNotStored, SecretMissing, ValueNotStorable
from ironflow_nb.values.argument_types import Secret
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import until

TOKEN = "tok-93af1c"


@step
def n_letters(token: iron.Secret) -> int:
    return len(token.value)


@pytest.fixture
def main(lab: Lab, world: World) -> Any:
    @step
    def fetch(page: int, token: iron.Secret) -> str:
        world.did("fetch", page)
        return f"{page} with {len(token.value)} letters"

    @step
    def publish(token: iron.Secret) -> int:
        world.did("publish")
        if world.is_broken:
            raise ConnectionError(f"refused {token}")
        return len(token.value)

    @flow
    def main(token: iron.Secret) -> list[Any]:
        pages = list(fetch.map([1, 2], fixed={"token": token}))
        return [*pages, publish(token)]

    return main


def break_once(main: Any, secret: iron.Secret, world: World) -> iron.Run[Any]:
    with pytest.raises(ConnectionError):
        main(secret)
    world.is_broken = False
    world.log.clear()
    run: iron.Run[Any] = main.last
    return run


def test_the_same_text_is_the_same_call(lab: Lab, main: Any, world: World) -> None:
    break_once(main, iron.Secret(TOKEN), world)
    lab.die()
    assert main(iron.Secret(TOKEN)) == ["1 with 10 letters", "2 with 10 letters", 10]
    assert world.log == ["publish"]
    main(iron.Secret("another"))
    assert len(main.runs()) == 2


def test_nothing_of_the_journal_has_the_text(lab: Lab, main: Any, world: World, tmp_path: Path) -> None:
    run = break_once(main, iron.Secret(TOKEN), world)
    shown = [run.arguments, run.steps(), run.events(), run.inputs("publish"), run.error, run.report(), iron.runs()]
    assert TOKEN not in "".join(map(repr, shown))
    assert repr(run.arguments["token"]) == "Secret('***')"
    lab.engine.flush()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_run_resumes_where_it_began_without_being_given_the_text_again(main: Any, world: World) -> None:
    run = break_once(main, iron.Secret(TOKEN), world)
    assert run.resume().result(10)[-1] == len(TOKEN)
    assert world.log == ["publish"]


def test_elsewhere_only_what_needs_the_text_asks_for_it(
    lab: Lab, main: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = break_once(main, iron.Secret(TOKEN), world)
    lab.die()
    monkeypatch.setattr(Secret, "_of_process", {})
    with pytest.raises(SecretMissing, match="call the flow again"):
        iron.get_run(run.id).resume().result(10)
    assert world.log == ["publish"]
    lab.cell()
    assert main(iron.Secret(TOKEN))[-1] == len(TOKEN)
    assert len(main.runs()) == 1


def test_a_new_token_in_a_variable_repeats_nothing(
    lab: Lab, main: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "expired")
    run = break_once(main, iron.Secret.from_env("TOKEN"), world)
    monkeypatch.setenv("TOKEN", TOKEN)
    lab.die()
    assert iron.get_run(run.id).resume().result(10) == ["1 with 7 letters", "2 with 7 letters", 10]
    assert world.log == ["publish"]


def test_a_result_can_have_none(lab: Lab) -> None:
    @step
    def log_in() -> dict[str, iron.Secret]:
        return {"token": iron.Secret(TOKEN)}

    @flow
    def main() -> int:
        return len(log_in())

    with pytest.raises(ValueNotStorable, match=r"an iron\.Secret can't be stored"):
        main()


def test_nor_can_one_be_handed_on_to_others(lab: Lab, main: Any) -> None:
    token = iron.Secret(TOKEN)

    @flow
    def asks(token: iron.Secret) -> Any:
        return iron.ask("Who?", {"token": token})

    run = asks.start(token)
    until(lambda: not iron.waiting().empty)
    assert TOKEN not in iron.waiting().to_string()
    run.cancel()
    for hand_on in (
        lambda: iron.emit("order.placed", {"token": token}),
        lambda: main.schedule(every_s=3600, args=[token]),
        lambda: run.signal("go", token),
    ):
        with pytest.raises(ValueNotStorable, match=r"make it with iron\.Secret\.from_env"):
            hand_on()


def test_another_process_is_given_the_name_of_a_variable_and_no_text(lab: Lab, main: Any) -> None:
    with pytest.raises(InputsNotStored, match=r'pass iron\.Secret\.from_env\("NAME"\)'):
        main.start(iron.Secret(TOKEN), detach=True)
    assert main.start(iron.Secret.from_env("TOKEN"), detach=True).status == "pending"


def test_a_body_in_a_worker_process_gets_the_text(lab: Lab) -> None:
    @flow
    def main(token: iron.Secret) -> int:
        return n_letters.options(executor=pool)(token)

    with ProcessPoolExecutor(1) as pool:
        assert main(iron.Secret(TOKEN)) == len(TOKEN)
