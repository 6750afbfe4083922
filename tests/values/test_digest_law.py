"""Digests are equal exactly where type and content are equal, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.values.catalogue import CATALOGUE
from tests.values.workshop import new_values, same

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

EACH = pytest.mark.parametrize("make", CATALOGUE.values(), ids=CATALOGUE.keys())


@pytest.mark.sampled(60)
@EACH
def test_what_is_made_alike_digests_alike(make: Callable[[], Any]) -> None:
    assert new_values().digester.digest(make()) == new_values().digester.digest(make())


@pytest.mark.sampled(60)
@EACH
def test_nothing_in_the_catalogue_is_opaque(make: Callable[[], Any]) -> None:
    assert new_values().digester.digest(make()).opaque == ()


def test_no_two_values_of_the_catalogue_digest_alike() -> None:
    digester = new_values().digester
    digests = {name: digester.digest(make()).digest for name, make in CATALOGUE.items()}
    alike = [(a, b) for a, b in combinations(digests, 2) if digests[a] == digests[b]]
    assert alike == []


def test_the_catalogue_holds_what_it_promises() -> None:
    values = {name: make() for name, make in CATALOGUE.items() if type(make()) is type(make())}
    assert len(values) > len(CATALOGUE) - 4  # the classes of some are made with them
    assert [name for name, value in values.items() if not same(value, CATALOGUE[name]())] == []
    assert [(a, b) for a, b in combinations(values, 2) if same(values[a], values[b])] == []


def test_digests_are_the_same_in_processes_with_other_hash_seeds() -> None:
    found = [_digests(seed) for seed in ("0", "1", "4711")]
    here = {name: new_values().digester.digest(make()).digest.hex() for name, make in CATALOGUE.items()}
    for digests in found:
        assert {name for name in here if digests[name] != here[name]} == set()


def _digests(hash_seed: str) -> dict[str, str]:
    # It is imported and not run as __main__, where its classes would have other names.
    program = "from tests.values.catalogue import print_digests; print_digests()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
