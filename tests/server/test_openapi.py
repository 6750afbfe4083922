"""Schemathesis asks a real server whatever its OpenAPI document allows and forbids, and finds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from tests.conftest import FULL_PROOF, SEED
from tests.server.conftest import Service
from tests.server.test_deciders_over_http import MACHINE
from tests.waits.conftest import LIMIT_S

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

N_EXAMPLES: Final = 200 if FULL_PROOF else 3
PROJECTION: Final = """
@iron.projection("placed", initial=0)
def placed(count, event):
    return count + 1
"""
SETTINGS: Final = """
# What a schema can't say is 422: an unknown status, an instant that is none, a step that the run does not have.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "410", "422"]

# The runs stay for the other routes.
[[operations]]
include-name = "DELETE /runs/{run_id}"
parameters = { "path.run_id" = "nothing" }
"""


def dictionaries(known: Mapping[str, Sequence[str]]) -> str:
    """Return settings with which a parameter mostly has one of its known values."""
    values = [f'[dictionaries."{name}"]\nvalues = {json.dumps(each)}' for name, each in known.items()]
    bound = [f'"{name}" = {{ dictionary = "{name}", probability = 0.7 }}' for name in known]
    return "\n".join([*values, "[parameters]", *bound])


@pytest.mark.slow
def test_schemathesis_finds_nothing(service: Service) -> None:
    (service.folder / "machine.py").write_text(MACHINE + PROJECTION)
    service.begin(files=("job.py", "shout.yaml", "machine.py"))
    begun = [service.start("waits"), service.start("squares", input={"n": 2}), service.start("bad")]
    known = {
        "path.run_id": [each["run_id"] for each in begun],
        "path.name": ["order", "placed", "go", "page.css"],
        "path.instance": ["o-1"],
        "path.node": ["work"],
        "query.flow": ["squares"],
        "body.flow": ["squares", "bad", "typed", "shout", "odd"],
        "body.step": ["work", "work[0]", "iron.wait_for[0]"],
        "body.command": ["Place", "Pay"],
        "body.decider": ["order"],
    }
    (service.folder / "schemathesis.toml").write_text(f"{SETTINGS}\n{dictionaries(known)}\n")
    found = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{service.client.base_url}/openapi.json",
            "--max-examples", str(N_EXAMPLES), "--seed", str(SEED), "--phases", "examples,coverage,fuzzing",
            "--exclude-path-regex", "^/work/", "--generation-database", "none", "--no-color",
        ],
        cwd=service.folder, capture_output=True, text=True, check=False, timeout=LIMIT_S * N_EXAMPLES,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Traceback" not in service.said()
