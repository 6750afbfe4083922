"""Run the first notebook for real: kill its kernel in the middle, go on in a new one, and prove what happened.

``python -m notebooks.demo`` leaves the executed notebook, its HTML and its journal in ``build/demo``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

import ironflow_nb as iron

HERE = Path(__file__).parent
NOTEBOOK = HERE / "01_first_flow.ipynb"
FOLDER = HERE.parent / "build" / "demo"
KILL_AFTER = 40
TIMEOUT_S = 300
QUIET = ["--log-level=ERROR"]


def main() -> int:
    """Return 0 if the survey survived the death of its kernel and no finished step ran again."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    say(f"executing {NOTEBOOK.name} in a kernel; it will be killed once {KILL_AFTER} steps are finished")
    begun = time.monotonic()
    execute(nbformat.read(NOTEBOOK, as_version=4), FOLDER, dies_when=lambda: len(finished_steps()) >= KILL_AFTER)
    finished, n_bodies = finished_steps(), len(bodies())
    say(f"kernel killed with SIGKILL after {time.monotonic() - begun:.1f} s: {len(finished)} steps were finished")
    with journal():
        say(f"the run is {iron.runs(limit=1)['status'][0]}; starting a new kernel and running all cells again")
    begun = time.monotonic()
    notebook = execute(nbformat.read(NOTEBOOK, as_version=4), FOLDER)
    say(f"completed after {time.monotonic() - begun:.1f} s in the second kernel")
    return report(notebook, finished, n_bodies)


def execute(
    notebook: nbformat.NotebookNode, folder: Path, *, dies_when: Callable[[], bool] | None = None
) -> nbformat.NotebookNode:
    """Execute the notebook in a fresh kernel in that folder; with `dies_when`, kill that kernel as soon as it is so."""
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, extra_arguments=QUIET, resources={"metadata": {"path": str(folder)}}
    )
    if dies_when is None:
        return client.execute()
    with client.setup_kernel():
        assert client.km is not None
        pid = client.km.provisioner.process.pid
        threading.Thread(target=kill_when, args=(pid, dies_when), daemon=True).start()
        try:
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
        except DeadKernelError:
            return notebook
    raise SystemExit("the kernel was not killed: the notebook ended too soon")


def kill_when(pid: int, is_so: Callable[[], bool]) -> None:
    """Kill the process as soon as it is so."""
    while not is_so():
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)


def journal() -> iron.Engine:
    """Return an engine that only looks at the journal of the demo."""
    return iron.open(FOLDER / ".ironflow" / "journal.db", read_only=True)


def finished_steps() -> list[str]:
    """Return the references of the finished steps."""
    with journal():
        return list(iron.steps(status="completed")["step"])


def body_of(run: iron.Run, step: str) -> str:
    """Return the line that the body of a finished step notes: its function, and the package that it is about."""
    function, value = step.partition("[")[0], run.value(step)
    return f"{function} {value['name']}" if isinstance(value, dict) else function


def bodies() -> list[str]:
    """Return what the bodies of the steps have noted."""
    return (FOLDER / "bodies.log").read_text().splitlines()


def report(notebook: nbformat.NotebookNode, finished: list[str], n_bodies: int) -> int:
    """Write what came of it, and return 0 if the run completed and no step that was finished ran again."""
    with journal():
        row = iron.runs(limit=1).iloc[0]
        run = iron.get_run(row["run_id"])
        kept = {body_of(run, step) for step in finished}
    first, second = bodies()[:n_bodies], bodies()[n_bodies:]
    say(f"{row['n_steps']} steps: {row['n_reused']} reused, {len(second)} bodies ran in the second kernel")
    say(f"{len(set(first) & set(second))} bodies ran in both: they were in flight when the kernel died")
    again = kept & set(second)
    if again or row["status"] != "completed" or row["n_reused"] != len(finished):
        say(f"FAILED: the run is {row['status']}; finished steps that ran again: {sorted(again)}")
        return 1
    say(f"proved by bodies.log and the journal: none of the {len(kept)} finished steps ran again")
    executed, page = FOLDER / NOTEBOOK.name, FOLDER / NOTEBOOK.with_suffix(".html").name
    nbformat.write(notebook, executed)
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0])
    say(f"the executed notebook: {executed.relative_to(HERE.parent)}")
    say(f"the same as a page:    {page.relative_to(HERE.parent)}")
    return 0


def say(line: str) -> None:
    """Print one line at once."""
    print(f"demo: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
