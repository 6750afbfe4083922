"""What starts the demo in the cloud agrees with the package; checked without a network."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_requirements_are_this_package_with_an_extra_that_it_has() -> None:
    lines = (BINDER / "requirements.txt").read_text().split()
    extras = [re.fullmatch(r"\.\[(\w+)\]", line) for line in lines]
    assert extras
    assert all(match is not None and match[1] in PROJECT["optional-dependencies"] for match in extras)


def test_the_runtime_is_a_python_that_the_package_supports() -> None:
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


@pytest.mark.skipif(os.name != "posix", reason="no execute bits elsewhere")
def test_the_post_build_is_a_script_that_can_be_executed() -> None:
    script = BINDER / "postBuild"
    assert script.stat().st_mode & 0o111
    interpreter = script.read_text().splitlines()[0].removeprefix("#!")
    assert shutil.which(interpreter)
    trusted = re.search(r"jupyter trust (\S+)", script.read_text())
    assert trusted is not None
    assert list(ROOT.glob(trusted[1]))
