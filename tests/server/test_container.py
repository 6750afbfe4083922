"""The image and the compose file, without a daemon: what they copy and install is there, and what they start works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytestmark = [pytest.mark.skipif(os.name == "nt", reason="the image is of Linux"), pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = YAML(typ="safe").load(DEPLOY / "compose.yaml")
FLOWS = """
from ironflow_nb import flow, step

@step
def work(n):
    return n * n

@flow
def square(n: int):
    return work(n)
"""


def instructions() -> list[tuple[str, str]]:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word and word != "#"]


class Image:
    """What the image would have: a folder with the installed package, and one with flows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.packages, self.flows = folder, folder / "packages", folder / "flows"
        self.flows.mkdir()
        (self.flows / "job.py").write_text(FLOWS)
        self.processes: list[subprocess.Popen[str]] = []

    def build(self) -> None:
        """Copy what the file copies, and install what it installs, of the package itself."""
        for word, rest in instructions():
            if word == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(ROOT / source, self.folder / target.lstrip("/"), is_into=target.endswith("/"))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
        subprocess.run([*command, self.packages, self.folder / "source"], check=True, timeout=LIMIT_S)

    @staticmethod
    def _copy(source: Path, target: Path, *, is_into: bool) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target if is_into else target.parent)

    def start(self, words: list[str], **environment: str) -> str:
        """Start a command of the image with the flows; return the address of a server."""
        [entry] = [json.loads(rest) for word, rest in instructions() if word == "ENTRYPOINT"]
        command = [sys.executable, self.packages / "bin" / entry[0], *entry[1:]]
        command += [str(self.flows) if each == "/flows" else each for each in words]
        command += ["--port", "0"] if words[0] == "serve" else []
        log = self.folder / f"{len(self.processes)}.log"
        known = {name: text for name, text in os.environ.items() if not name.startswith("IRONFLOW_")}
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=output, stderr=output, text=True,
                env=known | {"PYTHONPATH": str(self.packages)} | environment,
            )  # fmt: skip
        self.processes.append(process)
        said = re.compile(r" on (http://\S+)" if words[0] == "serve" else r"defined (here)")
        until(lambda: process.poll() is not None or said.search(log.read_text()) is not None)
        found = said.search(log.read_text())
        assert found is not None, log.read_text()
        return found[1].replace("0.0.0.0", "127.0.0.1")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    yield image
    for process in image.processes:
        process.kill()
        process.wait(LIMIT_S)


def test_the_image_installs_extras_that_exist() -> None:
    [installed] = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    extras = re.findall(r"/source\[([\w,]+)\]", installed)[0].split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"server", "postgres"} <= {*extras} <= {*known}
    assert COMPOSE["services"]["server"]["build"]["dockerfile"] == "deploy/Containerfile"
    assert (DEPLOY / COMPOSE["services"]["server"]["build"]["context"]).resolve() == ROOT


def test_the_command_of_the_image_serves_the_flows(image: Image) -> None:
    [words] = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    url = image.start(words, IRONFLOW_DB=str(image.folder / "one.db"))
    assert httpx.get(f"{url}/health").json()["status"] == "ok"
    key = re.findall(r"ifk_\S+", (image.folder / "0.log").read_text())[0]
    asked: dict[str, Any] = {"flow": "square", "input": {"n": 3}, "wait": True}
    found = httpx.post(f"{url}/runs", json=asked, headers={"Authorization": f"Bearer {key}"}, timeout=LIMIT_S)
    assert found.json()["result"] == 9


def test_the_server_and_the_worker_of_the_compose_file_work_together(image: Image) -> None:
    services = COMPOSE["services"]
    given = {
        "IRONFLOW_DB": str(image.folder / "two.db"), "PGPASSWORD": "p", "IRONFLOW_KEY": "k" * 32,
        "IRONFLOW_TOKEN": "t" * 32,
    }  # fmt: skip
    assert services["server"]["environment"].keys() == services["worker"]["environment"].keys() == given.keys()
    url = image.start(services["server"]["command"], **given)
    exposed = {rest for word, rest in instructions() if word == "EXPOSE"}
    assert services["server"]["ports"][0].rpartition(":")[2] in exposed
    image.start(services["worker"]["command"], **given)
    asked: dict[str, Any] = {"flow": "square", "input": {"n": 4}, "wait": True}
    found = httpx.post(f"{url}/runs", json=asked, headers={"Authorization": f"Bearer {'t' * 32}"}, timeout=LIMIT_S)
    assert (found.status_code, found.json()["result"]) == (200, 16)
    assert httpx.post(f"{url}/runs", json=asked).status_code == 401
