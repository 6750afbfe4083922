"""Execute the notebooks and store them with their outputs, so that a code host shows them.

``python -m notebooks.renew`` leaves out what would be of the machine: versions, times of cells, absolute paths.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TIMEOUT_S = 300
OF_A_MACHINE = re.compile(r"(?<![\w.:/])(?:/(?:home|Users|root|tmp|private|var|opt|usr|mnt)\b|[A-Z]:\\+\w)[^\s\"'<]*")


def main() -> int:
    """Return 0 if each notebook was executed and stored; one that names a path of this machine stays as it was."""
    troubles = []
    for path in sorted(HERE.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(nbformat.read(path, as_version=4), Path(folder))
        found = OF_A_MACHINE.findall(nbformat.writes(notebook))
        if found:
            troubles.append(f"{path.name} is not renewed: paths of this machine are in it: {', '.join(found)}")
        else:
            nbformat.write(notebook, path)
            print(f"renewed {path.name}", flush=True)
    print(*troubles, sep="\n", end="", file=sys.stderr)
    return 1 if troubles else 0


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook as a new kernel in that folder leaves it, without what says where and when."""
    NotebookClient(
        notebook, timeout=TIMEOUT_S, record_timing=False, coalesce_streams=True, extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()  # fmt: skip
    notebook.metadata["language_info"] = {"name": "python"}
    for output in (each for cell in notebook.cells for each in cell.get("outputs", ())):
        if "image/svg+xml" in output.get("data", {}):  # a code host would take the HTML, and the picture out of it
            output.data.pop("text/html", None)
    return notebook


if __name__ == "__main__":
    sys.exit(main())
