"""Runs that are begun over HTTP by many clients at once, each of which waits for the result; the floor is Starlette."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Final

from benchmarks.samples import Figures

N_CLIENTS: Final = 32
N_REQUESTS: Final = 3000
JOB: Final = """
from ironflow_nb import flow, step

@step
def square(n):
    return n * n

@flow
def trivial(n: int):
    return n

@flow
def stepped(n: int):
    return square(n)
"""
FLOOR: Final = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def run(request):
    if request.method == "GET":
        return JSONResponse({})
    asked = await request.json()
    return JSONResponse({"run_id": "7b7mk0c4d1zt", "status": "completed", "result": asked["input"]["n"]})

routes = [Route("/health", run), Route("/runs", run, methods=["POST"])]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[1]), log_level="error")
"""


def triggers(folder: Path) -> Figures:
    """Measure flows without and with a step, and beside them Starlette that answers the same."""
    (folder / "job.py").write_text(JOB)
    (folder / "floor.py").write_text(FLOOR)
    found: Figures = {}
    with listening(["floor.py"], folder) as port:
        found["request to Starlette"], _ = measured(port, "trivial")
    with listening(["-m", "ironflow_nb", "serve", "job.py", "--port"], folder) as port:
        for flow, name in (("trivial", "trigger"), ("stepped", "trigger of a step")):
            found[name], found[f"{name}, p99"] = measured(port, flow)
    return found


@contextmanager
def listening(command: list[str], folder: Path) -> Iterator[int]:
    """Begin a server, and give its port when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, *command, str(port)], cwd=folder, stderr=log)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                break
        else:
            raise RuntimeError(f"the server has ended: {(folder / 'server.log').read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait()


def measured(port: int, flow: str) -> tuple[float, float]:
    """Return the seconds from one answer to the next, and those within which 99 of 100 requests are answered."""
    asyncio.run(asked(port, flow, N_REQUESTS // 10))
    begun = time.perf_counter()
    times = asyncio.run(asked(port, flow, N_REQUESTS))
    return (time.perf_counter() - begun) / len(times), quantiles(times, n=100)[98]


async def asked(port: int, flow: str, n: int) -> list[float]:
    """Have clients ask that often altogether; return how long each answer took."""
    numbers, times = iter(range(n)), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps({"flow": flow, "input": {"n": number}, "wait": True}).encode()
            head = f"POST /runs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            begun = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            [size] = [line.split()[1] for line in answer.lower().splitlines() if line.startswith(b"content-length")]
            result = json.loads(await reader.readexactly(int(size)))
            times.append(time.perf_counter() - begun)
            if not answer.startswith(b"HTTP/1.1 200") or result["status"] != "completed":
                raise RuntimeError(f"{answer!r}: {result}")
        writer.close()

    await asyncio.gather(*(client() for _ in range(N_CLIENTS)))
    return times
