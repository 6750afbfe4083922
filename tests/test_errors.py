"""Every error class: what the root shows of them, what each carries, and that it is carried everywhere."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import IronflowError
from ironflow_nb.values.failures import recorded_error, store_failure
from ironflow_nb.values.signed_pickles import Signer

AT_THE_ROOT = {
    "CodeChanged", "CommandRejected", "GraphInvalid", "IronflowError", "JournalError", "NodeFailed", "NotRetryable",
    "ResultTimeout", "RunCancelled", "RunFailed", "RunInterrupted", "RunNotFound", "StepFailed", "WaitTimeout",
}  # fmt: skip
GIVEN = {
    "str": "text", "int": 3, "float": 0.5, "bool": False, "bytes": b"b", "Path": Path("here"), "list[int]": [4],
    "list[str]": ["a"], "tuple[GraphFinding, ...]": ("found",), "Any": {"a": 1}, "object": [1],
    "dict[str, str]": {"a": "b"},
}  # fmt: skip


class RefusedByPartner(iron.NodeFailed):
    """An error of a user, made of something else than a message."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


def subclasses(kind: type[IronflowError]) -> list[type[IronflowError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in subclasses(below))]


CLASSES = sorted(
    {each for each in subclasses(IronflowError) if each.__module__ == "ironflow_nb.errors"},
    key=lambda kind: kind.__name__,
)


def declared(kind: type[IronflowError]) -> dict[str, str]:
    """Return the types of the attributes that the class and its bases declare."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, IronflowError):
            found |= vars(base).get("__annotations__", {})
    return {name: text.removesuffix(" | None") for name, text in found.items() if name != "message"}


def full(kind: type[IronflowError]) -> IronflowError:
    return kind("what was asked", **{name: GIVEN[text] for name, text in declared(kind).items()})


def contents(error: BaseException) -> tuple[type, str, dict[str, Any]]:
    return type(error), str(error), {name: getattr(error, name) for name in declared(type(error))}  # type: ignore[arg-type]


def test_the_root_shows_the_errors_that_users_catch_and_the_module_of_errors() -> None:
    shown = {name for name in dir(iron) if name in {kind.__name__ for kind in CLASSES}}
    assert shown == AT_THE_ROOT
    assert {"errors"} <= set(dir(iron))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_code_that_names_an_error_at_the_root_goes_on(kind: type[IronflowError]) -> None:
    assert getattr(iron, kind.__name__) is getattr(iron.errors, kind.__name__) is kind


def test_the_root_hands_out_nothing_else_of_the_module_of_errors() -> None:
    with pytest.raises(AttributeError, match="TYPE_CHECKING"):
        iron.TYPE_CHECKING  # noqa: B018


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_an_error_carries_is_declared_and_can_always_be_read(kind: type[IronflowError]) -> None:
    get_type_hints(kind)  # raises where one can't be read
    error = kind("what was asked")
    assert (str(error), error.message, error.ids) == ("what was asked", "what was asked", {})
    for name in declared(kind):
        assert name in dir(kind)
        getattr(error, name)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_a_pickle_and_a_copy(kind: type[IronflowError]) -> None:
    error = full(kind)
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert contents(again) == contents(error)
        assert again.ids == error.ids
        assert again.__notes__ == ["a note"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_the_journal(kind: type[IronflowError]) -> None:
    error = full(kind)
    assert contents(recorded_error(store_failure(error), Signer(os.urandom), where="here")) == contents(error)


def test_errors_cross_processes() -> None:
    script = "import pickle, sys; print([(str(e), e.ids) for e in pickle.load(sys.stdin.buffer)])"
    errors = [full(kind) for kind in CLASSES]
    found = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(errors), capture_output=True, check=True
    ).stdout.decode()
    assert found.strip() == str([(str(error), error.ids) for error in errors])


def test_an_error_of_a_user_that_is_made_of_something_else_is_the_same_after_a_pickle() -> None:
    again = pickle.loads(pickle.dumps(RefusedByPartner(7)))
    assert (type(again), str(again), again.code, again.is_retryable) == (RefusedByPartner, "refused with 7", 7, True)


def test_an_error_of_an_older_pickle_or_record_is_read() -> None:
    error = iron.errors._rebuild(iron.errors.RunFinished, "over", {"run_id": "abc"})
    vars(error)["ids"] = {"run_id": "abc"}
    assert isinstance(error, iron.errors.RunFinished)
    assert (error.run_id, error.ids) == ("abc", {"run_id": "abc"})


def test_a_handler_reads_the_same_attributes_again_after_a_restart(iron_engine: object) -> None:
    seen: list[tuple[object, ...]] = []

    @step
    def ask() -> None:
        raise iron.NodeFailed("busy", node="ask", is_retryable=False, status_code=503, trace="kept")

    @flow
    def main() -> None:
        try:
            ask()
        except iron.NodeFailed as error:
            seen.append((error.node, error.is_retryable, error.status_code, error.trace))  # type: ignore[attr-defined]
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            main()
    assert seen == [("ask", False, 503, "kept")] * 2
