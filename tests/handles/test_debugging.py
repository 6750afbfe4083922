"""A step again by hand: `run.debug` gives its arguments, its failure, and the line that calls it again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from tests.cells import World
from tests.conftest import Lab


@dataclasses.dataclass(frozen=True)
class Row:
    number: int


class Machine:
    """Nothing that can be stored."""

    def __reduce__(self) -> str:
        raise TypeError("a machine stays where it is")


@iron.step
def parse(row: Row, unit: str = "kg") -> str:
    if row.number == 2:
        raise ValueError("row 2\nis bad")
    return f"{row.number} {unit}"


@iron.step
def places(first: int, /, second: int, *rest: int, third: int, **others: int) -> int:
    raise KeyError(first, second, rest, third, others)


@iron.step
def drive(machine: Machine, n: int) -> int:
    raise ConnectionError(n)


@iron.step
async def later(n: int) -> int:
    raise ConnectionError(n)


doubled = iron.step(lambda n: n / 0, name="doubled")


def again(call: Any) -> Any:
    """Do what the ready cell does."""
    space = {"inputs": call.inputs, "function": call.function}
    *before, last = call.code.splitlines()
    exec("\n".join(before), space)
    return eval(last, space)


def failed_run(flow: Any, *args: Any) -> Any:
    with pytest.raises(Exception):  # noqa: B017, PT011 -- which one is not the point
        flow(*args)
    return flow.last


def test_the_step_that_failed_the_run_can_be_called_again(lab: Lab) -> None:
    @iron.flow
    def main() -> list[str]:
        return list(parse.map([Row(1), Row(2), Row(3)]))

    run = failed_run(main)
    call = run.debug()
    assert call.step == f"{parse.name}[1]"
    assert call.inputs == {"row": Row(2), "unit": "kg"}
    assert isinstance(call.error, ValueError)
    assert "Traceback" in call.error_text
    assert "in parse" in call.error_text
    comment = call.code.splitlines()[0]
    assert comment.startswith(f"# {parse.name}[1] of run {run.id}: ValueError: row 2 is bad (line ")
    assert comment.endswith("of test_debugging.py, in parse)")
    assert call.code.endswith(f"import {__name__}\n{__name__}.parse.fn(**inputs)")
    assert repr(call) == call.code
    with pytest.raises(ValueError, match="is bad"):
        again(call)


def test_a_step_that_did_not_fail_is_given_with_its_arguments(lab: Lab) -> None:
    @iron.flow
    def main() -> list[str]:
        return list(parse.map([Row(1), Row(3)]))

    main()
    run: Any = main.last
    call = run.debug(f"{parse.name}[1]")
    assert (call.error, call.error_text) == (None, "")
    assert call.code.splitlines()[0] == f"# {parse.name}[1] of run {run.id}: completed"
    assert again(call) == "3 kg"
    with pytest.raises(
        iron.errors.StepNotFound, match=r"is completed, and no step has failed it; name one: its steps are"
    ):
        run.debug()
    with pytest.raises(iron.errors.AmbiguousStep):
        run.debug(parse)


def test_of_many_steps_of_one_name_the_one_that_failed_is_meant(lab: Lab) -> None:
    @iron.flow
    def main() -> int:
        return len(parse.map([Row(1), Row(2)], on_error="collect").errors)

    assert main() == 1
    run: Any = main.last
    assert run.debug(parse).step == f"{parse.name}[1]"
    with pytest.raises(iron.errors.StepNotFound, match=rf"the steps that failed are {parse.name}\[1\]"):
        run.debug()


def test_arguments_come_to_the_places_that_the_signature_gives_them(lab: Lab) -> None:
    @iron.flow
    def main() -> int:
        return places(1, 2, 3, 4, third=5, fourth=6)

    call = failed_run(main).debug()
    with pytest.raises(KeyError) as raised:
        again(call)
    assert raised.value.args == (1, 2, (3, 4), 5, {"fourth": 6})


def test_what_was_not_stored_is_named_and_left_out(lab: Lab) -> None:
    @iron.flow
    def main() -> int:
        return drive(Machine(), 3)

    call = failed_run(main).debug()
    assert call.inputs == {"n": 3}
    assert f"# not stored, so replace the dots by them: machine ({__name__}.Machine)" in call.code
    assert call.code.endswith("drive.fn(**inputs, machine=...)")


def test_a_resource_is_given_as_the_body_gets_it(lab: Lab) -> None:
    @iron.step
    def fetch(client: Any) -> None:
        raise ConnectionError

    @iron.flow
    def main() -> None:
        fetch(iron.resource({"host": "example.org"}))

    assert failed_run(main).debug().inputs == {"client": {"host": "example.org"}}


def test_an_async_step_is_awaited(lab: Lab) -> None:
    @iron.flow
    def main() -> int:
        return later.submit(1).result()

    assert failed_run(main).debug().code.endswith(f"await {__name__}.later.fn(**inputs)")


def test_a_step_is_found_under_whatever_name_it_has(lab: Lab) -> None:
    @iron.flow
    def main() -> float:
        return doubled(1)

    call = failed_run(main).debug()
    assert call.code.endswith(f"{__name__}.doubled.fn(**inputs)")
    with pytest.raises(ZeroDivisionError):
        again(call)


def test_a_step_that_no_name_leads_to_is_called_as_function(lab: Lab, world: World) -> None:
    @iron.step
    def local(n: int) -> None:
        world.did(n)
        raise ConnectionError

    @iron.flow
    def main() -> None:
        local(7)

    call = failed_run(main).debug()
    assert call.code.endswith("\nfunction(**inputs)")
    with pytest.raises(ConnectionError):
        again(call)
    assert world.log == [7, 7]


def test_a_step_that_is_not_defined_here_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @iron.flow
    def main() -> str:
        return parse(Row(2))

    run = failed_run(main)
    monkeypatch.setattr(REGISTRY, "_steps", {})
    call = run.debug()
    assert call.function is None
    assert f"# {parse.name} is not defined here; run the cell" in call.code
    assert call.inputs == {"row": Row(2), "unit": "kg"}


def test_a_flow_that_failed_by_itself_says_so(lab: Lab) -> None:
    @iron.flow
    def main() -> None:
        parse(Row(1))
        raise RuntimeError("no step of mine")

    with pytest.raises(iron.errors.StepNotFound, match="failed in the flow itself"):
        failed_run(main).debug()


def test_a_child_run_says_where_its_own_steps_are(lab: Lab) -> None:
    @iron.flow
    def child(n: int) -> str:
        return parse(Row(n))

    @iron.flow
    def main() -> str:
        return child(2)

    call = failed_run(main).debug()
    assert call.inputs == {"n": 2}
    own = call.code.splitlines()[1]
    assert own.startswith("# its own steps: iron.get_run(")
    assert eval(own.removeprefix("# its own steps: "), {"iron": iron}).step == f"{parse.name}[0]"


def test_an_argument_whose_class_is_gone_is_an_error_that_names_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @iron.flow
    def main() -> str:
        return parse(Row(2))

    run = failed_run(main)
    monkeypatch.delattr(f"{__name__}.Row")
    with pytest.raises(iron.errors.ValueUnreadable, match="no class of that name exists here") as raised:
        run.debug()
    assert raised.value.__notes__ == ["It is the recorded argument `row`."]
