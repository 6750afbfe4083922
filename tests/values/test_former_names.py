"""Classes of the package that have moved are still found in what older journals hold."""

from __future__ import annotations

from importlib import import_module

import pytest

import ironflow_nb as iron
from ironflow_nb.values.classes import FORMER_MODULES, class_name, restore_code
from ironflow_nb.values.signed_pickles import unpickled
from tests.values.workshop import new_values

# What older versions stored of `iron.Retry(attempts=5)`, and the digest by which its steps are recognised.
STORED = (
    b"\x80\x05\x95\xa5\x00\x00\x00\x00\x00\x00\x00\x8c\x0emsgspec._utils\x94\x8c\x07rebuild\x94\x93\x94\x8c\x19ironflow_nb.core.retrying"
    b"\x94\x8c\x05Retry\x94\x93\x94}\x94(\x8c\x08attempts\x94K\x05\x8c\x07delay_s\x94G?\xf0\x00\x00\x00\x00\x00\x00\x8c\x06factor\x94G@\x00\x00"
    b"\x00\x00\x00\x00\x00\x8c\x0bmax_delay_s\x94N\x8c\x06jitter\x94G\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x02on\x94Nu\x86\x94R\x94."
)
DIGEST = b"\x01\xf9!Q\xa0n\xa7\xbd\x00hl\r)$\x08\x08*D\xb5\xb6"


def test_a_pickle_of_before_the_move_is_rebuilt() -> None:
    assert unpickled(STORED) == iron.Retry(attempts=5)


def test_the_function_that_older_pickles_of_code_call_is_found() -> None:
    assert unpickled(b"cironflow_nb.values.stored_code\nrestore_code\n.") is restore_code


def test_an_argument_of_a_class_that_moved_is_recognised() -> None:
    assert new_values().digester.digest(iron.Retry(attempts=5)).digest == DIGEST
    assert class_name(iron.Retry) == "ironflow_nb.core.retrying.Retry"


@pytest.mark.parametrize("module", FORMER_MODULES.values())
def test_what_a_former_name_stands_for_exists(module: str) -> None:
    assert import_module(module)
