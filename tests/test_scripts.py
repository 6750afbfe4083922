"""Plain scripts: quiet, light, and continued like cells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ironflow_nb as iron

WORK = """
import sys
from pathlib import Path
from ironflow_nb import flow, step

@step
def work(n):
    with Path("bodies").open("a") as bodies:
        bodies.write(f"{n}\\n")
    return n

@step
def stop_here(how):
    if not Path("go on").exists():
        if how == "raise":
            raise RuntimeError("not yet")
        print("waiting", flush=True)
        sys.stdin.readline()

@flow
def main(how):
    total = sum(work(n) for n in range(3))
    stop_here(how)
    return total

print(main(sys.argv[1]))
"""
HEAVY = {
    "IPython", "anywidget", "graphviz", "ipywidgets", "jmespath", "numpy", "pandas", "platformdirs", "pyarrow",
    "pygraphviz", "sqlite_utils",
}  # fmt: skip
LIGHT = f"""
import sys
import ironflow_nb as iron

@iron.step
def work(n):
    return {{"n": [n, None, 1.5]}}

@iron.flow
def main():
    return [work(n) for n in range(3)]

main()
print(sorted({HEAVY!r} & set(sys.modules)))
"""


def python(source: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    (folder / "script.py").write_text(source)
    return subprocess.run(
        [sys.executable, "script.py", *arguments], cwd=folder, env=environment(), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def test_a_script_prints_what_it_prints_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "go on").touch()
    found = python(WORK, tmp_path, "fine")
    assert (found.stdout, found.stderr, found.returncode) == ("3\n", "", 0)


def test_a_failed_script_continues_where_it_failed(tmp_path: Path) -> None:
    failed = python(WORK, tmp_path, "raise")
    assert failed.returncode == 1
    assert "RuntimeError: not yet" in failed.stderr
    assert "3 finished steps are kept" in failed.stderr
    assert failed.stdout == ""
    (tmp_path / "go on").touch()
    assert python(WORK, tmp_path, "raise").stdout == "3\n"
    assert (tmp_path / "bodies").read_text() == "0\n1\n2\n"


RETRIES = """
import re
import ironflow_nb as iron
from pathlib import Path

@iron.step
def work(n):
    with Path("bodies").open("a") as bodies:
        bodies.write(f"{n}\\n")
    if n == 4 and Path("bodies").read_text().count("4") < 3:
        raise OSError("off")
    return n

@iron.flow
def main():
    return [work(n) for n in range(5)]

try:
    print(main())
except OSError as error:
    while True:
        try:
            print(eval(re.search(r"iron\\.resume\\(.+?\\)", error.__notes__[-1])[0]).result())
            break
        except OSError:
            pass
"""


def test_what_a_script_is_told_to_do_at_once_repeats_no_finished_step(tmp_path: Path) -> None:
    assert python(RETRIES, tmp_path).stdout == "[0, 1, 2, 3, 4]\n"
    assert (tmp_path / "bodies").read_text().split() == ["0", "1", "2", "3", "4", "4", "4"]


def test_at_a_prompt_of_python_a_run_is_continued_by_its_id(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-i", "-c", WORK.replace("sys.argv[1]", "'raise'")], cwd=tmp_path, env=environment(), input="",
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "mend what failed, then iron.resume(" in found.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_an_interrupted_script_names_its_run_in_one_line_and_continues(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WORK)
    with subprocess.Popen(
        [sys.executable, "script.py", "wait"], cwd=tmp_path, env=environment(), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("ironflow: ") and "interrupted" in line]
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        assert f"run {iron.runs()['run_id'][0]}" in line
    (tmp_path / "go on").touch()
    assert python(WORK, tmp_path, "wait").stdout == "3\n"
    assert (tmp_path / "bodies").read_text() == "0\n1\n2\n"


def test_a_script_that_ends_before_its_background_run_says_so(tmp_path: Path) -> None:
    held = WORK.replace("sys.stdin.readline()", "__import__('threading').Event().wait()")  # stdin is for one to read
    ended = held.replace("print(main(sys.argv[1]))", "main.start(sys.argv[1])\nsys.stdin.readline()")
    (tmp_path / "script.py").write_text(ended)
    with subprocess.Popen(
        [sys.executable, "script.py", "wait"], cwd=tmp_path, env=environment(), text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        _, errors = process.communicate("end\n", timeout=30)
    assert process.returncode == 0
    assert [line for line in errors.splitlines() if line.startswith("ironflow: run ")] == errors.splitlines()
    assert len(errors.splitlines()) == 1
    (tmp_path / "go on").touch()
    assert python(WORK, tmp_path, "wait").stdout == "3\n"
    assert (tmp_path / "bodies").read_text() == "0\n1\n2\n"


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    found = python(LIGHT, tmp_path)
    assert found.stdout == "[]\n", found.stderr
