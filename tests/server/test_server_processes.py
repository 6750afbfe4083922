"""The process of the server: how it begins, who may ask, how it ends, and what goes on after its death."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.conftest import Service
from tests.server.test_runs_over_http import code
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
TOKEN = "0123456789abcdef"
NOTEBOOK = json.dumps({
    "cells": [{
        "cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None,
        "source": "from ironflow_nb import flow\n\n@flow\ndef of_notebook():\n    return 1",
    }],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
})  # fmt: skip


def refused(service: Service, *words: str, **environment: str) -> tuple[int, str]:
    """Begin a server that refuses to; return its exit code and what it says."""
    found = subprocess.run(
        [sys.executable, "-m", "ironflow_nb", "serve", *words], cwd=service.folder, capture_output=True, text=True,
        check=False, timeout=LIMIT_S, env=service.environment | environment,
    )  # fmt: skip
    return found.returncode, found.stderr


@pytest.mark.slow
def test_a_token_is_a_key_of_an_admin(service: Service) -> None:
    assert refused(service, "job.py", "--token", "short")[0] == 2
    service.begin("--host", "0.0.0.0", IRONFLOW_TOKEN=TOKEN)
    assert "TLS" in service.said()
    assert TOKEN not in service.said()
    assert service.printed() == ""
    assert service.client.get("/health").status_code == 200
    for given in ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", f"Basic {TOKEN}", "Bearer \xe9"):
        found = service.client.get("/runs", headers={"Authorization": given.encode("latin-1")})
        assert code(found) == (401, "unauthorized")
    assert code(service.client.get("/nothing")) == (401, "unauthorized")
    assert service.client.get("/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
def test_nothing_is_accepted_for_a_journal_that_is_gone(service: Service) -> None:
    service.begin()
    assert service.client.get("/health").status_code == 200
    service.start("squares", input={"n": 1}, wait=True, status=200)
    shutil.rmtree(service.folder / ".ironflow")
    assert code(service.client.get("/health")) == (503, "journal_error")
    for more in ({}, {"key": "a"}, {"wait": True}):
        found = service.client.post("/runs", json={"flow": "squares", "input": {"n": 1}, **more})
        assert code(found) == (503, "journal_error")


@pytest.mark.slow
def test_a_taken_port_and_a_name_of_two_files_are_told(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        exit_code, said = refused(service, "job.py", "--port", str(taken.getsockname()[1]))
    assert (exit_code, "--port" in said) == (1, True)
    (service.folder / "other.py").write_text("from ironflow_nb import flow\n\n@flow\ndef squares():\n    pass\n")
    exit_code, said = refused(service, "job.py", "other.py", "--port", "0")
    assert exit_code == 1
    assert f"{service.folder / 'job.py'} and by {service.folder / 'other.py'}" in said


@pytest.mark.slow
def test_the_files_of_a_folder_are_served_and_found_after_a_notebook(service: Service) -> None:
    folder = service.folder / "flows"
    folder.mkdir()
    (folder / "first.ipynb").write_text(NOTEBOOK)  # it is loaded in its own folder
    for name in ("job.py", "shout.yaml"):
        (service.folder / name).rename(folder / name)
    (folder / "_draft.py").write_text("this is no Python")
    service.begin(files=("flows",))
    names = {each["name"] for each in service.client.get("/flows").json()["flows"]}
    assert {"of_notebook", "squares", "shout"} <= names
    service.end()
    (service.folder / "none").mkdir()
    exit_code, said = refused(service, "none", "--port", "0")
    assert (exit_code, "has no file" in said) == (1, True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for another process")
def test_a_server_that_is_asked_to_end_answers_who_waits_and_keeps_what_it_accepted(service: Service) -> None:
    service.begin()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(service.start, "gated", input={"n": 1}, wait=True)
        until(lambda: service.bodies() == ["work 1", "gate 1"])
        parked = service.start("waits")["run_id"]
        service.until_status(parked, "waiting")
        service.processes[-1].send_signal(signal.SIGTERM)
        gated = waits.result(LIMIT_S)
    assert gated["status"] == "running"
    service.open()
    assert service.processes[-1].wait(LIMIT_S) == 0
    service.begin()
    assert service.until_status(gated["run_id"], "completed")["result"] == [1, 1, 4]
    assert service.run(parked)["status"] == "waiting"
    service.client.post(f"/runs/{parked}/signals/go", json={"payload": 5}).raise_for_status()
    assert service.until_status(parked, "completed")["result"] == [1, 5, 4]
    assert service.bodies().count("gate 1") == 1


@pytest.mark.crash
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_every_accepted_run_goes_on_after_the_server_was_killed(service: Service) -> None:
    service.begin()
    keyed = [service.start("gated", input={"n": 10 * n}, key=f"job {n}")["run_id"] for n in range(3)]
    plain = [service.start("gated", input={"n": 10 * n})["run_id"] for n in range(3, 6)]
    parked = service.start("waits")["run_id"]
    service.until_status(parked, "waiting")
    service.end(signal.SIGKILL)
    service.open()
    service.begin()
    again = [service.start("gated", input={"n": 10 * n}, key=f"job {n}", wait=True, status=200) for n in range(3)]
    assert [each["run_id"] for each in again] == keyed
    for n, run_id in enumerate(keyed + plain):
        found = service.until_status(run_id, "completed")
        assert found["result"] == [(10 * n) ** 2, 10 * n, (10 * n + 1) ** 2]
    assert len(service.client.get("/runs", params={"flow": "gated"}).json()["runs"]) == 6
    service.client.post(f"/runs/{parked}/signals/go", json={"payload": None}).raise_for_status()
    assert service.until_status(parked, "completed")["result"] == [1, None, 4]
