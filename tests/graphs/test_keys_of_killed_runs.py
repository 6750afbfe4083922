"""What ``uuid()`` and ``now()`` gave a node that its process was killed in is the same when another continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.graphs.servers import Handler, Server, replying, serving

pytestmark = pytest.mark.crash

PROGRAM = """
import os, sys, ironflow_nb as iron
iron.use(sys.argv[1])
os.environ["TOKEN"] = "a secret token"
graph = iron.Graph.from_yaml(sys.argv[2])
if sys.argv[3] == "begin":
    graph(url=sys.argv[4], pid=os.getpid())
else:
    graph.resume().result()
"""


def pay(key: str = "{{ uuid() }}", **more: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key, "X-At": "{{ now() }}", "X-Pid": "{{ input.pid }}"}
    return {"id": "pay", "http": {"method": "POST", "url": "{{ input.url }}", "headers": headers}, **more}


def beside(name: str) -> dict[str, Any]:
    return {"id": name, "depends_on": [], "log": name}


GRAPHS: dict[str, list[dict[str, Any]]] = {
    "alone": [pay()],
    "after another": [{"id": "first", "log": "x"}, pay()],
    "beside others": [pay(), beside("other"), beside("third")],
    "with a timeout": [pay(timeout_s=60)],
    "with a retry": [pay(retry={"attempts": 3, "delay_s": 0.01})],
    "with a secret": [pay("{{ uuid() }}{{ secrets.token }}")],
    "in a condition": [{"id": "c", "condition": True, "then": [pay()]}],
    "in a branch": [{"id": "b", "branch": {"one": {"do": [pay()]}, "two": {"do": [beside("other")]}}}],
    "in a loop": [{"id": "l", "loop": [1, 2, 3], "concurrency": 3, "do": [pay()]}],
    "of a node before": [{"id": "key", "transform": "{{ uuid() }}"}, pay("{{ key }}")],
}


def killing(handler: Handler) -> None:
    os.kill(int(handler.headers["X-Pid"]), signal.SIGKILL)


def run(journal: Path, graph: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(journal), str(graph), *more],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_request_is_sent_again_with_the_key_that_it_had(name: str, tmp_path: Path) -> None:
    head = {"graph": "pays", "allow": {"http": True, "env": ["TOKEN"]}, "secrets": {"token": {"env": "TOKEN"}}}
    (tmp_path / "g.yaml").write_text(json.dumps(head | {"nodes": GRAPHS[name]}))
    with serving() as server:
        server.answers("/pay", killing)
        died = run(tmp_path / "j.db", tmp_path / "g.yaml", "begin", server.url("/pay"))
        assert died.returncode == -signal.SIGKILL, died.stderr
        before = keys(server)
        assert before
        server.answers("/pay", replying(200, {"ok": True}))
        ended = run(tmp_path / "j.db", tmp_path / "g.yaml", "go on")
        assert ended.returncode == 0, ended.stderr
        again = keys(server)[len(before) :]
    assert set(before) <= set(again)
    assert len(set(again)) == (3 if name == "in a loop" else 1)


def keys(server: Server) -> list[tuple[str, str]]:
    return [(each.headers["idempotency-key"], each.headers["x-at"]) for each in server.seen]
