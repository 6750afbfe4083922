"""Runs and flows show themselves, and never raise over it, whatever became of the journal."""

from __future__ import annotations

import shutil
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab

SVG = "{http://www.w3.org/2000/svg}"


@step
def fetch(n: int) -> int:
    return n


@step
def fail(n: int) -> int:
    raise ValueError(n)


@flow
def survey(n: int) -> int:
    found = list(fetch.map(range(n)))
    if n > 3:
        return fail(n)
    return len(found)


def bundle(shown: object) -> dict[str, str]:
    made: dict[str, str] = shown._repr_mimebundle_()  # type: ignore[attr-defined]
    return made


def picture(shown: object) -> ET.Element:
    return ET.fromstring(bundle(shown)["image/svg+xml"])


def test_the_repr_of_a_run_names_it_and_its_state(lab: Lab) -> None:
    survey(3)
    run = survey.last
    assert run is not None
    assert repr(run) == f"<run {run.id} of {survey.name}: completed, durability=process>"


def test_the_bundle_of_a_run_is_a_picture_and_a_text_that_stay_the_same(lab: Lab) -> None:
    survey(3)
    run = survey.last
    assert run is not None
    assert bundle(run) == bundle(iron.get_run(run.id))
    assert bundle(run).keys() == {"text/plain", "text/html", "image/svg+xml"}
    root = picture(run)
    assert root.tag == f"{SVG}svg"
    words = " ".join(root.itertext())
    assert "fetch" in words
    assert "3 of 3" in words
    assert f"{survey.name}: completed" in bundle(run)["text/plain"]
    assert "0x" not in bundle(run)["text/plain"]


def test_the_bundle_of_a_failed_run_tells_which_step_failed(lab: Lab) -> None:
    with pytest.raises(ValueError, match="4"):
        survey(4)
    text = bundle(survey.last)["text/plain"]
    assert "failed" in next(line for line in text.splitlines() if "fail" in line and "fetch" not in line)
    assert "fail" in " ".join(picture(survey.last).itertext())


def test_pictures_of_several_runs_share_no_ids(lab: Lab) -> None:
    runs = [survey.start(n).wait() for n in (2, 3)]
    ids = [{element.get("id") for element in picture(run).iter()} - {None} for run in runs]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_flow_shows_its_shape_before_any_run(lab: Lab) -> None:
    assert repr(survey).startswith(f"flow {survey.name}(n: ")
    assert bundle(survey) == bundle(survey)
    words = " ".join(picture(survey).itertext())
    assert {"fetch", "fail"} <= set(words.replace("(", " ").replace(":", " ").split())
    assert iron.runs().empty


def stop_looking(lab: Lab) -> None:
    """Have the background thread end. It looks at the journal; a file that it has open can't be made another one."""
    lab.engine._background.stop()


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ruin", ["deleted", "noise", "emptied", "another database", "a folder", "strange rows"])
def test_a_repr_says_what_became_of_the_journal(lab: Lab, tmp_path: Path, ruin: str) -> None:
    survey(3)
    run = survey.last
    assert run is not None
    stop_looking(lab)
    with lab.engine.access.lock:
        lab.engine.journal.close()
        RUINS[ruin](tmp_path / "journal.db")
    text = repr(run)
    assert text.startswith(f"<run {run.id}")
    assert bundle(run)["text/plain"].startswith(f"run {run.id}: ")
    assert bundle(survey)["text/plain"]
    lab.engine.access.close("its journal is ruined", abandon=True)
    what = "green" if ruin == "strange rows" else "journal.db"
    assert what in text
    assert what in bundle(run)["text/plain"]


def _delete(path: Path) -> None:
    for file in path.parent.glob("journal.db*"):
        file.unlink()


def _noise(path: Path) -> None:
    _delete(path)
    path.write_bytes(b"noise " * 1000)


def _empty(path: Path) -> None:
    _delete(path)
    path.touch()


def _other(path: Path) -> None:
    _delete(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE birds (name)")
    connection.close()


def _folder(path: Path) -> None:
    _delete(path)
    path.mkdir()


def _strange(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'green'")
    connection.close()


RUINS: dict[str, Callable[[Path], None]] = {
    "deleted": _delete,
    "noise": _noise,
    "emptied": _empty,
    "another database": _other,
    "a folder": _folder,
    "strange rows": _strange,
}


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_repr_survives_the_loss_of_the_whole_folder(lab: Lab, tmp_path: Path) -> None:
    survey(2)
    run = survey.last
    stop_looking(lab)
    with lab.engine.access.lock:
        lab.engine.journal.close()
        shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert "there is no run" in repr(run)
    assert "there is no run" in bundle(run)["text/plain"]
    assert list(tmp_path.iterdir()) == []
