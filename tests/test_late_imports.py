"""What is imported where it is used, with the reason: a start waits for nothing that it does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.test_architecture import NAME, found, known, modules, nodes

HEAVY: Final = {
    "IPython": "only a shell has it",
    "anyio": "an extra, and it needs asyncio",
    "asyncio": "40 ms that def flows save",
    "boto3": "an extra, and half a second",
    "bs4": "an extra",
    "botocore": "an extra, and half a second",
    "cloudpickle": "25 ms that plain values do not need",
    "cronsim": "an extra",
    "docx": "an extra",
    "fsspec": "an extra",
    "concurrent": "it comes with asyncio",
    "graphviz": "30 ms, and only a drawing needs it",
    "httpcore": "only a node that asks needs it",
    "httpx": "only a node that asks needs it",
    "httpx2": "an extra",
    "idna": "few hosts need it",
    "jmespath": "few lanes have a key of that kind",
    "jsonschema_rs": "only graphs and answers need it",
    "lupa": "an extra, and only the process of Lua has it",
    "keyring": "few use it, and it is no dependency",
    "markdown_it": "an extra",
    "markdownify": "an extra",
    "mcp": "an extra, and half a second",
    "nh3": "an extra",
    "openpyxl": "an extra",
    "pypdf": "an extra",
    "pysubs2": "an extra",
    "soupsieve": "an extra",
    "sqlalchemy": "an extra",
    "xmltodict": "an extra",
    "numpy": "only its own values need it, and have imported it",
    "opentelemetry": "an extra, and nothing of it is imported while nothing is traced",
    "pandas": "half a second; its own values have imported it",
    "pickle": "plain values do not need it",
    "pickletools": "few secrets are numbers, or may be in a path",
    "prometheus_client": "an extra",
    "pyarrow": "only frames need it",
    "ray": "an extra, and seconds",
    "pygraphviz": "it is absent where it has no wheel",
    "starlette": "an extra",
    "uvicorn": "an extra",
    "regex": "only patterns of graphs need it",
    "ruamel": "only graphs that are texts need it",
    "zoneinfo": "4 ms, and few values have a zone",
}
OF_GRAPHS: Final = {"jinja2"}
"""Imported at the top of modules that only graphs need."""

LATE: Final = HEAVY | {
    "ctypes": "only Windows is asked by it",
    "difflib": "only an edit needs it",
    "dis": "only pickles of older releases need it",
    "fcntl": "Windows has no such module",
    "getpass": "only an answer needs it",
    "importlib.metadata": "20 ms, and it reads the folders of all packages",
    "ipaddress": "few hosts need it",
    "logging": "6 ms, and there is seldom something to log",
    "multiprocessing": "only a worker has a parent, which has imported it",
    "matplotlib": "few ask for its axes, and it is no dependency",
    "msgspec.inspect": "only an answer needs it",
    "platformdirs": "only pickles need the key",
    "lua_source": "the process of Lua finds it in its own folder",
    "resource": "Windows has no such module",
    "ssl": "only a node that asks over TLS needs it",
    "subprocess": "only macOS has to ask another program for its boot",
    "sysconfig": "the code of a step is not read before the first one has run",
    "tempfile": "only the doctor needs it",
    "urllib.parse": "few journals have a place for values, and it is 2 ms",
    "uuid": "few need it",
}
LATE_OF_OURS: Final = {
    "ironflow_nb.core.schedule_rules": "few flows are scheduled",
    "ironflow_nb.dynamodb.dynamo_journal": "it needs an extra",
    "ironflow_nb.deciders.instance_moments": "only a slider needs it",
    "ironflow_nb.deciders.state_diagram": "only a diagram needs it",
    "ironflow_nb.diagnosis.doctor_report": "only the doctor needs it, and it needs pandas",
    "ironflow_nb.diagram": "a run leaves its diagram behind without drawing it",
    "ironflow_nb.errors": "the root imports what is asked for",
    "ironflow_nb.execution": "every run of pytest loads the plugin, also in projects that do not use it",
    "ironflow_nb.telemetry.run_telemetry": "most runs report nothing",
    "ironflow_nb.execution.steps.breaker_gate": "few steps have a breaker",
    "ironflow_nb.execution.steps.event_loop": "it needs asyncio",
    "ironflow_nb.execution.steps.prompts": "only a wait for somebody asks",
    "ironflow_nb.execution.steps.remote_body": "only steps with an executor need it",
    "ironflow_nb.flows.flow_definition": "a flow is not drawn before the first step has run",
    "ironflow_nb.graphs": "most notebooks have no graphs, and most graphs need few of their libraries",
    "ironflow_nb.handles": "a flow that is called needs no handle, plan or picture",
    "ironflow_nb.history": "a flow that is called reads no history",
    "ironflow_nb.history.history_frame": "it needs pandas",
    "ironflow_nb.history.pictured_frame": "it needs pandas",
    "ironflow_nb.history.run_log": "it needs pandas",
    "ironflow_nb.journal.migrations": "60 ms that only old journals cost",
    "ironflow_nb.journal.postgres_journal": "it needs an extra",
    "ironflow_nb.journal.sqlite_journal": "a process needs one kind of journal",
    "ironflow_nb.journal.sqlite_memory": "a process needs one kind of journal",
    "ironflow_nb.notebook.graph_magic": "only the worker of a notebook needs a shell",
    "ironflow_nb.notebook.headless_shell": "only the worker of a notebook needs a shell",
    "ironflow_nb.notebook.unfinished_card": "only the worker of a notebook needs a shell",
    "ironflow_nb.notebook.card_widget": "it needs anywidget",
    "ironflow_nb.notebook.dashboard_card": "few notebooks show one",
    "ironflow_nb.notebook.decider_card": "few notebooks show one",
    "ironflow_nb.notebook.slider_card": "few notebooks show one",
    "ironflow_nb.notebook.live_pictures": "most notebooks show no decider",
    "ironflow_nb.notebook.inbox_card": "only a front end with widgets shows one",
    "ironflow_nb.notebook.journal_card": "only a front end with widgets shows one",
    "ironflow_nb.notebook.run_card": "only a front end with widgets shows one",
    "ironflow_nb.retention.verification": "it needs pandas",
    "ironflow_nb.views": "a run is seldom looked at while it is called",
    "ironflow_nb.queues": "each kind of queue needs an extra",
    "ironflow_nb.server": "only one command needs it, and it needs asyncio",
    "ironflow_nb.testing.clock": "every run of pytest loads the plugin, also in projects that do not use it",
    "ironflow_nb.code_identity.referenced_values": "only an edit needs it",
    "ironflow_nb.code_identity.source": "the code of a step is not read before the first one has run",
    "ironflow_nb.code_identity.definitions": "the code of a step is not read before the first one has run",
    "ironflow_nb.code_identity.dependency_walk": "the code of a step is not read before the first one has run",
    "ironflow_nb.triggers": "most flows are started by their callers",
    "ironflow_nb.value_store": "most journals have their values beside them",
    "ironflow_nb.values.arrays": "it needs numpy and pandas",
    "ironflow_nb.values.arrow": "it needs pyarrow",
}
REASONS: Final = LATE | LATE_OF_OURS

A_STEP = """
import sys
from ironflow_nb import flow, step, use
use("journal.db")
work = step(lambda n: n + 1, name="work")
main = flow(lambda: [work(n) for n in range(3)], name="main")
assert main() == [1, 2, 3] == main.options(fresh=True)()
print(sorted(name for name in sys.argv[1:] if name in sys.modules))
"""

COMMANDS = """
import sys
import ironflow_nb.cli.command_line
print(sorted(name for name in sys.argv[1:] if name in sys.modules))
"""


def late(path: Path) -> Iterator[str]:
    """Yield the modules that functions of the file import."""
    functions = (node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            of_ours = [name for name in whole if name.removeprefix(f"{NAME}.") in known()]
            yield from of_ours or [node.module]


def reason_of(module: str) -> str | None:
    """Return the row that the module or a package around it has."""
    parts = module.split(".")
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in REASONS), None)


def test_what_a_function_imports_has_its_reason() -> None:
    to_import_at_the_top = found(lambda path: {name for name in late(path) if reason_of(name) is None}, modules())
    assert to_import_at_the_top == {}


def test_each_reason_is_needed() -> None:
    assert REASONS.keys() == {reason_of(module) for path in modules() for module in late(path)}


def test_a_durable_step_waits_for_no_heavy_module(tmp_path: Path) -> None:
    command = [sys.executable, "-c", A_STEP, *HEAVY, *OF_GRAPHS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_waits_for_no_frame(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMANDS, "asyncio", "numpy", "pandas", "pyarrow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


N_MODULES: Final = 114
"""As many of ours as the decorators may import; each is half a millisecond of every start."""


def test_the_decorators_import_few_modules(tmp_path: Path) -> None:
    program = "import sys; from ironflow_nb import flow, step; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith(f"{NAME}.")]
    assert len(ours) <= N_MODULES, ours
    assert not HEAVY.keys() & set(done.stdout.split())
