"""The modules of the cards: their types, and how they are sent to a widget, which takes one module."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ironflow_nb.notebook.static_modules import module_text
from tests.browser.frontend_tools import FOLDER, installed

pytestmark = pytest.mark.browser


def test_the_modules_have_the_types_that_they_say() -> None:
    compiler = installed("typescript") / "bin" / "tsc"
    checked = subprocess.run(
        [str(shutil.which("node")), str(compiler), "--project", str(FOLDER)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", ["run_card.js", "journal_card.js", "dashboard.js", "slider.js", "decider_card.js"])
def test_a_widget_is_sent_one_module_without_imports(name: str, tmp_path: Path) -> None:
    text = module_text(name)
    assert not re.search(r"^import ", text, re.MULTILINE)
    assert re.findall(r"^export .*", text, re.MULTILINE) == ["export default { initialize, render };"]
    (tmp_path / "module.mjs").write_text(text)
    node = shutil.which("node")
    if node is not None:
        subprocess.run([node, "--check", tmp_path / "module.mjs"], check=True, timeout=60)
