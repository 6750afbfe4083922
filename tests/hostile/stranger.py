"""Somebody else, in a process of his own: leaves a journal that would do things where it is opened.

``python -m tests.hostile.stranger FOLDER``, with a key of his own. Whatever acts writes ``FOLDER/canary``.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, ValueRecord, ValueReference, encode_record, value_id

COLUMNS = "value_id, codec, data, size, type, mac"
KEY = "the key of somebody else"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"

EVIL = """
with open("canary", "a") as file:
    file.write("import\\n")

def work():
    return 1
"""

GRAPH = """
graph: backup
allow: true
nodes:
  - {id: here, python: evil_module.work}
  - {id: there, shell: {command: [sh, -c, "echo shell >> canary; exit 1"]}}
"""

FLOWS = """
import ironflow_nb as iron
from dataclasses import dataclass
%load_ext ironflow_nb

def note(what):
    with open("canary", "a") as file:
        file.write(what + "\\n")

@iron.step
def publish(command):
    note("step")
    raise ValueError("MARKUP")

@iron.flow
def deploy(command):
    return publish(command)
"""

DECIDER = """
@dataclass(frozen=True)
class Order:
    status: str = "new"

@dataclass(frozen=True)
class Place:
    id: str

@dataclass(frozen=True)
class Placed:
    id: str

@dataclass(frozen=True)
class Charge:
    id: str

orders = iron.Decider("orders", initial=Order(), id_of=lambda command: command.id)

@orders.evolve
def evolve(state: Order, event: Placed) -> Order:
    return Order("placed")

@orders.decide
def decide(state: Order, command: Place, at):
    if command.id.endswith("again"):
        return iron.accept(Placed(command.id))
    return iron.accept(Placed(command.id)).effect(Charge(command.id)).timer(0, Place(command.id + "again"), key="k")

@orders.perform(Charge)
def charge(effect: Charge) -> None:
    note("effect")
"""

CELL = """%%step load
data = [1, 2, 3]
"""

CELLS = [
    FLOWS.replace("MARKUP", MARKUP),
    DECIDER,
    "iron.Graph.from_yaml('''" + GRAPH + "''')()",
    "deploy('rm -rf /')",
    "orders.send(Place('7'))",
    CELL,
]


def visit(folder: Path) -> None:
    """Let somebody else work in the folder, and leave."""
    (folder / "evil_module.py").write_text(EVIL)
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {
        "IRONFLOW_KEY": KEY,
        "PYTHONPATH": f"{root}{os.pathsep}{folder}",
        "IPYTHONDIR": str(folder),
    }
    command = [sys.executable, "-m", "tests.hostile.stranger", str(folder)]
    subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert set((folder / "canary").read_text().split()) == {"import", "shell", "step"}
    (folder / "canary").unlink()


def forge(journal: Path) -> None:
    """Let the record of the cell say that it has imported, rebound and shown what it has not."""
    signer = Signer(bytes)
    outputs = [{"output_type": "display_data", "data": {"text/html": MARKUP, "application/javascript": "alert(1)"}}]
    content = msgspec.json.encode(outputs)
    shown = StoredValue(value_id("json", content), "json", content, len(content), "list")
    record = ValueRecord(
        {"<shown>": ValueReference(shown.value_id.hex())}, {"modules": {"print": "evil_module"}, "gone": ["len"]}
    )
    made = encode_record(record, {}, signer)
    with closing(sqlite3.connect(journal)) as connection, connection:
        for value in (shown, made):
            row = (value.value_id, value.codec, value.content, value.size, value.type_name, value.mac)
            connection.execute(f'INSERT INTO "values" ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)', row)
        connection.execute("UPDATE steps SET output_id = ? WHERE name = 'load'", (made.value_id,))


if __name__ == "__main__":
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    for cell in CELLS:
        shell.run_cell(cell, store_history=True)
    forge(Path(".ironflow/journal.db"))
